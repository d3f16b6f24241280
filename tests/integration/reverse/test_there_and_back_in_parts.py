"""Documents of 0.5, 5 and 15 MB that do not compress go to DynamoDB and back, under changes, and stay equal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from docferry.flows.replicate import follower as replicate
from docferry.rehearsal.independent import judge
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig
from support.replicate.compressed import (
    SIZES,
    compressing_shop,
    left_over,
    objects,
    parts,
    read_object,
    stored_parts,
)
from support.replicate.rig import Following, end, large
from support.reverse.application import Application, begin_here, follow_back
from support.validate.planting import MAKERS, user

pytestmark = pytest.mark.xdist_group("in_parts")


@pytest.fixture(params=["split", pytest.param("s3", marks=pytest.mark.cutover)])
def rig(request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("in_parts")
    with (
        SandboxReplicaSet(directory, cache_mb=1024, oplog_mb=990) as mongo,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(replicate, "READ_WAIT_S", 0.1)
        made = compressing_shop({**stack.env(), "DOCFERRY_MONGO_URI": mongo.uri()}, directory, request.param)
        for size in SIZES:
            made.database["products"].insert_one(MAKERS["products"](f"loaded {size}") | {"scan": large(size)})
        made.load()
        yield made
        end(made)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Beside the block, in a thread whose error is the block's."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()
    for error in failed:
        raise error


def require_same(rig: Rig) -> None:
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True, objects=partial(read_object, rig))
    assert found.counts == (0, 0, 0), found


def test_documents_of_many_megabytes_go_there_and_back_and_stay_equal(rig: Rig) -> None:
    users, products = rig.database["users"], rig.database["products"]

    def change() -> None:
        for size in SIZES:
            key = users.insert_one(user(f"made {size}")).inserted_id
            users.update_one({"_id": key}, {"$set": {"scan": large(size)}})
            users.update_one({"_id": key}, {"$set": {"username": f"moved {size}", "addresses.0.plan": large(450_000)}})
            products.update_one(
                {"sku": f"SKU-loaded {size}"}, {"$inc": {"price": 1}, "$set": {"scan": large(size + 1)}}
            )

    with Following(rig) as following, meanwhile(change) as work:
        work.join(60)
        following.await_all()
        users.update_one({"username": f"moved {SIZES[0]}"}, {"$unset": {"scan": ""}})
        users.delete_one({"username": f"moved {SIZES[1]}"})
        following.await_all()
    assert following.report is not None
    assert following.report.dead == 0
    require_same(rig)
    assert left_over(rig) == set()

    begin_here(rig)
    application = Application(rig, 1)
    made = {one["username"]: one for (name, _), one in application.live.items() if name == "users"}

    def write() -> None:
        for size in SIZES:
            new = user(f"new {size}")
            application.change("users", None, new)
            application.change("users", new, new | {"scan": large(size)})
        for name, document in made.items():
            application.change("users", document, document | {"scan": large(SIZES[0] + 2), "username": f"back {name}"})

    with meanwhile(write) as work:
        while work.is_alive():
            assert follow_back(rig).dead == 0
    assert follow_back(rig).dead == 0
    require_same(rig)
    if rig.migration.target.objects:
        assert parts(rig) == []
        assert len(objects(rig)) == len(stored_parts(rig)) > len(SIZES)
    else:
        assert len(parts(rig)) > 2 * SIZES[2] // 400_000
