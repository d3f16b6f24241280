"""The process that changes the leader is killed (SIGKILL) while writes wait. The replicator that had made room for it puts
everything back once the deadline has passed; no write fails or is lost, and the next change goes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docferry.core.cutover.modes import Mode
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.ledger import modes
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.ledger.times import now_ms
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.drill import Processes
from support.client.faulty import (
    SOON,
    assert_nothing_failed,
    assert_nothing_lost,
    await_reads_again,
    failures,
    faulty,
    judge,
    ready_to_switch,
)
from support.processes import STANDS_STILL, Victim, applied_by, stand_still

pytestmark = pytest.mark.cutover

PUT_BACK_WITHIN_S = SOON["hold_s"] + 30.0
"""The deadline, a second of grace, and what lifting takes on a busy machine; no request may fail meanwhile."""
WAY_THERE = {
    "docferry.flows.cutover.hold.wait_for_acknowledgements": Recorded.DOWN,
    "docferry.flows.cutover.to_dynamodb.require_quiet": Recorded.UP,
    "docferry.flows.cutover.to_dynamodb.record_stream_start": Recorded.UP,
}
UNJUDGED = ("--waive", "validation")
"""As in an emergency."""
WAY_BACK = {
    "docferry.flows.cutover.to_mongodb.wait_for_acknowledgements": Recorded.UP,
    "docferry.flows.cutover.to_mongodb.change_mode": Recorded.UP,  # MongoDB is opened behind the change, never before it
}
"""Where the process stands still until it is killed, and how the fence is there."""


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """The write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        yield stack


@contextmanager
def replicator(rig: Rig, log: Path) -> Iterator[Victim]:
    """`docferry replicate`, at work."""
    with Victim(rig, log, "replicate") as victim:
        eventually(applied_by(rig, victim), "the position to move", 60.0)
        yield victim


@contextmanager
def follower(rig: Rig, log: Path) -> Iterator[Victim]:
    """`docferry reverse`, at work."""
    with Victim(rig, log, "reverse") as victim:
        eventually(lambda: victim.made(rig.ledger.read(*REVERSE)), "reverse replication to be at work", 60.0)
        yield victim


def carried_out(rig: Rig, log: Path, command: str, *words: str) -> None:
    with Victim(rig, log, command, *words) as victim:
        assert victim.wait(60) == 0, victim.said()


def killed_in_hold(rig: Rig, log: Path, command: str, place: str, fence: Recorded, *words: str) -> None:
    """Run `command` up to `place`, where the mode is HOLD and the fence as said, and kill it there."""
    with Victim(rig, log, command, *words, settings={place: stand_still}) as victim:

        def there() -> bool:
            assert victim.is_alive(), victim.said()
            return STANDS_STILL in victim.said()

        eventually(there, f"it to come to {place}", 60.0, 0.05)
        assert victim.kill()
    assert (read_mode(rig.ledger).mode, recorded_fence(rig.ledger)[0]) == (Mode.HOLD, fence)


def await_dynamodb_again(rig: Rig) -> None:
    def back() -> bool:
        return read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY and modes.replication_yield_request(rig.ledger) is None

    eventually(back, "the hold to be put back", PUT_BACK_WITHIN_S, 0.1)
    assert recorded_fence(rig.ledger)[0] is Recorded.UP


def reads_flipped(rig: Rig, processes: Processes, directory: Path) -> None:
    with replicator(rig, directory / "first.log"):
        ready_to_switch(rig, processes)


def test_switch_that_is_killed_in_hold_is_put_back_by_the_replicator(own_stack: SandboxStack, tmp_path: Path) -> None:
    with faulty(own_stack, tmp_path) as (rig, processes):
        reads_flipped(rig, processes, tmp_path)
        for place, fence in WAY_THERE.items():
            with replicator(rig, tmp_path / f"replicator-{place}.log") as guard:
                killed_in_hold(rig, tmp_path / f"switch-{place}.log", "stop-mongo-writes", place, fence)
                await_reads_again(rig, PUT_BACK_WITHIN_S)
                assert guard.wait(60) == 0, guard.said()
                assert "the mode is DYNAMODB_READS (100 %) again" in guard.said()
            processes.await_more(5)
        carried_out(rig, tmp_path / "switch.log", "stop-mongo-writes")
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_nothing_failed(replayed)


def test_rollback_that_is_killed_in_hold_is_put_back_and_mongodb_stays_fenced(
    own_stack: SandboxStack, tmp_path: Path
) -> None:
    with faulty(own_stack, tmp_path) as (rig, processes):
        reads_flipped(rig, processes, tmp_path)
        carried_out(rig, tmp_path / "switch.log", "stop-mongo-writes")
        for place, fence in WAY_BACK.items():
            with follower(rig, tmp_path / f"reverse-{place}.log") as guard:
                killed_in_hold(rig, tmp_path / f"rollback-{place}.log", "rollback", place, fence, *UNJUDGED)
                await_dynamodb_again(rig)
                assert guard.wait(60) == 0, guard.said()
            processes.await_more(5)
        carried_out(rig, tmp_path / "rollback.log", "rollback", *UNJUDGED)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_nothing_failed(replayed)


def test_hold_of_a_dead_switch_is_put_back_by_whoever_replicates_next(own_stack: SandboxStack, tmp_path: Path) -> None:
    with faulty(own_stack, tmp_path) as (rig, processes):
        reads_flipped(rig, processes, tmp_path)
        place = "docferry.flows.cutover.to_dynamodb.require_quiet"
        killed_in_hold(rig, tmp_path / "switch.log", "stop-mongo-writes", place, Recorded.UP)
        deadline_ms = read_mode(rig.ledger).deadline_ms
        eventually(lambda: now_ms() > deadline_ms + 1_500, "the deadline to pass", 20.0)
        with replicator(rig, tmp_path / "next.log"):
            await_reads_again(rig, 20.0)
            processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    # No process was there to put the hold back at its deadline: a writer that waited five seconds longer was told so.
    assert {one.error for one in failures(replayed)} <= {"WritesHeld"}
