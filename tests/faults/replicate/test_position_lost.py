"""The oplog overruns the position while no process follows: replication says so at once, and what it says to do mends it.

The way back is gone as a person would, with the commands that the message names, while the application writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bson import Binary
from demo.traffic import TrafficProcess
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.versions import parse_version
from docferry.errors import PreflightFailed, ResumeTokenLost
from docferry.flows.backfill.again import begin_again
from docferry.flows.ledger.positions import REPLICATION, applied_position
from docferry.ports.flows import StreamPosition
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig
from support.pace import Pace
from support.replicate.rig import (
    assert_equal,
    await_applied,
    end,
    follow,
    large,
    live_keys,
    live_shop,
    verdict,
)
from support.validate.planting import MAKERS, order, user

pytestmark = pytest.mark.xdist_group("position_lost")
COMMANDS = (
    "docferry backfill --again",
    "docferry replicate",
    "docferry repair",
    "docferry dead-letters --replay",
)


@pytest.fixture(scope="module")
def env(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with SandboxReplicaSet(tmp_path_factory.mktemp("small"), oplog_mb=16, checkpoint_s=1) as mongo:
        yield {**stack.env(), "DOCFERRY_MONGO_URI": mongo.uri()}


@pytest.fixture(scope="module")
def rig(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = live_shop(env, tmp_path_factory.mktemp("lost"))
    yield made
    end(made)


@dataclass(frozen=True)
class Lost:
    """A position that is lost, what DynamoDB held then, and the order that was deleted unseen."""

    position: StreamPosition
    stale: dict[tuple[str, str], Any]
    bought: Any


@pytest.fixture(scope="module")
def lost(rig: Rig) -> Lost:
    bought = lose(rig)
    position = overrun(rig)
    return Lost(position, rig.scan(), bought)


def overrun(rig: Rig) -> StreamPosition:
    """Write elsewhere until the oplog begins behind the position; that position.

    The server cuts the oplog off in large pieces, and some time after it has grown too large.
    """
    position = applied_position(rig.ledger)
    assert position is not None
    source = MongoSource(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database)
    deadline = time.monotonic() + 120
    while source.oplog_reach()[0] <= position.time:
        assert time.monotonic() < deadline, "the oplog was not cut off"
        rig.database["noise"].insert_many([{"fill": Binary(bytes(400_000))} for _ in range(5)])
        rig.database["noise"].delete_many({})
    source.close()
    return position


def docferry(rig: Rig, command: str, *words: str) -> subprocess.Popen[str]:
    """One of docferry's commands in a process of its own."""
    line = [sys.executable, "-m", "docferry.cli", command, str(rig.file), "--json", *words]
    return subprocess.Popen(
        line, env={**rig.env, "PATH": ""}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def done(process: subprocess.Popen[str], *codes: int) -> dict[str, Any]:
    """What a command printed, after it has ended with 0 or one of these codes."""
    out, err = process.communicate(timeout=180)
    assert process.returncode in (codes or (0,)), out + err
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def lose(rig: Rig) -> Any:
    """Changes of every kind that no process has seen when the oplog forgets them; the `_id` of an order that is deleted."""
    users, orders = rig.database["users"], rig.database["orders"]
    names = ("gone", "moving", "cut", "breaking", "healing", "dead and gone")
    gone, moved, cut, broken, healed, dead = made = [user(name) for name in names]
    users.insert_many(made)
    users.update_many({"_id": {"$in": [healed["_id"], dead["_id"]]}}, {"$set": {"scan": large(420_000)}})
    bought = order("bought")
    orders.insert_one(bought)
    follow(rig)
    users.delete_many({"_id": {"$in": [gone["_id"], dead["_id"]]}})
    orders.delete_one({"_id": bought["_id"]})
    users.update_one({"_id": moved["_id"]}, {"$set": {"username": "moved"}})
    users.update_one({"_id": cut["_id"]}, {"$pop": {"addresses": 1}, "$set": {"note": "unseen"}})
    users.update_one({"_id": broken["_id"]}, {"$set": {"scan": large(420_000)}})
    users.update_one({"_id": healed["_id"]}, {"$unset": {"scan": ""}})
    users.insert_one(user("new"))
    return bought["_id"]


def test_lost_position_is_told_within_a_minute_with_what_to_do(rig: Rig, lost: Lost) -> None:
    with Pace() as pace, pytest.raises(ResumeTokenLost) as caught:
        follow(rig)
    assert pace.seconds < 60
    said = str(caught.value)
    assert all(name in said for name in MAKERS)
    places = [said.index(command) for command in COMMANDS]
    assert places == sorted(places), "in the order in which they are to be run"

    answer = done(docferry(rig, "replicate"), 3)
    assert (answer["error"], answer["message"]) == ("ResumeTokenLost", said)
    record = rig.ledger.read(*REPLICATION)
    assert record is not None
    assert (record.body["ended"], record.body["lost"]) == (said, True)
    with pytest.raises(PreflightFailed, match="leave out --only"):
        begin_again(rig.job(), ["users"])


def test_feed_says_so_at_its_first_read(rig: Rig, lost: Lost) -> None:
    fields = {name: rig.migration.mapping(name).key_fields for name in MAKERS}
    source = MongoSource(rig.env["DOCFERRY_MONGO_URI"], rig.database.name)
    with closing(source.follow(lost.position, fields)) as feed, pytest.raises(ResumeTokenLost):
        feed.read(1.0)


def test_way_back_leads_to_equal_while_the_application_writes(rig: Rig, lost: Lost, tmp_path: Path) -> None:
    assert verdict(rig).counts != (0, 0, 0)
    done(docferry(rig, "replicate"), 3)
    uri, name = rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database
    with TrafficProcess(uri, tmp_path, database=name, rate=10) as traffic:
        traffic.await_writing()
        done(docferry(rig, "backfill", "--again"))
        following = docferry(rig, "replicate")
        await_applied(rig)
        assert ("USER#gone", "PROFILE") in live_keys(rig), "whose delete was not seen"
        repaired = done(docferry(rig, "repair"))
        replayed = done(docferry(rig, "dead-letters", "--replay"), 0, 1)
        traffic.stop()
    await_applied(rig)
    following.terminate()
    report = done(following)
    assert report["lag_s"] <= 1
    assert report["events"] > 0
    assert repaired["tombstones"] > 0
    assert replayed["users"]["gone"] >= 1
    assert_equal(rig)
    for pk in ("USER#gone", "USER#moving", f"ORDER#{lost.bought}"):
        buried = {key: item for key, item in rig.scan().items() if key[0] == pk}
        assert buried.keys() == {key for key in lost.stale if key[0] == pk}
        assert len(buried) >= 3
        for key, item in buried.items():
            assert "_deleted" in item
            assert parse_version(item["_v"]["S"]) >= parse_version(lost.stale[key]["_v"]["S"])
