"""MongoDB fails over while writes wait: DynamoDB leads in the end, or everything goes back; the mode is never in between, the
fence does not get lost with the primary, and no write does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bson import ObjectId
from docferry.core.cutover.modes import Mode
from docferry.errors import HoldFailed
from docferry.flows.cutover import hold, to_dynamodb
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig
from support.client.drill import Processes, change_leader
from support.client.faulty import (
    SOON,
    approve_again,
    assert_nothing_failed,
    assert_nothing_lost,
    faulty,
    judge,
    ready_to_switch,
)
from support.client.rig import outcome
from support.replicate.rig import Following

pytestmark = pytest.mark.cutover

HOLD = {"hold_s": 12.0, "drain_s": 6.0}
LIFTED_WITHIN_S = 30.0
"""How much later than its deadline a hold has gone back: a new primary must be there to lift the fence."""
A_MOMENT_S = 3.0
"""How much later than its deadline a hold may have gone back on a busy machine."""
Place = tuple[ModuleType, str]
BEFORE_THE_FENCE: Place = (hold, "wait_for_acknowledgements")
ACKNOWLEDGED: Place = (to_dynamodb, "fence")
BEHIND_THE_FENCE: Place = (to_dynamodb, "require_quiet")


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    with SandboxStack(members=3) as stack:
        yield stack


def killed(mongo: SandboxReplicaSet) -> Callable[[], None]:
    """The primary dies; what makes it come back."""
    primary = mongo.primary()
    mongo.kill(primary)

    def start() -> None:
        mongo.start(primary)
        mongo.wait_until_healthy()

    return start


def stepped_down(mongo: SandboxReplicaSet) -> Callable[[], None]:
    mongo.step_down()
    return mongo.wait_until_healthy


def switch_with(
    fault: Callable[[], Any], place: Place, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> tuple[HoldFailed | None, float]:
    """Change the leader, with a fault where the switch calls the function of that name for the first time. The error, if it
    went back, and how long it took from the fault on."""
    original = getattr(*place)
    happened: list[float] = []

    def faulty_call(*arguments: Any) -> Any:
        if not happened:
            assert read_mode(rig.ledger).mode is Mode.HOLD
            happened.append(time.monotonic())
            fault()
        return original(*arguments)

    failed = None
    with monkeypatch.context() as patch:
        patch.setattr(*place, faulty_call)
        try:
            change_leader(rig, back=False)
        except HoldFailed as error:
            failed = error
    assert happened, f"the switch did not come to {place[1]}: {failed}"
    return failed, time.monotonic() - happened[0]


def app_is_fenced(stack: SandboxStack, rig: Rig) -> bool:
    """MongoDB itself says so, whatever the ledger does."""
    name = f"stray-{uuid.uuid4().hex[:6]}"
    with stack.mongo.client("app") as client:
        users = client[rig.database.name]["users"]
        found = outcome(lambda: users.insert_one({"_id": ObjectId(), "username": name}))
        if isinstance(found, dict):
            users.delete_one({"username": name})
            return False
    assert found in (("WriteError", 371), ("OperationFailure", 13)), found
    return True


def assert_whole(stack: SandboxStack, rig: Rig, failed: HoldFailed | None) -> None:
    """It went ahead and MongoDB is fenced, or it went back and it is not."""
    mode, fence = read_mode(rig.ledger).mode, recorded_fence(rig.ledger)[0]
    assert failed is None or failed.stuck == "", failed
    expected = (Mode.DYNAMODB_ONLY, Recorded.UP) if failed is None else (Mode.DYNAMODB_READS, Recorded.DOWN)
    assert (mode, fence) == expected
    assert app_is_fenced(stack, rig) is (failed is None)


def return_to_reads(rig: Rig, processes: Processes) -> None:
    """From wherever it has gone, to where it can be switched again."""
    if read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY:
        processes.await_more(3)
        change_leader(rig, back=True)
    with Following(rig) as following:
        following.await_all()
        if read_mode(rig.ledger).mode is Mode.MONGO_ONLY:
            ready_to_switch(rig, processes)
        approve_again(rig)


def test_primary_that_fails_while_writes_wait_loses_nothing(
    own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo = own_stack.mongo
    with faulty(own_stack, tmp_path, cutover=HOLD) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
        went: list[str] = []
        for fault, place in ((killed, BEFORE_THE_FENCE), (stepped_down, BEHIND_THE_FENCE), (killed, BEHIND_THE_FENCE)):
            mended: list[Callable[[], None]] = []
            failed, took_s = switch_with(lambda: mended.append(fault(mongo)), place, rig, monkeypatch)  # noqa: B023
            went.append(f"{fault.__name__} in {place[1]}: {failed or 'went ahead'}, {took_s:.1f} s")
            assert took_s < HOLD["hold_s"] + LIFTED_WITHIN_S
            mended[0]()
            assert_whole(own_stack, rig, failed)
            return_to_reads(rig, processes)
        print(*went, sep="\n")
        change_leader(rig, back=False)
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_nothing_failed(replayed)


@pytest.mark.parametrize(
    "fence", [{"fence": "write_block"}, {"fence": "revoke", "app_users": ["app"]}], ids=lambda one: one["fence"]
)
def test_hold_goes_back_by_its_deadline_when_there_is_no_majority_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fence: dict[str, Any]
) -> None:
    """Two members with data and an arbiter, and one of the two dies: there is a primary, and nothing that it does is safe."""
    settings = SOON | fence
    with (
        SandboxStack(members=2, mongo={"arbiter": True}) as stack,
        faulty(stack, tmp_path, cutover=settings) as (rig, processes),
    ):
        mongo = stack.mongo
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
        (down,) = mongo.secondaries()
        failed, took_s = switch_with(lambda: mongo.kill(down), ACKNOWLEDGED, rig, monkeypatch)
        went_back = read_mode(rig.ledger).mode
        print(f"{failed}, {took_s:.1f} s")
        mongo.start(down)  # before anything may fail: nothing can be put away without a majority
        mongo.wait_until_healthy()
        assert failed is not None, "DynamoDB leads, and it cannot have been known that MongoDB had everything"
        assert failed.stuck == ""
        assert went_back is Mode.DYNAMODB_READS
        assert took_s < SOON["hold_s"] + A_MOMENT_S
        processes.await_more(5)
        return_to_reads(rig, processes)
        change_leader(rig, back=False)
        assert_whole(stack, rig, None)
        processes.await_more(5)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed)
    assert_nothing_failed(replayed)
