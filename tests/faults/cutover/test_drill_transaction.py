"""A client without the library holds a transaction open across the fence: it is out-waited, or killed if the file
allows, or everything goes back; what it committed is in DynamoDB, and reads go on all the while.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry.core.cutover.modes import Mode
from docferry.errors import HoldFailed
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxStack
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from support.backfill.rig import Rig, eventually
from support.client.drill import change_leader
from support.client.faulty import (
    SOON,
    approve_again,
    assert_nothing_failed,
    assert_nothing_lost,
    faulty,
    judge,
    ready_to_switch,
)
from support.replicate.rig import Following

pytestmark = pytest.mark.cutover

NO_SUCH_TRANSACTION = 251
"""Source: mongo/src/mongo/base/error_codes.yml (6.0)."""
LONGEST_PAUSE_S = 4.0
"""Between two reads of a process. One attempt at the fence holds readers up for a second at most."""


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """The write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        yield stack


@contextmanager
def transaction(rig: Rig, stack: SandboxStack, name: str) -> Iterator[ClientSession]:
    """A foreign one, open, that has inserted the user of that name."""
    with stack.mongo.client("app") as client, client.start_session() as session:
        session.start_transaction()
        users = client[rig.database.name]["users"]
        users.insert_one({"_id": ObjectId(), "username": name, "visits": 1, "addresses": []}, session=session)
        yield session


def in_dynamodb(rig: Rig, name: str) -> bool:
    key = {"PK": {"S": f"USER#{name}"}, "SK": {"S": "PROFILE"}}
    return "Item" in rig.dynamodb.get_item(TableName=rig.table, Key=key, ConsistentRead=True)


def as_before(rig: Rig) -> bool:
    mode = read_mode(rig.ledger)
    return (mode.mode, mode.percent, recorded_fence(rig.ledger)[0]) == (Mode.DYNAMODB_READS, 100, Recorded.DOWN)


def commit_in_hold(rig: Rig, session: ClientSession) -> threading.Thread:
    """Commit it once the fence is in the making: what it wrote must go over with the rest."""

    def work() -> None:
        eventually(lambda: recorded_fence(rig.ledger)[0] is Recorded.RAISING, "the fence to be raised", 30.0)
        session.commit_transaction()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_open_transaction_is_out_waited_and_what_it_commits_goes_over(own_stack: SandboxStack, tmp_path: Path) -> None:
    with faulty(own_stack, tmp_path) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
        with transaction(rig, own_stack, "held-too-long"):
            with pytest.raises(HoldFailed, match=r"transaction") as failed:
                change_leader(rig, back=False)
            assert failed.value.stuck == ""
            assert as_before(rig)
            processes.await_more(5)
        with transaction(rig, own_stack, "committed-in-hold") as session:
            committing = commit_in_hold(rig, session)
            change_leader(rig, back=False)
            committing.join(30)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        assert in_dynamodb(rig, "committed-in-hold"), "an acknowledged write of a foreign transaction is lost"
        assert not in_dynamodb(rig, "held-too-long"), "a write that was never committed has come over"
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_nothing_failed(replayed)
    assert max(replayed.verdict.pauses_s) < LONGEST_PAUSE_S, replayed.verdict


def test_open_transaction_is_killed_if_the_file_allows_and_its_commit_is_refused(
    own_stack: SandboxStack, tmp_path: Path
) -> None:
    settings: dict[str, Any] = SOON | {"kill_transactions": True}
    with faulty(own_stack, tmp_path, cutover=settings) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
            approve_again(rig)
        with transaction(rig, own_stack, "killed") as session:
            change_leader(rig, back=False)
            with pytest.raises(OperationFailure) as refused:
                session.commit_transaction()
            assert refused.value.code == NO_SUCH_TRANSACTION
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        assert not in_dynamodb(rig, "killed")
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_nothing_failed(replayed)
    assert max(replayed.verdict.pauses_s) < LONGEST_PAUSE_S, replayed.verdict
