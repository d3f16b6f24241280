"""A rollback point over live data, on real servers: never without the sentence, never where the mode forbids it, and then only
what differs is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import MaxKey, MinKey
from docferry.client.membership import Membership
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import MoveRefused, PreflightFailed, Stopped, ValidationFailed
from docferry.flows.rollback_points import dump as points_dump
from docferry.flows.rollback_points import restore_over_live as points_over
from docferry.flows.rollback_points.job import list_points
from docferry.flows.rollback_points.make import make_point
from docferry.flows.rollback_points.restore import restore_beside
from docferry.flows.rollback_points.restore_over_live import plan_over_live, restore_over_live
from docferry.sandbox import SandboxStack
from docferry.wiring import who
from pymongo import MongoClient
from support.backfill.rig import Rig
from support.client.rig import set_mode
from support.replicate.following import follow
from support.replicate.rig import live_shop
from support.rollback_points.rig import (
    change_file,
    contents,
    end,
    fill_plainly,
    points_rig,
    shapes,
    while_reading,
    work,
)
from support.validate.planting import MAKERS, validate, with_target

pytestmark = [pytest.mark.cutover, pytest.mark.xdist_group("points")]


@pytest.fixture(scope="module")
def restored(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A point `first`, restored beside."""
    made = points_rig(stack, tmp_path_factory.mktemp("points"), plain=True)
    made.database["users"].insert_many([{"_id": MinKey(), "n": -1}, {"_id": MaxKey(), "n": -2}, {"_id": "x", "n": -3}])
    make_point(work(made), "first")
    restore_beside(work(made), "first")
    yield made
    end(made)


@pytest.fixture
def rig(restored: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The live data has changed since: 4 made, 3 changed, 2 deleted. Pages are small."""
    monkeypatch.setattr(points_dump, "PAGE", 7)
    monkeypatch.setattr(points_over, "PAGE", 7)
    monkeypatch.setattr(points_over, "LOOK_S", 0.0)
    set_mode(restored, ModeState())
    restored.mongo.drop_database(restored.database.name)
    fill_plainly(restored.database)
    users = restored.database["users"]
    users.insert_many([{"_id": MaxKey(), "n": -2.0}, {"_id": "x", "n": -3}])
    users.delete_one({"_id": 12})
    users.update_one({"_id": 3}, {"$set": {"n": 1_000}})
    users.update_one({"_id": 4}, {"$set": {"n": 3}})
    users.update_one({"_id": 3}, {"$set": {"n": 4}})  # a unique value that two have exchanged
    users.insert_many([{"_id": one, "n": one} for one in (0.5, 29.5, "z")] + [{"_id": "later", "n": 12}])
    return restored


def beside(rig: Rig) -> Any:
    return rig.mongo[f"{rig.migration.source.database}_restored_first"]


def sentence(rig: Rig) -> str:
    return plan_over_live(work(rig), "first").sentence


def refusal(rig: Rig) -> str:
    before = contents(rig.database)
    with pytest.raises(PreflightFailed) as refused:
        restore_over_live(work(rig), "first", "restore first")
    assert contents(rig.database) == before
    return str(refused.value)


def test_live_data_is_restored_only_with_the_sentence_that_says_what_is_lost_now(rig: Rig) -> None:
    before = contents(rig.database)
    plan = plan_over_live(work(rig), "first")
    told = f"restore first over {rig.migration.source.database} in MONGO_ONLY: of 95 documents 4 are lost and 3 go back to "
    assert plan.sentence.startswith(told)
    assert "; 2 deleted since then come back (" in plan.sentence
    assert contents(rig.database) == before
    for wrong in ("", plan.sentence + "!", plan.sentence.replace("4 are lost", "3 are lost")):
        with pytest.raises(PreflightFailed, match="--confirm"):
            restore_over_live(work(rig), "first", wrong)
    rig.database["users"].insert_one({"_id": "newest", "n": 77})
    with pytest.raises(PreflightFailed, match=r"is not what is true now.*of 96 documents 5 are lost"):
        restore_over_live(work(rig), "first", plan.sentence)
    rig.database["users"].delete_one({"_id": "newest"})
    assert contents(rig.database) == before
    assert sentence(rig) == plan.sentence
    lost = next(
        one for one in rig.database["users"].find() if beside(rig)["users"].find_one({"_id": one["_id"]}) is None
    )
    rig.database["users"].delete_one({"_id": lost["_id"]})
    rig.database["users"].insert_one({"_id": "as many as before, and another", "n": 78})
    with pytest.raises(PreflightFailed, match=r"is not what is true now.*of 95 documents 4 are lost"):
        restore_over_live(work(rig), "first", plan.sentence)
    rig.database["users"].delete_one({"_id": "as many as before, and another"})
    rig.database["users"].insert_one(lost)

    restore_over_live(work(rig), "first", plan.sentence)
    assert contents(rig.database) == contents(beside(rig))
    assert "of 93 documents 0 are lost and 0 go back" in sentence(rig)


def test_only_what_differs_is_written_and_what_the_point_does_not_hold_stays(rig: Rig) -> None:
    rig.database["since"].insert_one({"_id": 1})
    rig.database["categories"].drop()
    rig.database["users"].drop_index("n_1")
    rig.database["users"].create_index("m")
    plan = plan_over_live(work(rig), "first")
    assert plan.left == ("since",)
    began = rig.mongo.admin.command("ping")["operationTime"]
    restore_over_live(work(rig), "first", plan.sentence)
    oplog = rig.mongo["local"]["oplog.rs"].find(
        {"ts": {"$gt": began}, "ns": {"$regex": f"^{rig.database.name}[.](users|clustered)"}}
    )
    kinds = [one["op"] for one in oplog]
    assert (kinds.count("d"), kinds.count("i"), len(kinds)) == (7, 5, 12)
    assert rig.database["since"].count_documents({}) == 1
    assert contents(rig.database)["categories"] == contents(beside(rig))["categories"]
    assert {index["name"] for index in shapes(rig.database)["users"][2]} == {"_id_", "n_1", "m_1"}


def test_restore_that_is_stopped_half_way_says_so_and_is_run_again(rig: Rig) -> None:
    confirmed = sentence(rig)
    job = work(rig)
    began = rig.database["users"].count_documents({})

    class Stops:
        def is_set(self) -> bool:
            return bool(rig.database["users"].count_documents({}) < began)

    with pytest.raises(Stopped):
        restore_over_live(work(rig, stop=Stops()), "first", confirmed)
    assert list_points(job.ledger).half == ((rig.migration.source.database, "first"),)
    assert contents(rig.database) != contents(beside(rig))
    with pytest.raises(PreflightFailed, match="is not what is true now"):
        restore_over_live(job, "first", confirmed)
    restore_over_live(job, "first", sentence(rig))
    assert contents(rig.database) == contents(beside(rig))
    assert list_points(job.ledger).half == ()


def test_replication_follows_what_is_restored_over_live_data(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points_over, "LOOK_S", 0.0)
    shop = live_shop(stack.env(), tmp_path)
    change_file(shop, {"to": str(tmp_path / "points")})
    with_target(shop, lambda target: follow(shop, target))
    before = shop.scan()
    make_point(work(shop), "first")
    shop.database["users"].delete_one({"username": "users-0"})
    shop.database["products"].update_many({}, {"$set": {"stock": 0}})
    shop.database["orders"].insert_one(MAKERS["orders"]("new"))
    with_target(shop, lambda target: follow(shop, target))
    restore_beside(work(shop), "first")
    restore_over_live(work(shop), "first", plan_over_live(work(shop), "first").sentence)
    with_target(shop, lambda target: follow(shop, target))
    assert validate(shop).ok
    alive = {key for key, item in shop.scan().items() if "_deleted" not in item}
    assert alive == set(before)
    end(shop)


@pytest.mark.parametrize("mode", [Mode.DUAL_WRITE, Mode.DYNAMODB_READS, Mode.HOLD, Mode.DYNAMODB_ONLY])
def test_mode_in_which_somebody_counts_on_mongodb_forbids_it(rig: Rig, mode: Mode) -> None:
    set_mode(rig, ModeState(mode=mode, epoch=1, percent=100, behind=Mode.DYNAMODB_READS, ahead=Mode.DYNAMODB_ONLY))
    assert f"mode: is {mode}" in refusal(rig)


@pytest.mark.parametrize("every_s", [0.0, 60.0], ids=["at work", "at the end"])
def test_mode_that_changes_meanwhile_ends_it(rig: Rig, every_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_over, "MODE_S", every_s)
    confirmed = sentence(rig)

    changed: list[str] = []

    def change(collection: str) -> None:
        if not changed and list_points(rig.ledger).half:
            set_mode(rig, ModeState(mode=Mode.DUAL_WRITE, epoch=9))
            changed.append(collection)

    with pytest.raises(MoveRefused, match="half restored"):
        restore_over_live(while_reading(work(rig), change), "first", confirmed)


def test_final_leaves_mongodb_to_whoever_restores_it(rig: Rig) -> None:
    set_mode(rig, ModeState(mode=Mode.FINAL, epoch=3))
    plan = plan_over_live(work(rig), "first")
    assert " in FINAL: " in plan.sentence
    restore_over_live(work(rig), "first", plan.sentence)
    assert contents(rig.database) == contents(beside(rig))


def test_running_application_forbids_it_with_the_client_or_without(rig: Rig) -> None:
    membership = Membership(lambda: rig.ledger, lambda: who("shop"), region="us-east-1")
    membership.join()
    with MongoClient[Any](rig.env["DOCFERRY_APP_MONGO_URI"], appname="batch") as client:
        client[rig.migration.source.database]["users"].find_one()
        told = refusal(rig)
    membership.leave()
    assert "is running and served from MongoDB" in told
    assert "batch, user admin.app" in told


def test_database_beside_that_was_changed_or_is_of_something_else_is_no_source(rig: Rig) -> None:
    beside(rig)["users"].update_one({"_id": 1}, {"$set": {"n": 1.0}})
    told = refusal(rig)
    beside(rig)["users"].update_one({"_id": 1}, {"$set": {"n": 1}})
    assert "users: has been changed since it was restored" in told
    beside(rig)["mine"].insert_one({})
    told = refusal(rig)
    beside(rig)["mine"].drop()
    assert "mine: is not of the point" in told
    with pytest.raises(PreflightFailed, match="holds no finished restore of first"):
        plan_over_live(work(rig), "first", "elsewhere")


def test_unique_index_that_the_point_has_not_is_named_before_anything_is_deleted(rig: Rig) -> None:
    rig.database["clustered"].create_index("n", unique=True)
    rig.database["categories"].drop_index("n_1")
    rig.database["categories"].create_index("n", unique=True)
    told = refusal(rig)
    assert "categories.n_1: is unique, and the point has no such unique index" in told
    assert "clustered.n_1: is unique" in told


def test_somebody_who_writes_meanwhile_is_told_of_at_the_end(rig: Rig) -> None:
    confirmed = sentence(rig)
    job = work(rig)

    def write(collection: str) -> None:
        if list_points(rig.ledger).half:
            rig.database["users"].update_one({"_id": 20}, {"$set": {"late": time.monotonic_ns()}})

    with pytest.raises(ValidationFailed, match="Does another program write"):
        restore_over_live(while_reading(job, write), "first", confirmed)


def test_snapshot_of_others_cannot_be_restored_over_live_data(rig: Rig, tmp_path: Path) -> None:
    before = rig.migration
    change_file(rig, {"method": "snapshot"})
    (tmp_path / "cold").write_text("data")
    make_point(work(rig), "cold", str(tmp_path / "cold"))
    rig.migration = before
    with pytest.raises(PreflightFailed, match="docferry cannot read it"):
        plan_over_live(work(rig), "cold")
