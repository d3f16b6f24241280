"""The fence on a real MongoDB: what is open is waited for, reads go on, and what is taken comes back exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from docferry.core.cutover.fence_plan import FenceKind, FencePlan, FenceState, choose_fence
from docferry.core.settings import CutoverSettings
from docferry.errors import FenceBroken, FenceFailed, PreflightFailed
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.quiet import require_quiet
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.ports.flows import Fence
from docferry.sandbox import SandboxStack
from pymongo.errors import OperationFailure
from support.backfill.rig import eventually
from support.cutover.fence_rig import Rig
from support.place import TESTS

pytestmark = pytest.mark.cutover

READ_S = 1.5
BLOCK = FencePlan(kind=FenceKind.WRITE_BLOCK)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Rig]:
    with (
        SandboxStack(mongo={"parameters": {"ttlMonitorSleepSecs": "1"}}) as stack,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in stack.env().items():
            environment.setenv(name, value)
        rig = Rig(stack)
        yield rig
        rig.close()


@pytest.fixture
def rig(cluster: Rig) -> Iterator[Rig]:
    cluster.reset()
    yield cluster
    cluster.reset()


def refused(rig: Rig, collection: str = "users", database: str = "myapp") -> bool:
    """Whether the application may not write there."""
    try:
        rig.app[database][collection].insert_one({"by": "app"})
    except OperationFailure as error:
        if error.code not in (13, 371):  # Unauthorized, UserWritesBlocked
            raise
        return True
    return False


def test_port_is_what_the_adapter_is(rig: Rig) -> None:
    port: Fence = rig.fence
    facts = port.facts()
    assert facts.own_user == "admin.docferry"
    assert {user.id: (user.bypasses, user.writes) for user in facts.users} == {
        "admin.docferry": (True, True),
        "admin.app": (False, True),
    }
    assert (facts.scope.others, facts.scope.databases, facts.ttl) == ((), (), ())
    assert facts.write_block is FenceState.DOWN


# --- the write block -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrote", [False, True], ids=["read", "written"])
def test_open_transaction_is_out_waited_and_readers_never_wait_long(rig: Rig, wrote: bool) -> None:
    with rig.reading() as took:
        with rig.transaction(wrote=wrote, held_s=2.5) as outcome:
            report = fence(rig.job(), 10.0)
            up = time.monotonic()
        assert outcome["result"] == "committed"
        assert up > outcome["ended"]
    assert report.plan.kind is FenceKind.WRITE_BLOCK
    assert "nightly (user admin.app, 127.0.0.1:" in report.waited_for[0]
    assert len(took) > 50
    assert max(took) < READ_S
    assert refused(rig)
    rig.own["myapp"]["users"].insert_one({"by": "docferry"})
    require_quiet(rig.job(), report.time, report.plan)
    assert recorded_fence(rig.ledger) == (Recorded.UP, BLOCK, report.time)
    assert lift(rig.job()).lifted
    assert not refused(rig)


def test_deadline_passes_and_everything_is_as_before(rig: Rig) -> None:
    with rig.reading() as took, rig.transaction(wrote=True, held_s=20) as outcome:
        began = time.monotonic()
        with pytest.raises(FenceFailed, match="nightly") as caught:
            fence(rig.job(), 3.0)
        assert time.monotonic() - began < 5.5
        assert caught.value.taken_back
        assert "user admin.app" in caught.value.in_the_way[0]
        assert rig.fence.fence_state(BLOCK) is FenceState.DOWN
        assert not refused(rig)
    assert outcome["result"] == "committed"
    assert max(took) < READ_S
    assert recorded_fence(rig.ledger)[0] is Recorded.DOWN


def test_attempt_in_the_way_of_a_transaction_ends_within_a_second_and_leaves_nothing(rig: Rig) -> None:
    with rig.reading() as took, rig.transaction(wrote=False, held_s=20):
        for _ in range(3):
            with pytest.raises(Exception, match="block writes"):
                rig.fence.raise_fence(BLOCK)
            time.sleep(0.1)
        assert not refused(rig)
    assert max(took) < READ_S
    assert rig.fence.fence_state(BLOCK) is FenceState.DOWN


def test_transaction_is_killed_where_the_file_allows(rig: Rig) -> None:
    with rig.transaction(wrote=True, held_s=20) as outcome:
        report = fence(rig.job(kill_transactions=True), 6.0)
        assert report.killed >= 1
        assert refused(rig)
    assert "committed" not in outcome["result"]
    assert rig.own["myapp"]["users"].find_one({"_id": 1}) == {"_id": 1, "n": 0}


def test_write_block_stops_the_ttl_monitor(rig: Rig) -> None:
    users = rig.own["myapp"]["users"]
    users.create_index("at", expireAfterSeconds=0)
    assert rig.fence.facts().ttl == ("users",)
    users.insert_one({"_id": "expires", "at": datetime(2020, 1, 1, tzinfo=UTC)})
    eventually(lambda: users.find_one({"_id": "expires"}) is None, "the TTL monitor")
    report = fence(rig.job(), 10.0)
    users.insert_one({"_id": "stays", "at": datetime(2020, 1, 1, tzinfo=UTC)})
    passes = ttl_passes(rig)
    eventually(lambda: ttl_passes(rig) > passes + 2, "three more passes of the TTL monitor")
    assert users.find_one({"_id": "stays"})
    require_quiet(rig.job(), report.time, report.plan)


def ttl_passes(rig: Rig) -> int:
    return int(rig.own["admin"].command("serverStatus")["metrics"]["ttl"]["passes"])


def test_fence_outlives_the_primary(rig: Rig) -> None:
    fence(rig.job(), 10.0)
    rig.stack.mongo.step_down(1)
    assert refused(rig)


# --- revocation ------------------------------------------------------------------------------------------------------

REVOKE: dict[str, Any] = {"fence": "revoke", "app_users": ("app",)}


@pytest.fixture
def beside(rig: Rig) -> Rig:
    """The application also has a collection and a database that do not move."""
    rig.own["myapp"]["sessions"].insert_one({"_id": 1})
    rig.own["blog"]["posts"].insert_one({"_id": 1})
    return rig


def test_revocation_takes_the_writes_and_nothing_else_and_gives_back_exactly(beside: Rig) -> None:
    before = beside.roles()
    assert before == [("admin", "readWriteAnyDatabase")]
    with beside.reading() as took:
        report = fence(beside.job(app_users=("app",)), 10.0)
        assert report.plan.kind is FenceKind.REVOKE
        assert refused(beside, "users")
        assert refused(beside, "orders")
        assert not refused(beside, "sessions")
        assert not refused(beside, "posts", "blog")
        beside.own["myapp"]["users"].insert_one({"by": "docferry"})
        time.sleep(0.2)
    assert max(took) < READ_S
    assert beside.fence.fence_state(report.plan) is FenceState.UP
    require_quiet(beside.job(), report.time, report.plan)
    lift(beside.job())
    assert beside.roles() == before
    assert beside.custom_roles() == []
    assert not refused(beside)


def test_roles_of_a_user_of_another_database_come_back(rig: Rig) -> None:
    roles: list[Any] = [
        {"role": "readWrite", "db": "myapp"},
        {"role": "dbAdmin", "db": "myapp"},
        {"role": "read", "db": "blog"},
    ]
    rig.own["myapp"].command("createUser", "batch", pwd="secret", roles=roles)
    before = rig.roles("batch", "myapp")
    report = fence(rig.job(fence="revoke", app_users=("app", "myapp.batch")), 10.0)
    taken = {grant.user: grant.roles for grant in report.plan.grants}
    assert ("myapp", "readWrite") in taken["myapp.batch"]
    assert ("blog", "read") in rig.roles("batch", "myapp")
    assert ("myapp", "readWrite") not in rig.roles("batch", "myapp")
    lift(rig.job())
    assert rig.roles("batch", "myapp") == before


def test_running_update_is_out_waited_before_the_fence_counts(rig: Rig) -> None:
    def slow_update(client: Any) -> None:
        client["myapp"]["users"].update_many({"$where": "sleep(250) || true"}, {"$inc": {"n": 1}})

    with rig.background(slow_update):
        eventually(lambda: rig.own["myapp"]["users"].count_documents({"n": 1}) > 1, "the update to be under way")
        report = fence(rig.job(**REVOKE), 20.0)
        changed = rig.own["myapp"]["users"].count_documents({"n": 1})
    assert "update" in report.waited_for[0]
    assert "batch (user admin.app" in report.waited_for[0]
    assert changed == rig.own["myapp"]["users"].count_documents({"n": 1}) == 10
    require_quiet(rig.job(), report.time, report.plan)


def test_commit_of_a_transaction_is_out_waited_before_the_fence_counts(rig: Rig) -> None:
    with rig.transaction(wrote=True, held_s=1.5) as outcome:
        report = fence(rig.job(**REVOKE), 20.0)
        assert time.monotonic() > outcome["ended"]
    assert outcome["result"] == "committed"
    assert "transaction open" in report.waited_for[0]
    require_quiet(rig.job(), report.time, report.plan)


def test_revocation_that_is_late_gives_everything_back(rig: Rig) -> None:
    before = rig.roles()
    with rig.transaction(wrote=True, held_s=20) as outcome:
        with pytest.raises(FenceFailed, match="nightly"):
            fence(rig.job(**REVOKE), 1.0)
        assert rig.roles() == before
        assert not refused(rig)
    assert outcome["result"] == "committed"
    assert rig.custom_roles() == []


DIE = """
import os, signal, sys, threading
sys.path.insert(0, {tests!r})
from dataclasses import replace
import docferry.adapters.mongodb.fence as module
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.adapters.local.process import identity
from docferry.core.settings import CutoverSettings
from docferry.flows.fence.fence import fence
from docferry.testing.jobs import make_job
from support.backfill.rig import Quiet
from support.cutover.fence_rig import MIGRATION
import boto3

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

kind, at = sys.argv[1:]
# `_named` is called between granting the stand-in and revoking the roles.
setattr(module if at == "_named" else module.MongoFence, at, die)
job = make_job(
    migration=replace(MIGRATION, cutover=CutoverSettings(fence=kind, app_users=("app",))),
    fence=module.MongoFence(os.environ["DOCFERRY_MONGO_URI"], "myapp", "fenced", ["users", "orders"]),
    ledger=DynamoLedger(boto3.Session(region_name="us-east-1"), "FenceLedger", "fenced"),
    identity=identity("victim"), progress=Quiet(), stop=threading.Event(),
)
fence(job, 20.0)
"""


@pytest.mark.parametrize(
    ("kind", "at"),
    [("revoke", "_named"), ("revoke", "still_writing"), ("revoke", "mark_time"), ("write_block", "mark_time")],
)
def test_process_that_was_killed_before_it_recorded_the_fence_is_cleaned_up_after(rig: Rig, kind: str, at: str) -> None:
    before = rig.roles()
    script = DIE.format(tests=str(TESTS))
    command, env = [sys.executable, "-c", script, kind, at], {**os.environ, **rig.stack.env()}
    ran = subprocess.run(command, env=env, capture_output=True, timeout=60, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    recorded, plan, _ = recorded_fence(rig.ledger)
    assert (recorded, plan is not None) == (Recorded.RAISING, True)
    assert refused(rig) == (at != "_named")
    lifted = lift(rig.job())
    assert (lifted.was, lifted.lifted) == (Recorded.RAISING, True)
    assert rig.roles() == before
    assert rig.custom_roles() == []
    assert not refused(rig)


# --- which fence, by what the server says ----------------------------------------------------------------------------


def chosen(rig: Rig, **cutover: Any) -> Any:
    return choose_fence(rig.fence.facts(), CutoverSettings(**cutover))


def test_fence_is_chosen_by_what_the_cluster_holds(rig: Rig) -> None:
    assert chosen(rig) is FenceKind.WRITE_BLOCK
    rig.own["myapp"].command("create", "seen", viewOn="users", pipeline=[])
    assert chosen(rig) is FenceKind.WRITE_BLOCK
    rig.own["blog"]["posts"].insert_one({})
    assert "blog" in str(chosen(rig)[0])
    assert chosen(rig, app_users=("app",)) is FenceKind.REVOKE
    rig.own["myapp"]["users"].create_index("at", expireAfterSeconds=60)
    assert "TTL index" in str(chosen(rig, fence="revoke", app_users=("app",))[0])
    rig.own["myapp"].command("collMod", "users", index={"keyPattern": {"at": 1}, "expireAfterSeconds": 2**31 - 1})
    assert chosen(rig, app_users=("app",)) is FenceKind.REVOKE


def test_fence_is_chosen_by_who_may_write(rig: Rig) -> None:
    everything = {"resource": {"anyResource": True}, "actions": ["anyAction"]}
    rig.own["admin"].command("createRole", "sneaky", privileges=[], roles=["root"])
    rig.own["admin"].command("createRole", "almighty", privileges=[everything], roles=[])
    try:
        rig.own["admin"].command("createUser", "ops", pwd="secret", roles=["sneaky"])
        assert "admin.ops holds bypass" in str(chosen(rig)[0])
        assert "admin.ops may write" in str(chosen(rig, fence="revoke", app_users=("app",))[0])
        assert chosen(rig, app_users=("app", "ops")) is FenceKind.REVOKE
        assert chosen(rig, waived_writers=("ops",)) is FenceKind.WRITE_BLOCK
        with pytest.raises(PreflightFailed, match=r"admin\.ops"):
            fence(rig.job(), 5.0)
        rig.own["admin"].command("grantRolesToUser", "ops", roles=["almighty"])
        assert "over every resource" in str(chosen(rig, fence="revoke", app_users=("app", "ops"))[0])
    finally:
        rig.own["admin"].command("dropRole", "sneaky")
        rig.own["admin"].command("dropRole", "almighty")


def test_root_that_is_revoked_keeps_everything_but_the_writes(rig: Rig) -> None:
    rig.own["admin"].command("createUser", "ops", pwd="secret", roles=["root"])
    fence(rig.job(fence="revoke", app_users=("app", "ops")), 10.0)
    with rig.client_as("ops") as ops:
        assert ops["myapp"]["users"].find_one({"_id": 1})
        assert ops["admin"].command("serverStatus")["ok"]
        with pytest.raises(OperationFailure, match="not authorized"):
            ops["myapp"]["users"].insert_one({})
        lift(rig.job())
        ops["myapp"]["users"].insert_one({})
    assert rig.roles("ops") == [("admin", "root")]


# --- the proof -------------------------------------------------------------------------------------------------------


def test_writes_behind_the_fence_are_found_and_named(rig: Rig) -> None:
    since = rig.fence.mark_time()
    users = rig.app["myapp"]["users"]
    rig.own["myapp"]["users"].insert_one({"by": "docferry"})
    rig.own["myapp"]["users"].update_one({"_id": 2}, {"$set": {"secret": "x"}})
    rig.app["blog"]["posts"].insert_one({})
    users.find_one({})
    require_quiet(rig.job(), since, BLOCK)
    users.insert_one({"secret": "s3cr3t"})
    users.update_many({}, {"$inc": {"n": 1}})
    users.delete_one({"_id": 3})
    with rig.app.start_session() as session, session.start_transaction():
        rig.app["myapp"]["orders"].insert_one({"_id": "t"}, session=session)
        rig.app["blog"]["posts"].insert_one({}, session=session)
    rig.app["myapp"]["orders"].drop()
    found = [(one.operation, one.namespace, one.user) for one in rig.fence.writes_after(since)]
    assert found[0] == ("insert", "myapp.users", "admin.app")
    assert {one for one in found if one[0] == "update"} == {("update", "myapp.users", "")}  # no session, so no name
    assert found[-3:] == [
        ("delete", "myapp.users", "admin.app"),
        ("insert", "myapp.orders", "admin.app"),
        ("drop", "myapp.$cmd", ""),
    ]
    assert len(rig.fence.writes_after(since, limit=2)) == 2
    with pytest.raises(FenceBroken, match=r"insert in myapp\.users .* by admin\.app") as caught:
        require_quiet(rig.job(), since, BLOCK)
    assert "s3cr3t" not in str(caught.value)
    require_quiet(rig.job(), rig.fence.mark_time(), BLOCK)
