"""Validation on real servers while DynamoDB leads: the client writes, reverse replication follows, MongoDB is judged."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from bson import Decimal128
from docferry import wiring
from docferry.adapters.mongodb.sink import MongoSink
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.reverse.follower import reverse
from docferry.flows.reverse.report import ReverseReport
from docferry.flows.validate import reverse_recheck as reverse_judging
from docferry.flows.validate.first_pass import latest_report
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, connected, set_mode
from support.client.traffic import Traffic
from support.processes import Victim
from support.replicate.rig import assert_equal, end, live_shop
from support.reverse.application import begin_here, job_of
from support.validate.planting import validate

pytestmark = [pytest.mark.cutover, pytest.mark.xdist_group("validate_live")]
SECONDS = 60


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A small shop, loaded; DynamoDB leads."""
    monkeypatch.setattr(reverse_judging, "AGAIN_S", 0.3)
    made = live_shop(stack.env(), tmp_path)
    connected(made, monkeypatch, stack)
    yield made
    end(made)


class Returning:
    """Reverse replication for as long as the block lasts. Its error is the block's."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.stop = rig, threading.Event()
        streams = begin_here(rig)
        set_mode(rig, MODES["DYNAMODB_ONLY"])
        self.job = job_of(rig, streams, self.stop)
        self.report = ReverseReport()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Returning:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        self._thread.join(timeout=60)
        sink = self.job.sink
        assert isinstance(sink, MongoSink)
        sink.close()
        if kind is None and self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:
            self.error = error

    async def _follow(self) -> None:
        target = self.rig.target()
        try:
            await reverse(self.job, target, report=self.report)
        finally:
            await target.close()

    def catch_up(self) -> None:
        asked_ms = time.time_ns() // 1_000_000 + 1_000

        def reached() -> bool:
            record = self.rig.ledger.read(*REVERSE)
            return record is not None and int(record.body["reached"]) > asked_ms

        eventually(reached, "reverse replication to reach what has been written", SECONDS)


def test_nothing_is_found_but_what_was_planted_while_the_client_writes_dozens_of_times_a_second(rig: Rig) -> None:
    order = rig.database["orders"].find_one({})
    with Returning(rig) as following, wiring.connect(rig.file) as manager, Traffic(manager, writers=6) as traffic:
        eventually(lambda: traffic.writes > 100, "the application to write", SECONDS)
        began, before = time.monotonic(), traffic.writes
        reports = [validate(rig) for _ in range(3)]
        rate = (traffic.writes - before) / (time.monotonic() - began)
        assert [report.render() for report in reports if not report.ok] == []
        rig.database["orders"].update_one({"_id": order["_id"]}, {"$set": {"items.1.price": Decimal128("0.01")}})
        found = validate(rig)
    assert traffic.errors == []
    assert rate > 25, rate
    assert following.report.records > 100
    assert sum(report.rechecked for report in reports) > 0, "something was on its way"
    assert [(one.kind.value, one.id, one.path, one.expected, one.actual) for one in found.differences] == [
        ("different", str(order["_id"]), "items.1.price", "decimal Decimal128('19.99')", "decimal Decimal128('0.01')")
    ], found.render()
    assert (found.verdict, found.direction) == ("DIFFERENT", "reverse")
    latest = latest_report(rig.ledger)
    assert latest is not None
    assert (latest.verdict, latest.direction) == ("DIFFERENT", "reverse")


def test_command_judges_mongodb_and_repair_is_refused(rig: Rig, tmp_path: Path) -> None:
    def ends_with(code: int, *words: str) -> str:
        with Victim(rig, tmp_path / "log", *words) as command:
            assert command.wait(SECONDS) == code, command.said()
            return command.said()

    user = rig.database["users"].find_one({})
    with Returning(rig) as following:
        following.catch_up()
        equal = ends_with(0, "validate")
        assert "DynamoDB leads: MongoDB must hold what it does" in equal
        assert "as of looks made from" in equal
        assert_equal(rig)
        rig.database["users"].delete_one({"_id": user["_id"]})
        assert f"missing     users {user['_id']}: expected a document, found missing" in ends_with(1, "validate")
        assert "docferry reverse corrects MongoDB" in ends_with(3, "repair")
        assert rig.database["users"].count_documents({"_id": user["_id"]}) == 0
