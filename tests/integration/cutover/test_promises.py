"""The core of a change of leader, in a minute: what fails goes back, the fence is lifted with it, and the way back is proved."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from docferry import wiring
from docferry.core.cutover.instances import INSTANCES
from docferry.core.cutover.journal import EntryKind, LaneName
from docferry.core.cutover.modes import Mode
from docferry.errors import FenceFailed, HoldFailed
from docferry.flows.cutover import hold_watch as guard
from docferry.flows.fence.fence import fence
from docferry.flows.ledger.modes import change_mode, mode_record
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.cutover.switching import (
    READS,
    as_before,
    gone_like,
    job_of,
    own_stack,
    quick,
    ready,
    rig,
    switch,
    switch_back,
)

__all__ = ["own_stack", "rig"]


def test_transaction_that_keeps_the_fence_down_is_named_and_everything_goes_back(
    rig: Rig, own_stack: SandboxStack
) -> None:
    with wiring.connect(rig.file) as manager, own_stack.mongo.client("app") as app, app.start_session() as session:
        ready(rig)
        with session.start_transaction():
            app[rig.migration.source.database]["orders"].find_one({}, session=session)
            with pytest.raises((HoldFailed, FenceFailed), match="transaction"):
                switch(rig, quick(rig))
            session.abort_transaction()
        as_before(rig, manager)


def test_difference_that_is_found_while_writes_wait_sends_everything_back(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        ready(rig)
        counts: Any = lambda: manager.get_metrics()["counts"]  # noqa: E731
        change = {"$set": {"status": "idle"}, "$inc": {"visits": 1}}
        eventually(  # what replication must still write would mend what is planted
            lambda: manager["users"].update_one({"username": "users-0"}, change) and counts().get("dual_put.written"),
            "a dual put to be written",
        )
        key = {"PK": {"S": "USER#users-0"}, "SK": {"S": "PROFILE"}}

        def plant() -> None:
            rig.dynamodb.update_item(
                TableName=rig.table, Key=key, UpdateExpression="SET #s = :x", ExpressionAttributeNames={"#s": "status"},
                ExpressionAttributeValues={":x": {"S": "wrong"}},
            )  # fmt: skip

        plant()
        with pytest.raises(HoldFailed, match=r"1 difference\(s\).*users .*status"):
            switch(rig)
        as_before(rig, manager)


def test_hold_that_nobody_ends_is_put_back_by_whoever_watches(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        ready(rig)
        job, before = job_of(rig), mode_record(rig.ledger)
        held = READS.hold(Mode.DYNAMODB_ONLY, int(time.time() * 1000) + 300)
        change_mode(rig.ledger, before, replace(held, epoch=2), job.identity, "and then it died")
        fence(job, 5.0)
        assert guard.watch_hold(job, 10.0)
        as_before(rig, manager)


def test_vanished_instance_with_a_journal_is_sealed_and_not_out_waited(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        ready(rig)
        switch(rig)
        gone = gone_like(rig, manager)
        rig.ledger.write(INSTANCES, "gone", gone.to_body(), expect=None)
        assert switch_back(rig).after == "MONGO_ONLY"
        slots = [rig.journal.read(LaneName("gone", lane), 0, 10) for lane in range(gone.lanes)]
        assert [[entry.kind for _, entry in found] for found in slots] == [[EntryKind.SEAL]] * gone.lanes
