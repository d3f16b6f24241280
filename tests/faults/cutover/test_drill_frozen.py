"""A process of the application is frozen (SIGSTOP) in the middle of a write, the mode is changed, and it wakes: what it does by
its old mode is refused, or goes by the new one. Nothing is lost, and only the frozen one may have a request fail.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from docferry.client.membership import LEASE_S
from docferry.core.cutover.modes import Mode
from docferry.errors import HoldFailed
from docferry.flows.cutover import flip, hold, rollback
from docferry.flows.cutover.flip import back_to, begin_dual_write, flip_reads
from docferry.flows.cutover.rollback import finalize
from docferry.flows.fence.record import LEASE_S as FENCE_LEASE_S
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import list_instances, live_instances, read_mode, unacknowledged
from docferry.rehearsal.independent.history import Replayed, Request
from docferry.sandbox import SandboxStack
from docferry.wiring import who
from support.backfill.rig import Rig, eventually
from support.client.drill import COMPARED, Processes, Returning, approve, change_leader, cutover_of, flip_of
from support.client.faulty import (
    FEW,
    SOON,
    WOKE,
    approve_again,
    assert_nothing_lost,
    await_reads_again,
    failures,
    faulty,
    instance_of,
    judge,
    ready_to_switch,
)
from support.processes import Victim, applied_by
from support.replicate.rig import Following, Said
from support.validate.planting import require_equal

pytestmark = pytest.mark.cutover

LEASE_OVER_S = 60.0


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """The write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        yield stack


def await_followed(rig: Rig) -> None:
    """Every process has acknowledged the mode of now."""
    eventually(
        lambda: not unacknowledged(live_instances(rig.ledger, who()), read_mode(rig.ledger).epoch),
        "every process to follow",
        LEASE_OVER_S,
    )


@contextmanager
def frozen_at_the_change(processes: Processes, number: int, flow: ModuleType) -> Iterator[None]:
    """Freeze a process in the middle of a write when the flow is about to write its mode: its lease has all its time."""
    change_mode = flow.change_mode

    def freeze_first(*arguments: Any) -> Any:
        if number not in processes.frozen:
            processes.freeze(number)
        return change_mode(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "change_mode", freeze_first)
        yield
    assert number in processes.frozen, f"{flow.__name__} changed no mode"


def across(
    rig: Rig, processes: Processes, number: int, change: Callable[[Job], object], after: Mode, flow: ModuleType = flip
) -> None:
    """Make a change of mode that changes no leader while a process is frozen. It is named, and follows when it wakes."""
    job = flip_of(rig)
    with frozen_at_the_change(processes, number, flow):
        change(job)
    assert read_mode(rig.ledger).mode is after
    assert isinstance(job.progress, Said)
    assert any("1 instance(s) have not followed yet" in line for line in job.progress.lines), job.progress.lines
    processes.await_more(3)
    processes.release(number)
    processes.await_more(3)
    await_followed(rig)


def await_lease_over(rig: Rig, processes: Processes, number: int) -> str:
    """Until no process waits for the frozen one any more; its id."""
    frozen = instance_of(rig, processes, number)
    eventually(
        lambda: frozen.id not in {one.id for one in live_instances(rig.ledger, who())},
        "the frozen one's lease to be over",
        LEASE_OVER_S,
        0.1,
    )
    return frozen.id


@contextmanager
def frozen_in_hold(rig: Rig, processes: Processes, number: int) -> Iterator[None]:
    """Freeze a process when it has acknowledged the hold that begins in this block."""
    known, caught = instance_of(rig, processes, number).id, threading.Event()

    def freeze() -> None:
        def held() -> bool:
            mode = read_mode(rig.ledger)
            if mode.mode is not Mode.HOLD:
                return False
            return any(one.id == known and one.epoch >= mode.epoch for one in list_instances(rig.ledger))

        eventually(held, "the hold to be acknowledged", 60.0)
        processes.freeze(number, in_a_write=False)
        if read_mode(rig.ledger).mode is Mode.HOLD:
            caught.set()

    freezer = threading.Thread(target=freeze)
    freezer.start()
    yield
    freezer.join(60)
    assert caught.is_set(), f"application {number} was not frozen in HOLD"


def asleep(replayed: Replayed, number: int) -> list[Request]:
    """The requests of a process that took longer than its lease."""
    (history,) = [one for one in replayed.histories if one.process == number]
    return [one for one in history.requests if one.end and one.ended - one.began > LEASE_S]


def assert_only_frozen_failed(replayed: Replayed, frozen: set[int], longest: int) -> None:
    """And by an error that says what has happened. `longest` was frozen for longer than its lease, in the middle of a write."""
    failed, slept = failures(replayed), asleep(replayed, longest)
    print("on their way when it was frozen:", *(f"{one}: {one.error or 'done'}" for one in slept), sep="\n  ")
    assert any(one.is_write for one in slept), "it was not frozen in the middle of a write"
    assert {one.process for one in failed} <= frozen, replayed.verdict
    assert {one.error for one in failed} <= WOKE, replayed.verdict


def test_process_frozen_across_each_change_on_the_way_there_loses_nothing(
    own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flip, "FOLLOWED_WITHIN_S", 4.0)  # the others have followed by then, and its lease still runs
    with faulty(own_stack, tmp_path, 5) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            across(rig, processes, 0, lambda job: begin_dual_write(job, COMPARED), Mode.DUAL_WRITE)
            approve_again(rig)
            across(rig, processes, 1, lambda job: flip_reads(job, 10, bounds=FEW), Mode.DYNAMODB_READS)
            across(rig, processes, 2, lambda job: flip_reads(job, 100, bounds=FEW), Mode.DYNAMODB_READS)
            across(rig, processes, 0, lambda job: begin_dual_write(job, COMPARED), Mode.DUAL_WRITE)
            across(rig, processes, 1, lambda job: back_to(job, Mode.MONGO_ONLY, "as rehearsed"), Mode.MONGO_ONLY)
            ready_to_switch(rig, processes)
        refusal = r"1 instance\(s\) have not acknowledged.*as it was before"
        with frozen_at_the_change(processes, 3, hold), pytest.raises(HoldFailed, match=refusal):
            change_leader(rig, back=False)
        assert (read_mode(rig.ledger).mode, recorded_fence(rig.ledger)[0]) == (Mode.DYNAMODB_READS, Recorded.DOWN)
        processes.await_more(3)
        await_lease_over(rig, processes, 3)
        with frozen_in_hold(rig, processes, 4):
            change_leader(rig, back=False)
        processes.await_more(3)
        processes.release(4)
        processes.release(3)
        processes.await_more()
        with Returning(rig):
            require_equal(rig)
        approve(rig, approvals.FINALIZE)
        across(rig, processes, 2, lambda job: finalize_it(rig, job), Mode.FINAL, rollback)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_only_frozen_failed(replayed, {2, 3, 4}, longest=3)


def finalize_it(rig: Rig, job: Job) -> None:
    """It does not wait: a process that is frozen is behind, and named."""
    after = finalize(cutover_of(rig), ["watch"])  # 17 minutes are for other tests
    flip._await_acknowledgements(job, after)


def test_process_frozen_across_the_way_back_loses_nothing(own_stack: SandboxStack, tmp_path: Path) -> None:
    with faulty(own_stack, tmp_path, 4) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
        change_leader(rig, back=False)
        with Returning(rig):
            processes.await_more(3)
            processes.freeze(0)
            struck = instance_of(rig, processes, 0)
        with frozen_in_hold(rig, processes, 1):
            back = change_leader(rig, back=True)
        assert "1 of them sealed" in back.evidence, back
        assert next(one for one in list_instances(rig.ledger) if one.id == struck.id).struck
        eventually(lambda: time.time() * 1000 > struck.until_ms, "its lease to be over", LEASE_OVER_S, 0.1)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        processes.await_more(3)
        processes.release(0)
        processes.release(1)
        processes.await_more()
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_only_frozen_failed(replayed, {0, 1}, longest=0)


@pytest.mark.parametrize("fence", [Recorded.DOWN, Recorded.UP])
def test_switch_that_is_frozen_past_its_deadline_changes_nothing_when_it_wakes(
    own_stack: SandboxStack, tmp_path: Path, fence: Recorded
) -> None:
    with faulty(own_stack, tmp_path) as (rig, processes):
        with Victim(rig, tmp_path / "replicate.log", "replicate") as replicator:
            eventually(applied_by(rig, replicator), "the position to move", 60.0)
            ready_to_switch(rig, processes)
            with Victim(rig, tmp_path / "switch.log", "stop-mongo-writes") as switch:
                eventually(lambda: read_mode(rig.ledger).mode is Mode.HOLD, "writes to wait", 60.0, 0.005)
                eventually(lambda: recorded_fence(rig.ledger)[0] is fence, f"the fence to be {fence}", 20.0, 0.005)
                os.kill(switch.pid, signal.SIGSTOP)
                assert read_mode(rig.ledger).mode is Mode.HOLD, "it was too late"
                await_reads_again(rig, SOON["hold_s"] + FENCE_LEASE_S + 10.0)
                processes.await_more(3)
                os.kill(switch.pid, signal.SIGCONT)
                assert switch.wait(60) not in (0, None), switch.said()
                assert "Everything is as it was" in switch.said()
            await_reads_again(rig, 1.0)
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert {one.error for one in failures(replayed)} <= {"WritesHeld"}, replayed.verdict
