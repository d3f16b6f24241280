"""In each mode a process of the application is killed (SIGKILL) in the middle of a write, and the replicator, too, and others
take their places: nothing that was acknowledged is lost, and no other process notices.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.flip import begin_dual_write, flip_reads
from docferry.flows.ledger.modes import list_instances, read_mode
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.drill import COMPARED, Processes, change_leader, flip_of
from support.client.faulty import FEW, approve_again, assert_nothing_failed, assert_nothing_lost, faulty, judge
from support.processes import Victim, applied_by

pytestmark = pytest.mark.cutover


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """The write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        yield stack


def replace_one(processes: Processes, number: int) -> None:
    """Kill a process in the middle of a write; another takes its place."""
    processes.freeze(number)
    processes.kill(number)
    processes.start()
    processes.await_more(3)


class Replicator:
    """`docferry replicate` or `docferry reverse`, which can be killed and started again."""

    def __init__(self, rig: Rig, command: str, directory: Path) -> None:
        self._rig, self._command, self._directory = rig, command, directory
        self._runs = 0
        self._start()

    def __enter__(self) -> Replicator:
        return self

    def __exit__(self, *_: object) -> None:
        self.victim.kill()

    def _start(self) -> None:
        self._runs += 1
        self.victim = Victim(self._rig, self._directory / f"{self._command}-{self._runs}.log", self._command)
        if self._command == "replicate":
            at_work: Callable[[], bool] = applied_by(self._rig, self.victim)
        else:
            at_work = self._follows
        eventually(at_work, f"{self._command} to be at work", 60.0)

    def _follows(self) -> bool:
        return self.victim.made(self._rig.ledger.read(*REVERSE))

    def kill(self) -> None:
        """SIGKILL, and another one."""
        assert self.victim.kill(), self.victim.said()
        self._start()


@contextmanager
def killed_in_hold(rig: Rig, processes: Processes, number: int) -> Iterator[None]:
    """Kill a process as soon as writes wait; another takes its place afterwards."""
    caught = threading.Event()

    def kill() -> None:
        eventually(lambda: read_mode(rig.ledger).mode is Mode.HOLD, "writes to wait", 60.0)
        os.kill(processes.pid(number), signal.SIGKILL)
        if read_mode(rig.ledger).mode is Mode.HOLD:
            caught.set()

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    killer.join(60)
    assert caught.is_set(), f"application {number} was not killed in HOLD"
    processes.kill(number)
    processes.start()
    processes.await_more(3)


def test_whoever_is_killed_in_each_mode_takes_nothing_along(own_stack: SandboxStack, tmp_path: Path) -> None:
    with faulty(own_stack, tmp_path, 4) as (rig, processes):
        with Replicator(rig, "replicate", tmp_path) as replicator:
            replace_one(processes, 0)
            replicator.kill()
            begin_dual_write(flip_of(rig), COMPARED)
            replace_one(processes, 1)
            replicator.kill()
            approve_again(rig)
            flip_reads(flip_of(rig), 100, bounds=FEW)
            replace_one(processes, 2)
            replicator.kill()
            with killed_in_hold(rig, processes, 3):
                there = change_leader(rig, back=False)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        with Replicator(rig, "reverse", tmp_path) as follower:
            processes.await_more(3)
            replace_one(processes, 4)
            follower.kill()
            processes.await_more(3)
            with killed_in_hold(rig, processes, 5):
                back = change_leader(rig, back=True)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        print(f"writes waited for {there.held_s:.1f} s, and on the way back for {back.held_s:.1f} s")
        assert "proved" in back.steps
        silent = [one for one in list_instances(rig.ledger) if one.epoch < back.epoch - 1]
        assert len(silent) >= 5, "killed, each before the hold; the one that was killed in it may have acknowledged"
        assert all(one.struck for one in silent)
        processes.await_more(3)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed, killed=[0, 1, 2, 3, 4, 5])
    assert_nothing_failed(replayed)
