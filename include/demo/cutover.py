"""The demo's second half: the application takes up docferry's client, moves to DynamoDB, goes back once, and moves for good."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import bson
from bson import json_util
from docferry.config import Migration
from docferry.flows.ledger.dead_letters import letter_document, list_letters, read_letter
from docferry.ports.flows import Ledger
from docferry.rehearsal.application import COUNTERS, make_counters
from docferry.rehearsal.independent.aftermath import compare_guards, compare_indexes, compare_with_dynamodb
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, read_history
from docferry.rehearsal.independent.judge import scan_table
from docferry.rehearsal.processes import Application
from docferry.sandbox.processes import wait_until
from pymongo import MongoClient

from demo.playbook import Phases, Playbook
from demo.report import Moved, RampStep
from demo.teller import Teller

PROCESSES = 4
RATE = 5.0
"""Requests/s of each process; eight of ten are writes."""
MORE = 10
"""Requests that each process must have had answered before the next step."""
SETTLE_S = 120.0
SET_ASIDE = "set-aside.jsonl"
RAMP = (1, 10, 50, 100)
EXACTLY = json_util.CANONICAL_JSON_OPTIONS
REHEARSAL = {"soak_minutes": 0.02, "reads": 0, "slower": 0}


def set_aside(uri: str, migration: Migration, ledger: Ledger, directory: Path) -> int:
    """Take what DynamoDB cannot hold out of MongoDB, into a file, and wait until its dead letters are closed; how many.

    As a team must, one way or another, before DynamoDB can serve: DynamoDB does not hold these documents.
    """
    number = 0
    with MongoClient[dict[str, Any]](uri) as client, (directory / SET_ASIDE).open("w") as file:
        for name in migration.mappings:
            for document in _dead(ledger, name):
                file.write(json_util.dumps({"collection": name, "document": document}, json_options=EXACTLY) + "\n")
                number += client[migration.source.database][name].delete_one({"_id": document["_id"]}).deleted_count
    wait_until(
        lambda: not any(list_letters(ledger, name) for name in migration.mappings),
        timeout_s=SETTLE_S,
        what="the dead letters to be closed by the deletes",
        every_s=1.0,
    )
    return number


def _dead(ledger: Ledger, collection: str) -> Iterator[dict[str, Any]]:
    """The documents of a collection's dead letters, as the ledger keeps them."""
    for letter in list_letters(ledger, collection):
        record = read_letter(ledger, collection, letter.id)
        if record is not None:
            yield bson.decode(letter_document(ledger, record))


class DemoCutover:
    """The application's way, beside a run of the playbook that stays where it waits for the application."""

    def __init__(
        self, teller: Teller, phases: Phases, playbook: Playbook, application: Application, migration: Migration
    ) -> None:
        self._teller, self._phases, self._playbook = teller, phases, playbook
        self._application, self._migration = application, migration
        self._began = 0.0
        self._uri = ""
        self._seen = HistoryVerdict()
        self.moved = Moved(processes=PROCESSES)

    def start(self, uri: str) -> None:
        """The application runs with docferry's client from now on. `uri` is docferry's."""
        self._uri = uri
        with MongoClient[dict[str, Any]](uri) as client:
            make_counters(client[self._migration.source.database]["users"])
        self._application.start(PROCESSES)
        self._teller.say(f"the application runs with docferry.connect, in {PROCESSES} processes of its own")
        self._phases.meanwhile = self._told
        self._await_more()
        self._playbook.go_on()

    def to_dynamodb(self) -> None:
        """As the playbook has it."""
        self._playbook.stay_at("stop_mongo_writes")
        self._note_switch(self._playbook.child_of("stop_mongo_writes"))
        flipped = self._playbook.child_of("flip_reads")
        for percent in RAMP:
            self.moved.ramp.append(
                RampStep.of(percent, self._phases.result("flip_reads", flipped, f"flip_to_{percent}"))
            )
        self._await_more()

    def there_and_back(self) -> None:
        """The rollback is rehearsed before the playbook goes on: MongoDB leads again, and then DynamoDB again."""
        self._phases.run("validate")
        began = time.monotonic()
        run_id = self._phases.run("rollback", {"to": "DUAL_WRITE"})
        self.moved.rollback_s = time.monotonic() - began
        self._note(self._phases.result("rollback", run_id, "give_mongodb_the_lead"))
        self._build_unique_indexes()
        self._await_more()
        self._phases.run("validate")
        self._phases.run("flip_reads", REHEARSAL)
        self._note_switch(self._phases.run("stop_mongo_writes"))
        self._await_more()

    def finish(self) -> None:
        """For good; then every history is replayed against DynamoDB, by code that shares none with docferry."""
        self._playbook.go_on()
        self._playbook.await_task("finalize")
        self._await_more()
        histories = [read_history(path) for path in self._application.end()]
        self._phases.meanwhile = lambda: ""
        replayed = Replayed(histories, dict.fromkeys(COUNTERS, 0))
        client = boto3.Session(region_name=self._migration.target.region).client("dynamodb")
        table, verdict = self._migration.mappings["users"].table, replayed.verdict
        compare_with_dynamodb(replayed, client, table)
        compare_guards(verdict, scan_table(client, table))
        verdict.resurrected += self._seen.resurrected
        self.moved.judge(verdict)

    def _build_unique_indexes(self) -> None:
        """MongoDB builds the shop's unique indexes once more, on what came back to it."""
        with MongoClient[dict[str, Any]](self._uri) as client:
            compare_indexes(self._seen, client[self._migration.source.database])

    def _await_more(self) -> None:
        self._application.await_more(MORE, meanwhile=self._phases.clerk.look)

    def _told(self) -> str:
        self._application.require_alive()
        return f"; the application: {self._application.requests():,} requests answered"

    def _note_switch(self, run_id: str) -> None:
        self._note(self._phases.result("stop_mongo_writes", run_id, "switch_to_dynamodb_only"))

    def _note(self, switch: Mapping[str, Any]) -> None:
        self.moved.holds_s.append(float(switch["held_s"]))
        self._teller.say(f"{switch['before']} -> {switch['after']}: writes waited {switch['held_s']:.2f} s at most")
