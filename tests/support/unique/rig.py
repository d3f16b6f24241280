"""Users with unique addresses on real servers: processes that register, and who looks at both databases from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from docferry.flows.ledger.modes import read_mode
from docferry.rehearsal.independent.history import Replayed, read_history
from docferry.rehearsal.processes import Answers

from support.backfill.rig import Rig, eventually, rig_of
from support.place import ROOT

SCRIPT = Path(__file__).with_name("registering.py")
MAIL_INDEX: Mapping[str, Any] = {"unique": True, "name": "email_1", "partialFilterExpression": {"email": {"$gt": ""}}}


def unique_rig(env: Mapping[str, str], directory: Path, database: str) -> Rig:
    """A collection with a unique name, which is the key, and a unique address, which is kept by guards."""
    item = {"entity": "USER_PROFILE", "key": {"PK": "USER#{username}", "SK": "PROFILE"}}
    unique = {"_id_": ["_id"], "email_1": {"key": ["email"], "partial": {"email": {"$gt": ""}}}}
    tree = {
        "migration": "unique",
        "tables": {f"Unique{os.urandom(4).hex()}": {}},
        "collections": {"users": {"item": item, "unique": unique}},
        "validate": {"settle_s": 0.5},
    }
    rig = rig_of(env, directory, tree, database)
    rig.database.create_collection("users", changeStreamPreAndPostImages={"enabled": True})
    rig.database["users"].create_index("username", unique=True)
    rig.database["users"].create_index("email", **MAIL_INDEX)
    return rig


def held_in_dynamodb(rig: Rig) -> tuple[dict[str, str], dict[str, str]]:
    """(address by document, document by address as guards say), by a plain scan: ids as they are stored."""
    roots: dict[str, str] = {}
    guards: dict[str, str] = {}
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=rig.table, ConsistentRead=True)
    for item in (item for page in pages for item in page["Items"] if "_deleted" not in item):
        if item["entityType"]["S"] == "USER_PROFILE":
            roots[item["_id"]["S"]] = item["email"]["S"]
        elif item["entityType"]["S"] == "UNIQUE#users.email_1":
            guards[item["PK"]["S"].removeprefix("UNIQUE#users.email_1#")] = item["_id"]["S"]
    return roots, guards


def require_unique(rig: Rig) -> dict[str, str]:
    """Where nothing moves: each address is one document's, and guards say exactly that. Returns address by document."""
    roots, guards = held_in_dynamodb(rig)
    assert max(Counter(roots.values()).values(), default=0) <= 1, Counter(roots.values()).most_common(3)
    assert guards == {mail: owner for owner, mail in roots.items()}
    return roots


class Registering:
    """Processes in which people contend for `pool` addresses, for as long as the block lasts; one that is killed is replaced."""

    def __init__(self, rig: Rig, env: Mapping[str, str], directory: Path, processes: int, pool: int = 50) -> None:
        self.histories: list[Path] = []
        self._rig, self._directory, self._pool = rig, directory, pool
        self._people = 2 * pool // processes
        self._env = {**os.environ, **env, "PYTHONPATH": str(ROOT / "include")}
        self._running: dict[subprocess.Popen[bytes], Answers] = {}
        for _ in range(processes):
            self._start()

    def _start(self) -> None:
        number = len(self.histories)
        history = self._directory / f"registering-{number}.jsonl"
        self.histories.append(history)
        words = [self._rig.file, history, number, self._people, self._pool]
        with (self._directory / f"registering-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *map(str, words)], env=self._env, stdout=log, stderr=log
            )
        self._running[process] = Answers(history)

    def more(self, requests: int = 40) -> None:
        """Until each process has had so many more answered."""
        wanted = {process: answers.count() + requests for process, answers in self._running.items()}

        def enough() -> bool:
            ended = [process.args for process in self._running if process.poll() is not None]
            assert not ended, f"{ended} have ended: see their logs in {self._directory}"
            return all(self._running[process].count() >= count for process, count in wanted.items())

        eventually(enough, f"{requests} more requests of each process", every_s=0.1)

    def kill(self) -> None:
        """One of them dies in the midst of a request, and another comes in its place."""
        process = next(iter(self._running))
        del self._running[process]
        process.kill()
        process.wait()
        self._start()

    def __enter__(self) -> Registering:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(timeout=60)
            finally:
                process.kill()

    def replayed(self) -> Replayed:
        """What all of them were told, by the drill's judge."""
        return Replayed([read_history(path) for path in self.histories])


class LookingAtUsers:
    """Looks at the users in DynamoDB all the time, while DynamoDB leads: `found` are addresses that two have in one snapshot."""

    def __init__(self, rig: Rig) -> None:
        self.found: list[str] = []
        self.looks = 0
        self._rig, self._stop = rig, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            if read_mode(self._rig.ledger).mode.dynamodb_leads:
                self._look()

    def _look(self) -> None:
        by_mail: dict[str, list[Any]] = defaultdict(list)
        for item in self._rig.scan().values():
            if item["entityType"]["S"] == "USER_PROFILE" and "_deleted" not in item and "email" in item:
                by_mail[item["email"]["S"]].append({name: item[name] for name in ("PK", "SK")})
        self.looks += 1
        for mail, keys in by_mail.items():
            if len(keys) > 1 and self._have_it_at_once(mail, keys) and read_mode(self._rig.ledger).mode.dynamodb_leads:
                self.found.append(f"{mail}: {keys}")

    def _have_it_at_once(self, mail: str, keys: Sequence[Any]) -> bool:
        """A scan is no snapshot: it may have seen one before the address has passed on, and one after."""
        asked = [{"Get": {"TableName": self._rig.table, "Key": key}} for key in keys]
        found = self._rig.dynamodb.transact_get_items(TransactItems=asked)["Responses"]
        return len([one for one in found if one.get("Item", {}).get("email") == {"S": mail}]) > 1

    def __enter__(self) -> LookingAtUsers:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(60)
