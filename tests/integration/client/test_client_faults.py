"""The client while something is down: DynamoDB is silent, the ledger cannot be reached, a fence is up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from docferry import wiring
from docferry.client import DualWriteManager
from docferry.errors import LeaderUnknown
from docferry.sandbox import SandboxStack
from pymongo.errors import OperationFailure
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, connected, set_mode
from support.replicate.rig import Following, end, live_shop
from support.validate.planting import require_equal

pytestmark = pytest.mark.cutover


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """It is stopped and continued."""
    with SandboxStack() as stack:
        yield stack


@pytest.fixture
def rig(own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = live_shop(own_stack.env(), tmp_path)
    connected(made, monkeypatch, own_stack)
    yield made
    end(made)


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


def write(manager: DualWriteManager, number: int) -> float:
    """How long it took."""
    began = time.monotonic()
    assert manager["users"].update_one({"username": "users-0"}, {"$set": {"n": number}}).matched_count == 1
    return time.monotonic() - began


def may_write(manager: DualWriteManager) -> bool:
    try:
        write(manager, 2)
    except LeaderUnknown:
        return False
    return True


def test_silent_dynamodb_fails_no_request_while_mongodb_leads_and_is_healed(rig: Rig, own_stack: SandboxStack) -> None:
    set_mode(rig, MODES["DYNAMODB_READS 100"])
    with wiring.connect(rig.file) as manager:
        write(manager, 0)
        with silent(own_stack):
            took = [write(manager, number) for number in range(1, 12)]
            read = manager["users"].find_one({"username": "users-0"})
        assert read is not None
        assert read["n"] == 11
        assert max(took) < 4, took
        assert sorted(took)[len(took) // 2] < 0.5, "after some in a row it is not asked for a while"
        counts = manager.get_metrics()["counts"]
        assert sum(count for name, count in counts.items() if name.startswith("dual_put.failed")) > 0
    with Following(rig):
        require_equal(rig)


def test_process_without_ledger_may_not_write_while_dynamodb_leads(rig: Rig, own_stack: SandboxStack) -> None:
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    with wiring.connect(rig.file) as manager:
        write(manager, 0)
        manager._parts.membership._deadline = 0.0  # as if nothing had been heard for a lease
        with silent(own_stack), pytest.raises(LeaderUnknown):
            write(manager, 1)
        eventually(lambda: may_write(manager), "the ledger to be heard again")


def test_fenced_write_goes_by_the_next_mode_or_fails_as_mongodb_says(rig: Rig, own_stack: SandboxStack) -> None:
    set_mode(rig, MODES["DYNAMODB_READS 100"])
    with wiring.connect(rig.file) as manager, own_stack.mongo.client() as admin:
        write(manager, 0)
        admin.admin.command({"setUserWriteBlockMode": 1, "global": True})
        try:
            with pytest.raises(OperationFailure, match="User writes blocked"):
                write(manager, 1)
            set_mode(rig, replace(MODES["DYNAMODB_ONLY"], epoch=2))
            assert write(manager, 2) < 5
            found = manager["users"].find_one({"username": "users-0"})
            assert found is not None
            assert found["n"] == 2
        finally:
            admin.admin.command({"setUserWriteBlockMode": 1, "global": False})
