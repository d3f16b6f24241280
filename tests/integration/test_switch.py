"""Changing who leads, under an application that writes without a pause: nothing is lost, and what fails goes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backfilling.rig import Rig, eventually
from docferry import wiring
from docferry.adapters.mongo_fence import MongoFence
from docferry.adapters.mongo_sink import MongoSink
from docferry.adapters.streams import DynamoStreams
from docferry.core.modes import Mode
from docferry.embedded import EmbeddedStack
from docferry.flows.cutover import Cutover, SwitchReport, back_out, switch_to_dynamodb
from docferry.flows.cutover_back import switch_to_mongodb
from docferry.flows.fence import Recorded, recorded_fence
from docferry.flows.modes import read_mode
from docferry.wiring import who
from replicating.rig import Following, Said, end, live_shop
from serving.rig import MODES, connected, set_mode
from serving.traffic import Traffic, in_dynamodb, in_mongodb
from validating.planting import validate


@pytest.fixture(scope="module")
def own_stack() -> Iterator[EmbeddedStack]:
    """The write block is for a cluster that holds nothing else."""
    with EmbeddedStack() as stack:
        yield stack


@pytest.fixture
def rig(own_stack: EmbeddedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = live_shop(own_stack.env(), tmp_path)
    made.dynamodb.update_table(
        TableName=made.table,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    end(made)


def job_of(rig: Rig, stop: Any = None) -> Cutover:
    job = rig.job()
    return Cutover(
        migration=rig.migration,
        source=job.source,
        fence=MongoFence(
            rig.env["DOCFERRY_MONGO_URI"],
            rig.migration.source.database,
            rig.migration.name,
            list(rig.migration.mappings),
        ),
        streams=DynamoStreams(rig._session),
        ledger=rig.ledger,
        identity=who("the switch"),
        progress=Said(),
        stop=stop or threading.Event(),
    )


def switch(rig: Rig, job: Cutover | None = None) -> SwitchReport:
    async def work() -> SwitchReport:
        target = rig.target()
        try:
            return await switch_to_dynamodb(job or job_of(rig), target)
        finally:
            await target.close()

    return asyncio.run(work())


def switch_back(rig: Rig, job: Cutover | None = None) -> SwitchReport:
    sink = MongoSink(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database)

    async def work() -> SwitchReport:
        target = rig.target()
        try:
            return await switch_to_mongodb(job or job_of(rig), target, sink)
        finally:
            await target.close()

    return asyncio.run(work())


def more(traffic: Traffic, writes: int = 100) -> None:
    before = traffic.writes
    eventually(lambda: traffic.writes > before + writes, "more writes")


def test_way_there_and_back_under_traffic_loses_nothing(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        with Following(rig):
            set_mode(rig, MODES["DYNAMODB_READS 100"])
            more(traffic)
            assert validate(rig).ok
        switch(rig)
        more(traffic, 200)
        back = switch_back(rig)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        assert recorded_fence(rig.ledger)[0] is Recorded.DOWN
        more(traffic)
        with Following(rig):
            more(traffic)
    assert traffic.errors == []
    assert in_mongodb(rig.database) == traffic.acknowledged()
    assert back.held_s < 3
    with Following(rig):
        assert validate(rig).ok
    assert in_dynamodb(rig.dynamodb, rig.table) == traffic.acknowledged()


def test_dynamodb_leads_and_no_acknowledged_write_is_lost(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        with Following(rig):
            set_mode(rig, MODES["DYNAMODB_READS 100"])
            eventually(lambda: traffic.writes > 100, "some writes")
            assert validate(rig).ok
        report = switch(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        before = traffic.writes
        eventually(lambda: traffic.writes > before + 100, "writes to DynamoDB alone")
        at_switch = in_mongodb(rig.database)
    assert traffic.errors == []
    found = in_dynamodb(rig.dynamodb, rig.table)
    others = {name for name in found if not name.startswith("w")}
    assert {name: visits for name, visits in found.items() if name not in others} == traffic.acknowledged()
    assert recorded_fence(rig.ledger)[0] is Recorded.UP
    assert in_mongodb(rig.database) == at_switch
    assert report.held_s < 3
    assert report.instances == 1
