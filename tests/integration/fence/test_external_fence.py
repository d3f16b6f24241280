"""A fence by the command for MongoDB Atlas, on a real MongoDB whose users a stand-in of Atlas's API changes, and on which
docferry's user may neither block writes nor take roles."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from docferry.adapters.local.fence_command import About, CommandFence, FenceCommand
from docferry.adapters.local.process import identity
from docferry.adapters.mongodb.fence import MongoFence
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.cutover.fence_plan import FenceKind
from docferry.core.settings import CutoverSettings, ExternalFence
from docferry.errors import FenceFailed, PreflightFailed
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.ready import describe_kinds, kinds_of_fence, no_fence
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.kernel.job import Job
from docferry.sandbox import SandboxStack
from docferry.testing.fakes import FakeLedger
from docferry.testing.jobs import make_job
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.atlas.stand_in import AtlasStandIn, Roles, standing_in
from support.backfill.rig import Quiet
from support.cutover.fence_rig import MIGRATION

ANY = "readWriteAnyDatabase"
WORDS = (sys.executable, "-m", "docferry.adapters.atlas.fence")
ROLES = {"readWrite": "myapp", "clusterMonitor": "admin"}
"""Of docferry's user here: what replication needs, and no more."""


@dataclass
class Place:
    """A cluster as a service would have it, and the jobs of two processes on it."""

    stack: SandboxStack
    atlas: AtlasStandIn
    ledger: FakeLedger
    source: MongoSource
    fence: MongoFence
    app: MongoClient[Any]

    def job(self, wanted: Any = None) -> Job:
        users = ("admin.app",)
        wanted = wanted or ExternalFence(external=WORDS, quiet_s=1.0, within_s=30.0)
        about = About(migration="fenced", database="myapp", collections=("users", "orders"), users=users)
        command = FenceCommand(WORDS, 30.0, about, os.environ | self.atlas.environment())
        return make_job(
            migration=replace(MIGRATION, cutover=CutoverSettings(fence=wanted, app_users=users, hold_s=120.0)),
            fence=CommandFence(self.fence, command),
            source=self.source,
            ledger=self.ledger,
            identity=identity("test"),
            progress=Quiet(),
            stop=threading.Event(),
        )

    def may_write(self) -> bool:
        try:
            self.app["myapp"]["users"].update_one({"_id": 1}, {"$inc": {"n": 1}})
        except OperationFailure as error:
            if error.code != 13:  # Unauthorized
                raise
            return False
        return True


@pytest.fixture
def place(stack: SandboxStack) -> Iterator[Place]:
    with stack.mongo.client("docferry") as root, stack.mongo.client("app") as app:
        root.drop_database("myapp")
        for name in ("users", "orders"):
            root["myapp"].create_collection(name, changeStreamPreAndPostImages={"enabled": True})
        root["myapp"]["users"].insert_one({"_id": 1, "n": 0})
        given = [{"role": name, "db": database} for name, database in ROLES.items()]
        root.admin.command("createUser", "weak", pwd="secret", roles=given)

        def change(user: tuple[str, str], roles: Roles) -> None:
            listed = [{"role": one["roleName"], "db": one["databaseName"]} for one in roles]
            root[user[0]].command("updateUser", user[1], roles=listed)

        users = {("admin", "app"): [{"databaseName": "admin", "roleName": ANY}]}
        uri = stack.mongo.uri().replace(stack.mongo.uri().split("@")[0], "mongodb://weak:secret")
        with (
            standing_in(AtlasStandIn(users=users, changed=change)) as atlas,
            closing(MongoSource(uri, "myapp")) as source,
            closing(MongoFence(uri, "myapp", "fenced", ["users", "orders"])) as own,
        ):
            yield Place(stack, atlas, FakeLedger(), source, own, app)
        change(("admin", "app"), [{"databaseName": "admin", "roleName": ANY}])
        root.admin.command("dropUser", "weak")
        root.drop_database("myapp")


def test_it_stops_the_application_alone_and_gives_it_back_what_it_had(place: Place) -> None:
    assert place.may_write()
    place.atlas.pending = 2  # the cluster takes its time
    report = fence(place.job(), 90.0)
    assert report.plan.kind is FenceKind.EXTERNAL
    assert not place.may_write()
    assert place.app["myapp"]["users"].find_one({"_id": 1}) is not None
    lift(place.job())  # another process may, by the ledger's record
    assert place.may_write()
    assert place.atlas.users["admin", "app"] == [{"databaseName": "admin", "roleName": ANY}]
    assert recorded_fence(place.ledger)[0] is Recorded.DOWN


def test_another_client_that_goes_on_writing_is_found_in_the_stream_and_the_fence_is_opened_again(place: Place) -> None:
    stop = threading.Event()

    def write() -> None:
        with place.stack.mongo.client("docferry") as other:  # of no user that the command knows of
            while not stop.wait(0.2):
                other["myapp"]["users"].update_one({"_id": 1}, {"$inc": {"n": 1}})

    writing = threading.Thread(target=write)
    writing.start()
    try:
        with pytest.raises(FenceFailed, match=r"update in myapp\.users at \d+:\d+ by an unknown user"):
            fence(place.job(), 20.0)
    finally:
        stop.set()
        writing.join()
    assert place.may_write()
    assert recorded_fence(place.ledger)[0] is Recorded.DOWN


def test_check_says_which_kinds_of_fence_the_server_allows_and_the_switch_agrees(place: Place) -> None:
    lines = describe_kinds(kinds_of_fence(place.job()))
    assert [line.partition(":")[0] for line in lines] == ["fence write_block", "fence revoke", "fence external"]
    assert all("would not hold: MongoDB does not tell what a fence would meet" in line for line in lines[:2])
    assert lines[2] == "fence external: would hold"
    assert no_fence(place.job()) == []
    automatic = place.job("auto")
    assert describe_kinds(kinds_of_fence(automatic))[2:] == [
        "fence external: would not hold: names no command",
        "fence: none of the kinds would hold on this server",
    ]
    assert "a service that has no such commands" in no_fence(automatic)[0].suggestion
    place.atlas.fail = [403] * 9
    assert "Atlas answered 403" in str(no_fence(place.job()))
    with pytest.raises(PreflightFailed, match="Atlas answered 403"):
        fence(place.job(), 5.0)
    assert place.may_write()
