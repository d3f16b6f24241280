"""DynamoDB, and the ledger with it, is silent for half a minute (SIGSTOP), in one mode after the other and while writes wait:
requests fail only where DynamoDB leads, nothing is lost, and a hold that cannot finish goes back.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docferry.core.cutover.modes import Mode
from docferry.errors import HoldFailed
from docferry.flows.cutover import to_dynamodb as cutover
from docferry.flows.fence.quiet import require_quiet
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.ledger.modes import live_instances, read_mode, unacknowledged
from docferry.rehearsal.independent.history import Request
from docferry.sandbox import SandboxStack
from docferry.wiring import who
from support.backfill.rig import Rig, eventually
from support.client.drill import Processes, Returning, change_leader
from support.client.faulty import PATIENT, approve_again, assert_nothing_lost, failures, faulty, judge, ready_to_switch
from support.replicate.rig import Following

pytestmark = pytest.mark.cutover

SILENT_S = 30.0
UNANSWERED = frozenset(
    {"RetryExhausted", "TimedOut", "Unavailable", "LeaderUnknown", "WriteUnconfirmed", "LeaseLost", "WritesHeld"}
)
"""What a request may end with that DynamoDB alone could have answered."""


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """It is stopped and continued."""
    with SandboxStack() as stack:
        yield stack


@contextmanager
def silent(stack: SandboxStack) -> Iterator[None]:
    """DynamoDB takes connections, and answers nothing: the ledger's table, too."""
    pids = [one.pid for one in stack.aws.processes()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def stay_silent(stack: SandboxStack, while_silent: Callable[[], Any] = lambda: None) -> tuple[float, float]:
    """For half a minute. From when to when, on the histories' clock."""
    began = time.monotonic()
    with silent(stack):
        while_silent()
        time.sleep(max(0.0, began + SILENT_S - time.monotonic()))  # the fault itself is so long
    return began, time.monotonic()


def await_live(rig: Rig, number: int) -> None:
    """Every process has its lease again, and follows."""

    def live() -> bool:
        found = live_instances(rig.ledger, who())
        return len(found) == number and not unacknowledged(found, read_mode(rig.ledger).epoch)

    eventually(live, "every process to be there again", 30.0, 0.1)


def switch_while_silent(stack: SandboxStack, rig: Rig, patch: pytest.MonkeyPatch) -> HoldFailed | None:
    """Change the leader, and let DynamoDB fall silent when MongoDB is fenced. The error, if it went back."""
    original, started = require_quiet, threading.Event()

    def fenced(*arguments: Any) -> None:
        original(*arguments)
        started.set()
        eventually(paused.is_set, "DynamoDB to be silent")

    paused = threading.Event()

    def pause() -> None:
        assert started.wait(60)
        stay_silent(stack, paused.set)

    thread = threading.Thread(target=pause)
    thread.start()
    try:
        with patch.context() as patched:
            patched.setattr(cutover, "require_quiet", fenced)
            change_leader(rig, back=False)
    except HoldFailed as error:
        return error
    finally:
        thread.join(60)
    return None


def returned(rig: Rig, processes: Processes) -> None:
    """Reads come from DynamoDB, whatever has become of the switch."""
    with Following(rig) as following:
        following.await_all()
        if read_mode(rig.ledger).mode is Mode.MONGO_ONLY:
            ready_to_switch(rig, processes)
        approve_again(rig)


def test_silent_dynamodb_fails_no_request_while_mongodb_leads_and_puts_a_hold_back(
    own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(own_stack, tmp_path) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
            stay_silent(own_stack, lambda: processes.await_more(5))
            await_live(rig, 3)
            following.await_all()
            approve_again(rig)
        failed = switch_while_silent(own_stack, rig, monkeypatch)
        mode, fence = read_mode(rig.ledger).mode, recorded_fence(rig.ledger)[0]
        print(f"silent in HOLD: {failed or 'went ahead'}")
        assert (mode, fence) == (Mode.DYNAMODB_READS, Recorded.DOWN), failed
        await_live(rig, 3)
        processes.await_more(5)
        returned(rig, processes)
        change_leader(rig, back=False)
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    failed_requests = failures(replayed)
    assert all(one.about["mode"].startswith("HOLD") for one in failed_requests), replayed.verdict
    # A process that is cut off from the ledger asks the marker, which says in a hold that neither leads: nothing was written.
    assert {one.error for one in failed_requests} <= {"WritesHeld", "LeaderUnknown"}, replayed.verdict


def test_silent_dynamodb_that_leads_fails_requests_loudly_and_loses_nothing(
    own_stack: SandboxStack, tmp_path: Path
) -> None:
    with faulty(own_stack, tmp_path, cutover=PATIENT) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
        change_leader(rig, back=False)
        with Returning(rig):
            processes.await_more(5)
            began, ended = stay_silent(own_stack)
            await_live(rig, 3)
            processes.await_more(5)
        change_leader(rig, back=True)
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_only_then(failures(replayed), began, ended + 5.0)


def assert_only_then(failed: list[Request], began: float, ended: float) -> None:
    """They were on their way while no server answered; the others went well."""
    assert failed, "it was not silent"
    assert {one.error for one in failed} <= UNANSWERED, failed
    assert all(one.ended > began and one.began < ended for one in failed), failed
