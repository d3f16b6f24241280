"""An application of many processes, and the flows that move it, in this process, so that a test can get between their steps."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from docferry.adapters.mongodb.fence import MongoFence
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.adapters.mongodb.sink import MongoSink
from docferry.adapters.mongodb.users import MongoClients
from docferry.flows.cutover.hold import SwitchReport
from docferry.flows.cutover.return_evidence import WITHOUT_VALIDATION
from docferry.flows.cutover.to_dynamodb import switch_to_dynamodb
from docferry.flows.cutover.to_mongodb import switch_to_mongodb
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals
from docferry.flows.reverse.follower import reverse
from docferry.flows.watch.ready import WATCH
from docferry.rehearsal import application as drill_application
from docferry.rehearsal.application import make_counters
from docferry.rehearsal.processes import Answers
from docferry.sandbox import SandboxStack
from docferry.sandbox.processes import log_tail
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.backfill.rig import Rig, eventually
from support.replicate.rig import Said, live_shop

PROCESSES = 8
RATE = 9.0
"""Requests/s of each; eight of ten are writes."""
COMPARED = 20
"""Percent of the reads, during dual writes."""
RECENT = 200
"""Lines of a history in which a request that is on its way has its beginning."""
MORE = 15
"""Requests that each process must have had answered before the next step."""


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["docferry.rehearsal.application", "docferry.wiring"])


def _run(words: Sequence[str], env: Mapping[str, str], log: str) -> None:
    """`python -m docferry.rehearsal.application WORDS`, its output in `log`: an import costs seconds, a fork nothing."""
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(descriptor, number)
    drill_application.main(list(words), standalone_mode=False)


class Processes:
    """The application. Each process has a history and a log of its own in `directory`."""

    def __init__(self, rig: Rig, stack: SandboxStack, directory: Path, number: int = PROCESSES) -> None:
        self._env = {**rig.env, "DOCFERRY_MONGO_URI": stack.env()["DOCFERRY_APP_MONGO_URI"]}
        self._file, self._directory = rig.file, directory
        self.children: dict[int, Any] = {}
        self.killed: list[int] = []
        self.frozen: set[int] = set()
        self._answers: dict[int, Answers] = {}
        for _ in range(number):
            self.start()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in self.children.values():
            child.kill()  # a frozen one, too
            child.join(20.0)

    def history(self, number: int) -> Path:
        return self._directory / f"history-{number}.jsonl"

    def _log(self, number: int) -> Path:
        return self._directory / f"application-{number}.log"

    def start(self) -> int:
        """One more process; its number."""
        number = len(self.children)
        path = self.history(number)
        words = ["--file", self._file, "--history", path, "--number", number, "--rate", RATE]
        arguments = ([str(word) for word in words], self._env, str(self._log(number)))
        self.children[number] = _FORKS.Process(target=_run, args=arguments, daemon=True)
        self.children[number].start()
        self._answers[number] = Answers(path)
        return number

    def pid(self, number: int) -> int:
        pid: int = self.children[number].pid
        return pid

    def kill(self, number: int) -> None:
        """In the middle of its requests: its history ends with a write of unknown outcome."""
        self._answers.pop(number)
        self.killed.append(number)
        self.children[number].kill()
        self.children[number].join(20.0)
        assert self.children[number].exitcode == -signal.SIGKILL

    def freeze(self, number: int, *, in_a_write: bool = True) -> None:
        """SIGSTOP, in the middle of a write unless said otherwise: tried until it is so."""

        def frozen() -> bool:
            os.kill(self.pid(number), signal.SIGSTOP)
            eventually(lambda: _is_stopped(self.pid(number)), "the process to be stopped")
            if not in_a_write or _begun_writes(self.history(number)):
                return True
            os.kill(self.pid(number), signal.SIGCONT)
            return False

        eventually(frozen, f"application {number} to be in the middle of a write", 60.0, 0.003)
        self.frozen.add(number)

    def release(self, number: int) -> None:
        """SIGCONT."""
        os.kill(self.pid(number), signal.SIGCONT)
        self.frozen.discard(number)

    def await_more(self, answers: int = MORE) -> None:
        """Until each process that is not frozen has had so many more requests answered."""
        before = {number: one.count() for number, one in self._answers.items() if number not in self.frozen}

        def had() -> bool:
            for number in before:
                assert self.children[number].is_alive(), f"application {number}: {log_tail(self._log(number))}"
            return all(self._answers[number].count() >= count + answers for number, count in before.items())

        eventually(had, f"{answers} more answers for each process", 60.0, 0.05)

    def end(self) -> list[Path]:
        """End all of their own accord; the histories of these and of those that were killed."""
        for number in self._answers:
            self.children[number].terminate()
        for number in self._answers:
            child = self.children[number]
            child.join(60.0)
            assert child.exitcode == 0, f"application {number}: {child.exitcode} {log_tail(self._log(number))}"
        return [self.history(number) for number in self.children]


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _begun_writes(path: Path) -> int:
    """Writes that have begun, not in HOLD, and not ended, among the last lines of a history."""
    whole, _, _ = path.read_text("ascii").rpartition("\n")
    begun: set[str] = set()
    for about in map(json.loads, whole.splitlines()[-RECENT:]):
        number = json.dumps(about.get("n"))
        if about["at"] == "begin" and about["kind"] != "read" and not about["mode"].startswith("HOLD"):
            begun.add(number)
        elif about["at"] == "end":
            begun.discard(number)
    return len(begun)


class Returning:
    """Reverse replication in a thread for as long as the block lasts, as an operator would have it. Its error is the block's."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._stop = rig, threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:
            self._error = error

    async def _work(self) -> None:
        rig, target = self._rig, self._rig.target()
        job = make_job(
            migration=rig.migration, streams=rig.streams(), journal=rig.journal, sink=sink_of(rig),
            leader=leader_of(rig), ledger=rig.ledger, identity=who("reverse replicator"), progress=Said(), stop=self._stop,
        )  # fmt: skip
        try:
            await reverse(job, target)
        finally:
            await target.close()

    def __enter__(self) -> Returning:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(60)
        if kind is None and self._error is not None:
            raise self._error


# --- the flows -------------------------------------------------------------------------------------------------------


def leader_of(rig: Rig) -> MongoLeader:
    return MongoLeader(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, rig.migration.name)


def sink_of(rig: Rig) -> MongoSink:
    return MongoSink(rig.env["DOCFERRY_MONGO_URI"], rig.migration.namespaces, rig.migration.name)


def cutover_of(rig: Rig) -> Job:
    source = rig.migration.source.database
    job = rig.job()
    return make_job(
        migration=rig.migration,
        source=job.source,
        fence=MongoFence(rig.env["DOCFERRY_MONGO_URI"], source, rig.migration.name, list(rig.migration.mappings)),
        leader=leader_of(rig),
        clients=MongoClients(rig.env["DOCFERRY_MONGO_URI"]),
        estate=rig.estate(),
        streams=rig.streams(),
        journal=rig.journal,
        sink=sink_of(rig),
        ledger=rig.ledger,
        identity=who("the switch"),
        progress=Said(),
        stop=threading.Event(),
    )


def change_leader(rig: Rig, *, back: bool, waived: Sequence[str] = ()) -> SwitchReport:
    """The way back as in an emergency, without a validation: faults are no time for one."""

    async def work() -> SwitchReport:
        target = rig.target()
        try:
            if back:
                return await switch_to_mongodb(cutover_of(rig), target, [*waived, WITHOUT_VALIDATION])
            return await switch_to_dynamodb(cutover_of(rig), target, [WATCH])  # 17 minutes are for other tests
        finally:
            await target.close()

    return asyncio.run(work())


def flip_of(rig: Rig) -> Job:
    return cutover_of(rig)


def approve(rig: Rig, phase: str) -> None:
    """On the evidence of now, as a person would."""
    evidence = approvals.evidence_of(rig.ledger).digest
    approvals.approve(rig.ledger, phase, evidence, "the drill", "it is rehearsed")


# --- the drill -------------------------------------------------------------------------------------------------------


def shop_for_drill(stack: SandboxStack, directory: Path) -> Rig:
    """A shop with counters, loaded; no process replicates yet."""
    rig = live_shop(stack.env(), directory, load=False)
    rig.dynamodb.update_table(
        TableName=rig.table,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    make_counters(rig.database["users"])
    rig.load()
    return rig
