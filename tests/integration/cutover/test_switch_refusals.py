"""What the switch refuses it refuses before writes wait, and the dry run says so; a rollback to dual writes stands alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.errors import PreflightFailed
from docferry.flows.cutover.hold import SwitchReport
from docferry.flows.cutover.phases import full_health
from docferry.flows.cutover.return_evidence import WITHOUT_VALIDATION
from docferry.flows.cutover.rollback import finalize, plan_finalize, plan_rollback, roll_back
from docferry.flows.cutover.to_dynamodb import require_ready
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.watch import Old, end_watch
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.rig import set_mode
from support.client.traffic import Traffic
from support.cutover.switching import (
    READS,
    approved,
    job_of,
    more,
    own_stack,
    quick,
    ready,
    reversing,
    rig,
    switch,
)
from support.replicate.rig import Following
from support.validate.planting import require_equal

__all__ = ["own_stack", "rig"]
pytestmark = pytest.mark.cutover


def test_rollback_to_dual_writes_needs_no_replicator_beside_it(rig: Rig) -> None:
    """While DynamoDB leads nobody replicates forward, so nobody does just behind the change of leader either."""

    async def back() -> SwitchReport:
        target = rig.target()
        try:
            return await roll_back(job_of(rig), target, Mode.DUAL_WRITE, (WITHOUT_VALIDATION,))
        finally:
            await target.close()

    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        with Following(rig):
            set_mode(rig, READS)
            more(traffic)
            require_equal(rig)
        approved(rig)
        switch(rig)
        more(traffic)
        began = time.monotonic()
        report = asyncio.run(back())
        assert time.monotonic() - began < 60
        assert (report.after, read_mode(rig.ledger).mode) == (Mode.DUAL_WRITE, Mode.DUAL_WRITE)
        more(traffic)
    assert traffic.errors == []


def test_what_the_dry_runs_allow_the_runs_do_there_and_back_and_there_to_the_end(rig: Rig) -> None:
    soon = replace(rig.migration.cutover, watch_s=1.0)
    rig.migration = replace(rig.migration, cutover=soon)

    async def back() -> SwitchReport:
        target = rig.target()
        try:
            return await roll_back(job_of(rig), target, Mode.MONGO_ONLY, ("watch",))
        finally:
            await target.close()

    def there() -> None:
        ready(rig)
        require_ready(job_of(rig))
        switch(rig)
        with reversing(rig):
            require_equal(rig)

    with wiring.connect(rig.file) as manager, Traffic(manager, writers=1) as traffic:
        there()
        assert "MongoDB leads" in plan_rollback(job_of(rig), Mode.MONGO_ONLY, ("watch",))
        assert asyncio.run(back()).after == "MONGO_ONLY"
        end_watch(rig.ledger, Old.DYNAMODB, "this test does not wait for it")
        there()
        evidence = approvals.evidence_of(rig.ledger).digest
        approvals.approve(rig.ledger, approvals.FINALIZE, evidence, "a manager", "the soak is over")
        assert "no way back" in plan_finalize(job_of(rig), ("watch",))
        assert finalize(job_of(rig), ("watch",)).mode is Mode.FINAL
        more(traffic, 10)
    assert traffic.errors == []


@contextmanager
def another_database(rig: Rig, stack: SandboxStack) -> Iterator[str]:
    rig.mongo["sample_analytics"]["accounts"].insert_one({})
    try:
        yield "the cluster also holds sample_analytics"
    finally:
        rig.mongo.drop_database("sample_analytics")


@contextmanager
def another_who_passes(rig: Rig, stack: SandboxStack) -> Iterator[str]:
    rig.mongo["admin"].command("createUser", "ops", pwd="ops", roles=["root"])
    try:
        yield "admin.ops holds bypassWriteBlockingMode"
    finally:
        rig.mongo["admin"].command("dropUser", "ops")


@contextmanager
def open_transaction(rig: Rig, stack: SandboxStack) -> Iterator[str]:
    with stack.mongo.client("app") as app, app.start_session() as session, session.start_transaction():
        app[rig.migration.source.database]["orders"].find_one({}, session=session)
        eventually(lambda: any(one.open_s > 3.2 for one in job_of(rig).fence.open_transactions()), "an old transaction")
        yield "would wait for"


@contextmanager
def blind_user(rig: Rig, stack: SandboxStack) -> Iterator[str]:
    """Writes to a collection of the migration, and sees nothing else: not who leads."""
    database = rig.migration.source.database
    orders = {"resource": {"db": database, "collection": "orders"}, "actions": ["find", "insert", "update", "remove"]}
    rig.mongo["admin"].command("createRole", "orders", privileges=[orders], roles=[])
    rig.mongo["admin"].command("createUser", "till", pwd="till", roles=["orders"])
    try:
        yield "user admin.till: may write to the migration's collections, and not read docferry.leader"
    finally:
        rig.mongo["admin"].command("dropUser", "till")
        rig.mongo["admin"].command("dropRole", "orders")


@contextmanager
def without_stream(rig: Rig, stack: SandboxStack) -> Iterator[str]:
    """The way back would have nothing to follow."""
    rig.dynamodb.update_table(TableName=rig.table, StreamSpecification={"StreamEnabled": False})
    try:
        yield "has no stream"
    finally:
        images = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        rig.dynamodb.update_table(TableName=rig.table, StreamSpecification=images)


@pytest.mark.parametrize(
    "refusing", [another_database, another_who_passes, open_transaction, blind_user, without_stream]
)
def test_dry_run_says_no_where_the_run_would_and_writes_never_wait(
    rig: Rig, own_stack: SandboxStack, refusing: Any
) -> None:
    with wiring.connect(rig.file) as manager:
        ready(rig)
        job = quick(rig)
        before = read_mode(rig.ledger)
        with refusing(rig, own_stack) as what:
            with pytest.raises(PreflightFailed, match=what):
                require_ready(job)
            assert what in full_health(job).parts["switch"].why
            with pytest.raises(PreflightFailed, match=what):
                switch(rig, job)
        assert read_mode(rig.ledger) == before
        require_ready(job)
        manager["users"].insert_one({"_id": "after", "username": "after"})
