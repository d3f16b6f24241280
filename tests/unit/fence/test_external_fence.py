"""A fence that a command closes: it counts once the change stream has shown that no client but docferry writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.fence_plan import FenceKind, FencePlan
from docferry.core.settings import CutoverSettings, ExternalFence
from docferry.errors import FenceBroken, FenceFailed, PreflightFailed, RequestRefused, Unavailable
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.quiet import require_quiet
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.kernel.job import Job
from docferry.ports.flows import OthersBatch
from docferry.testing.fakes import FakeFence, FakeLedger, FakeSource
from docferry.testing.fakes.feed import FakeOthers
from support.cutover.fakes import MIGRATION, Process, quick

__all__ = ["quick"]
QUIET_S = 0.05


class Reading(FakeOthers):
    """Before each read the test may write."""

    before: Callable[[], Any] = staticmethod(lambda: None)

    def read(self, wait_s: float) -> OthersBatch:
        Reading.before()
        return super().read(0.0)


class Source(FakeSource):
    def writes_of_others(self, position: Any, collections: Any) -> FakeOthers:
        found = super().writes_of_others(position, collections)
        return Reading(self, found._since, collections)


@dataclass
class World:
    mongo: FakeFence = field(default_factory=FakeFence)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    source: Source = field(default_factory=lambda: Source({"users": [{"_id": 1}]}))
    writes: int = 0

    @property
    def job(self) -> Job:
        external = ExternalFence(external=("close-it",), quiet_s=QUIET_S)
        process = Process(self.mongo, self.ledger)
        ports = process.job.ports.replacing({"source": lambda: self.source})
        cutover = CutoverSettings(fence=external, hold_s=100.0)
        return replace(process.job, migration=replace(MIGRATION, cutover=cutover), ports=ports)

    def write(self) -> Timestamp:
        """The application writes."""
        self.writes += 1
        return self.source.write_as_other("users", 1, {"_id": 1, "n": self.writes})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(Reading, "before", staticmethod(made.source._tick))
    return made


def writing(world: World, monkeypatch: pytest.MonkeyPatch, times: int | None) -> None:
    """The application writes at so many reads, or at each."""

    def write() -> None:
        world.source._tick()
        if times is None or world.writes < times:
            world.write()

    monkeypatch.setattr(Reading, "before", staticmethod(write))


def test_it_is_up_once_it_is_closed_and_all_is_quiet_and_can_be_opened_with_what_the_command_said(world: World) -> None:
    report = fence(world.job, 5.0)
    assert report.plan == FencePlan(kind=FenceKind.EXTERNAL, memo="what the command needs")
    assert recorded_fence(world.ledger) == (Recorded.UP, report.plan, report.time)
    assert world.mongo.closed_with == "what the command needs"
    assert report.seconds >= QUIET_S
    require_quiet(world.job, report.time, report.plan)
    lift(world.job)
    assert world.mongo.closed_with is None


def test_the_clients_last_writes_are_waited_for_and_lie_before_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(world, monkeypatch, 3)
    report = fence(world.job, 5.0)
    assert world.writes == 3
    assert max(one.time for one in world.source.others) < report.time
    assert report.waited_for


def test_a_client_that_goes_on_writing_is_told_and_the_fence_is_opened_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(world, monkeypatch, None)
    with pytest.raises(FenceFailed, match=r"taken back(?s:.*)replace in myapp\.users") as caught:
        fence(world.job, 0.5)
    assert caught.value.taken_back
    assert world.mongo.closed_with is None
    assert recorded_fence(world.ledger)[0] is Recorded.DOWN


def test_a_stream_that_does_not_answer_is_no_quiet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise Unavailable("MongoDB is away", operation="getMore")

    monkeypatch.setattr(Reading, "before", staticmethod(away))
    with pytest.raises(FenceFailed, match="MongoDB is away"):
        fence(world.job, 0.5)
    assert world.mongo.closed_with is None


def test_a_write_behind_the_fence_is_found_by_the_stream(world: World) -> None:
    report = fence(world.job, 5.0)
    at = world.write()
    with pytest.raises(FenceBroken, match=f"replace in myapp.users at {at.time:010d}:{at.inc:010d}"):
        require_quiet(world.job, report.time, report.plan)


def test_it_is_refused_before_anything_is_closed_if_the_command_refuses_or_ttl_deletes_pass_it(world: World) -> None:
    world.mongo.faults["external_memo"].fail_next(RequestRefused("plan ended with status 3: no such project"))
    world.source.indexes["users"] = ({"name": "ttl", "key": {"at": 1}, "expireAfterSeconds": 60},)
    with pytest.raises(PreflightFailed) as caught:
        fence(world.job, 5.0)
    assert [one.where for one in caught.value.problems] == ["collections.users", "cutover.fence.external"]
    assert "no such project" in str(caught.value)
    assert world.mongo.closed_with is None


def test_one_attempt_that_may_be_made_again_is(world: World) -> None:
    world.mongo.faults["raise_fence"].fail_next(Unavailable("close ended with status 75"))
    assert fence(world.job, 5.0).attempts == 2
