"""Where the stream ends: a collection dropped, renamed, the database dropped, images switched off.

It stops loudly, behind all that came before; and what its message says to do brings everything back to equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.errors import PreflightFailed, StreamEnded
from docferry.flows.backfill.again import begin_again
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.replicate import follower as replicate
from docferry.flows.validate.repair import RepairReport, repair
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from support.backfill.rig import Quiet, Rig
from support.replicate.rig import (
    Following,
    Ticking,
    assert_equal,
    end,
    follow,
    job_of,
    live_keys,
    live_shop,
    with_images,
)
from support.validate.planting import MAKERS, product

pytestmark = pytest.mark.xdist_group("replicate_ended")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "READ_WAIT_S", 0.1)
    monkeypatch.setattr("docferry.flows.validate.first_pass.SETTLE_S", 0.1)


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path)
    follow(made)
    yield made
    end(made)


def images(rig: Rig, name: str, enabled: bool) -> None:
    rig.database.command("collMod", name, changeStreamPreAndPostImages={"enabled": enabled})


def without_images(rig: Rig) -> None:
    """Some changes without images; then images are on again."""
    images(rig, "products", False)
    rig.database["products"].update_many({}, {"$set": {"note": "unseen"}})
    rig.database["products"].delete_one({})
    images(rig, "products", True)


def dropped(rig: Rig) -> None:
    rig.database["products"].drop()
    with_images(rig.database)
    rig.database["products"].insert_many([product("new"), product("newer")])


def renamed(rig: Rig) -> None:
    """Another collection takes the place of one."""
    rig.database["beside"].insert_many([product("from beside"), product("also")])
    rig.database["beside"].rename("products", dropTarget=True)
    with_images(rig.database)


def all_dropped(rig: Rig) -> None:
    rig.mongo.drop_database(rig.database.name)
    with_images(rig.database)
    for name, make in MAKERS.items():
        rig.database[name].insert_one(make("after all"))


def mend(rig: Rig) -> RepairReport:
    job = make_job(
        migration=rig.migration,
        source=job_of(rig).source,
        ledger=rig.ledger,
        identity=job_of(rig).identity,
        progress=Quiet(),
        stop=job_of(rig).stop,
    )

    async def work() -> RepairReport:
        target = rig.target()
        try:
            return await repair(job, target)
        finally:
            await target.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("what", "reason", "collections"),
    [
        (without_images, "images_missing", ("products",)),
        (dropped, "drop", ("products",)),
        (renamed, "rename", ("products",)),
        (all_dropped, "drop", ()),
    ],
)
def test_stream_ends_loudly_and_the_way_back_is_as_the_message_says(
    rig: Rig, what: Callable[[Rig], None], reason: str, collections: tuple[str, ...]
) -> None:
    before: Any = rig.database["users"].insert_one(MAKERS["users"]("before"))
    what(rig)
    for _ in range(2):
        with pytest.raises(StreamEnded) as caught:
            follow(rig)
        assert caught.value.reason == reason
        assert "backfill --again" in str(caught.value)
        assert "repair" in str(caught.value)
        assert ("USER#before", "PROFILE") in live_keys(rig), f"{before}: what came before is applied"
    record = rig.ledger.read(*REPLICATION)
    assert record is not None
    assert record.body["ended"] == str(caught.value)

    assert begin_again(rig.job(), collections) == list(collections or MAKERS)
    rig.load(*collections)
    rig.database["users"].insert_one(MAKERS["users"]("behind"))
    report = follow(rig)
    assert report.events == report.written + report.superseded + report.passed
    assert (report.passed > 0) == (reason == "images_missing")
    with Following(rig) as following, Ticking(rig):
        following.await_all()
        done = mend(rig)
    assert done.tombstones > 0
    assert_equal(rig)


def test_another_collection_loaded_again_does_not_pass_over_the_end(rig: Rig) -> None:
    dropped(rig)
    with pytest.raises(StreamEnded):
        follow(rig)
    begin_again(rig.job(), ["users"])
    rig.load("users")
    with pytest.raises(StreamEnded, match="products"):
        follow(rig)


def test_load_right_behind_a_rename_is_enough_where_nobody_else_writes(rig: Rig) -> None:
    """MongoDB's time has not moved since then."""
    rig.database.create_collection("beside", changeStreamPreAndPostImages={"enabled": True}).insert_one(product("new"))
    rig.database["beside"].rename("products", dropTarget=True)
    begin_again(rig.job(), ["products"])
    rig.load("products")
    follow(rig)
    with Following(rig) as following, Ticking(rig):
        following.await_all()
        mend(rig)
    assert_equal(rig)


def test_drop_of_what_is_not_mapped_is_nothing(rig: Rig) -> None:
    rig.database["other"].insert_one({})
    rig.database["other"].rename("another")
    rig.database["another"].drop()
    rig.database["products"].insert_one(product("on"))
    assert follow(rig).events == 1
    assert_equal(rig)


def test_collection_made_anew_without_images_is_not_loaded_before_it_has_them(rig: Rig) -> None:
    """The load would be for nothing: the first change behind it could not be followed."""
    rig.database["products"].drop()
    rig.database["products"].insert_one(product("new"))
    with pytest.raises(PreflightFailed, match="products: has no change stream images"):
        follow(rig)
    with pytest.raises(PreflightFailed, match=r"products: has no change stream images.*provision"):
        begin_again(rig.job(), ["products"])
    with_images(rig.database)
    assert begin_again(rig.job(), ["products"]) == ["products"]


def test_collection_that_is_made_capped_is_refused_by_name_and_never_tried_again(rig: Rig) -> None:
    rig.database.command("convertToCapped", "products", size=1_000_000)
    with pytest.raises(PreflightFailed, match="products: is capped"):
        follow(rig)
    with pytest.raises(PreflightFailed, match="products: is capped"):
        begin_again(rig.job(), ["products"])
