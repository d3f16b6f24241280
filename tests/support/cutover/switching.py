"""A shop on servers of its own, whose leader is changed there and back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docferry.adapters.mongodb.fence import MongoFence
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.adapters.mongodb.sink import MongoSink
from docferry.adapters.mongodb.users import MongoClients
from docferry.client import DualWriteManager
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.modes import Mode
from docferry.core.versions import parse_version
from docferry.errors import Stopped
from docferry.flows.cutover.hold import SwitchReport, back_out
from docferry.flows.cutover.return_evidence import WITHOUT_VALIDATION
from docferry.flows.cutover.to_dynamodb import switch_to_dynamodb
from docferry.flows.cutover.to_mongodb import switch_to_mongodb
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals, modes
from docferry.flows.ledger.modes import instance_in, read_mode
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse.follower import reverse
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, connected, set_mode
from support.client.traffic import Traffic
from support.cutover.unfence import unfence
from support.replicate.rig import Following, Said, end, live_shop
from support.reverse.application import job_of as returning_of
from support.validate.planting import require_equal

READS = MODES["DYNAMODB_READS 100"]


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """The write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        yield stack


@pytest.fixture
def rig(own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = live_shop(own_stack.env(), tmp_path)
    made.dynamodb.update_table(
        TableName=made.table,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    unfence(job_of(made))
    end(made)


def job_of(rig: Rig, stop: Any = None) -> Job:
    job = rig.job()
    return make_job(
        migration=rig.migration,
        source=job.source,
        fence=MongoFence(
            rig.env["DOCFERRY_MONGO_URI"],
            rig.migration.namespaces,
            rig.migration.name,
            list(rig.migration.mappings),
        ),
        leader=MongoLeader(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, rig.migration.name),
        clients=MongoClients(rig.env["DOCFERRY_MONGO_URI"]),
        estate=rig.estate(),
        streams=rig.streams(),
        journal=rig.journal,
        sink=MongoSink(rig.env["DOCFERRY_MONGO_URI"], rig.migration.namespaces, rig.migration.name),
        ledger=rig.ledger,
        identity=who("the switch"),
        progress=Said(),
        stop=stop or threading.Event(),
    )


def approved(rig: Rig) -> None:
    evidence = approvals.evidence_of(rig.ledger).digest
    approvals.approve(rig.ledger, approvals.STOP_MONGO_WRITES, evidence, "a manager", "it is time")


def switch(rig: Rig, job: Job | None = None, waived: Sequence[str] = ()) -> SwitchReport:
    async def work() -> SwitchReport:
        target = rig.target()
        try:
            return await switch_to_dynamodb(job or job_of(rig), target, waived)
        finally:
            await target.close()

    return asyncio.run(work())


def switch_back(rig: Rig, job: Job | None = None, waived: Sequence[str] = (WITHOUT_VALIDATION,)) -> SwitchReport:
    async def work() -> SwitchReport:
        target = rig.target()
        try:
            return await switch_to_mongodb(job or job_of(rig), target, waived)
        finally:
            await target.close()

    return asyncio.run(work())


@contextmanager
def reversing(rig: Rig) -> Iterator[None]:
    """Reverse replication for as long as the block lasts."""
    stop = threading.Event()
    work = returning_of(rig, rig.streams(), stop)

    async def follow() -> None:
        target = rig.target()
        try:
            await reverse(work, target)
        finally:
            await target.close()

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(asyncio.run, follow())
        try:
            yield
        finally:
            stop.set()
            with suppress(Stopped):
                following.result(timeout=60)


def more(traffic: Traffic, writes: int = 100) -> None:
    before = traffic.writes
    eventually(lambda: traffic.writes > before + writes, "more writes")


def newest_version(rig: Rig) -> int:
    return max(parse_version(item["_v"]["S"]) for item in rig.scan().values())


def ready(rig: Rig) -> None:
    """All reads come from DynamoDB, and all is known to be equal."""
    with Following(rig):
        epoch = max(READS.epoch, read_mode(rig.ledger).epoch + 1)  # clients follow no earlier one
        set_mode(rig, replace(READS, epoch=epoch))
        live: Any = lambda: modes.live_instances(rig.ledger, who("a test"))  # noqa: E731
        eventually(lambda: not modes.unacknowledged(live(), epoch), "every process to follow")
        require_equal(rig)
    approved(rig)


def as_before(rig: Rig, manager: DualWriteManager) -> None:
    """The mode is what it was, MongoDB takes writes, and nobody is asked to make room."""
    mode = read_mode(rig.ledger)
    assert (mode.mode, mode.percent) == (Mode.DYNAMODB_READS, 100)
    assert recorded_fence(rig.ledger)[0] is Recorded.DOWN
    assert modes.replication_yield_request(rig.ledger) is None
    eventually(
        lambda: manager["users"].update_one({"username": "users-0"}, {"$inc": {"n": 1}}).matched_count == 1, "a write"
    )


def quick(rig: Rig, **cutover_settings: Any) -> Job:
    """A hold that is over soon."""
    job = job_of(rig)
    settings = replace(job.migration.cutover, **{"hold_s": 3.0, "drain_s": 1.5, **cutover_settings})
    return replace(job, migration=replace(job.migration, cutover=settings))


def gone_like(rig: Rig, manager: DualWriteManager) -> Instance:
    """As if another process had vanished."""
    record = rig.ledger.read(INSTANCES, manager.instance)
    assert record is not None
    return replace(instance_in(record), id="gone", mark="elsewhere", until_ms=now_ms() - 5_000)
