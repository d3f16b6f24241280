"""The rehearsal: a live application goes to DynamoDB, back, and there again, on a throw-away stack, by the commands of the night.

Everything is real but AWS: a MongoDB, an AWS emulator, the application's processes with docferry's client, and `docferry`
commands, each a process of its own, as typed by hand. One process of the application is killed on the way. At the end
every history is replayed against each database by a judge that shares no code with docferry.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from pymongo import MongoClient

from docferry.config import Migration, load_migration
from docferry.errors import DrillFailed, TimedOut
from docferry.rehearsal.application import COUNTERS, make_counters
from docferry.rehearsal.independent.aftermath import (
    compare_guards,
    compare_indexes,
    compare_with_dynamodb,
    compare_with_mongodb,
)
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, read_history
from docferry.rehearsal.independent.judge import scan_table
from docferry.rehearsal.large import Bucket, LargeDocuments, allow_large, make_large, missing_large
from docferry.rehearsal.processes import Application
from docferry.rehearsal.shop import load_shop
from docferry.sandbox.processes import start_child
from docferry.sandbox.stack import SandboxStack
from docferry.sandbox.tools import Say

SHOP_FILE = Path(__file__).with_name("shop.yaml")
"""The playbook's example, as in include/migrations of the repository."""
PROCESSES = 8
RATE = 10.5
"""Requests/s of each process; eight of ten are writes."""
USERS = 60
"""Few: an emulator's index slows down with the size of its partitions."""
MORE = 15
"""Requests that each process must have had answered before the next step."""
REPLICATES_S = 60.0
COMMAND_S = 300.0
RAMP = (10, 50, 100)
SOAK_S = 1.0
REHEARSED = ("--reads", "0", "--slower", "0")
"""A drill has few keys, of which a small share may hold none, and soaks for a second; an emulator's latency says nothing."""
WHY = "a rehearsal"
WHO = "the drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStep:
    """A command, and how long it took, in seconds."""

    command: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class DrillReport:
    """What came of a drill. `switches` are the changes of leader as their commands reported them; `killed` processes were."""

    processes: int
    killed: int
    verdict: HistoryVerdict
    steps: list[DrillStep] = field(default_factory=list)
    switches: list[Mapping[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not any(self.verdict.counts)

    @property
    def writes_per_s(self) -> float:
        return self.verdict.requests["write"] / self.verdict.seconds if self.verdict.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        verdict = self.verdict
        return {
            "ok": self.ok,
            "processes": self.processes,
            "killed": self.killed,
            "writes": verdict.requests["write"],
            "writes_per_s": round(self.writes_per_s, 1),
            "reads": verdict.requests["read"],
            **{name: list(getattr(verdict, name)) for name in ("lost", "resurrected", "failed", "contradicted")},
            "holds_s": [one["held_s"] for one in self.switches],
            "longest_write_s": round(max(verdict.writes_s, default=0.0), 3),
            "longest_pause_of_reads_s": round(max(verdict.pauses_s, default=0.0), 3),
            "switches": [dict(one) for one in self.switches],
            "steps": [{"command": one.command, "seconds": round(one.seconds, 1)} for one in self.steps],
            "seconds": round(self.seconds, 1),
        }

    def render(self) -> str:
        """The report for a person."""
        lines = [f"{one.seconds:6.1f} s  docferry {one.command}" for one in self.steps]
        for one in self.switches:
            steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in one["steps"].items())
            lines.append(f"{one['before']} -> {one['after']}: writes waited {one['held_s']:.2f} s at most ({steps})")
        verdict = "nothing was lost" if self.ok else "NOT EVERYTHING IS THERE"
        return "\n".join([*lines, str(self.verdict), f"{verdict}; {self.seconds:.0f} s in all"])


def drill(
    say: Say,
    *,
    processes: int = PROCESSES,
    rate: float = RATE,
    ramp: Sequence[int] = RAMP,
    dynamodb_url: str | None = None,
    large: LargeDocuments | None = None,
) -> DrillReport:
    """The whole way, on a stack of its own that is gone afterwards.

    `dynamodb_url` names another DynamoDB API than the stack's emulator; its tables remain. `large`: with documents over 400 KB.

    Raises: DrillFailed if a command fails; Unavailable, TimedOut if the application or the stack does.
    """
    began = time.monotonic()
    with SandboxStack(say=say) as stack, _directory() as directory:
        walk = Walk(say, _environment(stack, dynamodb_url), stack.mongo.uri("app"), directory, large)
        share = large.share if large is not None else 0.0
        with Application(walk.file, walk.env_of_application, directory, rate=rate, large=share) as application:
            walk.prepare()
            application.start(processes)
            verdict = _walk(walk, application, ramp)
        return DrillReport(
            processes=processes, killed=1, verdict=verdict, steps=walk.steps, switches=walk.switches,
            seconds=time.monotonic() - began,
        )  # fmt: skip


def _environment(stack: SandboxStack, dynamodb_url: str | None) -> dict[str, str]:
    """Where MongoDB and AWS are."""
    services = ("DYNAMODB", "DYNAMODB_STREAMS") if dynamodb_url else ()
    return {**stack.env(), **{f"AWS_ENDPOINT_URL_{service}": dynamodb_url or "" for service in services}}


@contextmanager
def _directory() -> Iterator[Path]:
    """For the migration file, histories and logs: they hold documents, and go with the stack."""
    directory = Path(tempfile.mkdtemp(prefix="docferry-drill-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _walk(walk: Walk, application: Application, ramp: Sequence[int]) -> HistoryVerdict:
    """There, back, there again, and back at rest."""

    def goes_on() -> None:
        application.await_more(MORE)

    with walk.running("replicate"):
        goes_on()
        walk.to_dynamodb(ramp, goes_on)
    with walk.running("reverse"):
        goes_on()
        application.kill(application.alive // 2)
        application.start()
        goes_on()
        walk.run("validate")
        walk.to_mongodb()
    with walk.running("replicate"):
        goes_on()
        walk.to_dynamodb(ramp[-1:], goes_on, "--waive", "watch")  # a rehearsal does not wait for 17 minutes
    goes_on()
    replayed = Replayed([read_history(path) for path in application.end()], dict.fromkeys(COUNTERS, 0))
    walk.judge_dynamodb(replayed)
    walk.to_mongodb(
        "--waive", "validation"
    )  # as in an emergency: no process follows DynamoDB, and the judge looks anyway
    walk.judge_mongodb(replayed)
    return replayed.verdict


class Walk:
    """The commands, one after the other."""

    def __init__(
        self,
        say: Say,
        env: Mapping[str, str],
        uri_of_application: str,
        directory: Path,
        large: LargeDocuments | None = None,
    ) -> None:
        self._large = large
        self._say, self._env, self._directory = say, {**os.environ, **env}, directory
        self.env_of_application = {**env, "DOCFERRY_MONGO_URI": uri_of_application}
        self.file = directory / "shop.yaml"
        shutil.copyfile(SHOP_FILE, self.file)
        if large is not None:
            allow_large(self.file, large.overflow)
        self._migration: Migration = load_migration(self.file)
        self.steps: list[DrillStep] = []
        self.switches: list[Mapping[str, Any]] = []

    def prepare(self) -> None:
        """A shop, loaded into DynamoDB."""
        uri, database = self._env["DOCFERRY_MONGO_URI"], self._migration.source.database
        load_shop(uri, database=database, users=USERS, awkward=0, unstorable=0)
        with MongoClient[dict[str, Any]](uri) as client:
            make_counters(client[database]["users"])
            if self._large is not None:
                make_large(client[database]["products"])
        if self._migration.target.objects:
            Bucket(self.env_of_application).make()
        self.run("provision")
        self.run("backfill")

    def await_replication(self) -> None:
        """Until a process replicates, which dual writes ask for. Raises TimedOut."""
        deadline = time.monotonic() + REPLICATES_S
        while not (self.run("status")["replication"] or {}).get("owner"):
            if time.monotonic() > deadline:
                raise TimedOut(f"no process has replicated within {REPLICATES_S:.0f} s")

    def to_dynamodb(self, ramp: Sequence[int], goes_on: Callable[[], None], *words: str) -> None:
        self.await_replication()
        self.run("dual-write", "--compare", "20")
        goes_on()
        self.run("validate")
        self.run("approve", "flip_reads", "--as", WHO, "--why", WHY)
        for percent in ramp:
            self.run("flip-reads", "--percent", str(percent), "--soak", str(SOAK_S), *REHEARSED)
            goes_on()
        self.run("approve", "stop_mongo_writes", "--as", WHO, "--why", WHY)
        self.switches.append(self.run("stop-mongo-writes", *words))

    def to_mongodb(self, *words: str) -> None:
        self.switches.append(self.run("rollback", *words))

    def run(self, command: str, *words: str) -> Any:
        """What a command answered. Raises: DrillFailed, with what it said."""
        told, began = " ".join([command, self.file.name, *words]), time.monotonic()
        self._say(f"docferry {told}")
        done = subprocess.run(
            self._line(command, *words), env=self._env, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        self.steps.append(DrillStep(command=told, seconds=time.monotonic() - began))
        if done.returncode:
            raise DrillFailed(told, done.returncode, done.stderr[-2_000:].strip())
        return json.loads(done.stdout)

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """A command that goes on meanwhile. A change of leader may end it: it gives its lease up for that."""
        log = self._directory / f"{command}-{len(self.steps)}.log"
        self._say(f"docferry {command} {self.file.name} &")
        child = start_child(self._line(command), name=command, log=log, env=self._env)
        try:
            yield
        finally:
            child.stop()

    def _line(self, command: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "docferry.cli", command, str(self.file), *words, "--json"]

    def judge_dynamodb(self, replayed: Replayed) -> None:
        aws = self.env_of_application
        client = boto3.client(
            "dynamodb", region_name=aws["AWS_REGION"], endpoint_url=aws["AWS_ENDPOINT_URL_DYNAMODB"],
            aws_access_key_id=aws["AWS_ACCESS_KEY_ID"], aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        table = self._migration.mappings["users"].table
        to = self._migration.target.objects
        objects = Bucket(aws).reader(self._migration.name, table) if to else None
        compare_with_dynamodb(replayed, client, table, objects)
        compare_guards(replayed.verdict, scan_table(client, table, objects))

    def judge_mongodb(self, replayed: Replayed) -> None:
        with MongoClient[dict[str, Any]](self._env["DOCFERRY_MONGO_URI"]) as client:
            database = client[self._migration.source.database]
            compare_with_mongodb(replayed, database)
            compare_indexes(replayed.verdict, database)
            if self._large is not None:
                replayed.verdict.lost += missing_large(database["products"])
