"""Primary, secondary, secondary and arbiter, with a data-bearing member down: there is a primary that takes writes, but no
majority to keep them. docferry waits, says why, and goes on by itself when the member is back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bson import ObjectId
from demo.traffic import TrafficProcess
from docferry.adapters.mongodb.source import MongoSource
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.preflight.mongodb import check_source
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS, load_shop
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from pymongo import WriteConcern
from support.backfill.rig import Rig, eventually, shop_rig
from support.processes import Victim, applied_by, loaded_by

pytestmark = pytest.mark.xdist_group("replicate_arbiter")
RATE = 20.0
SMALL = {"page_documents": 5, "chunk_documents": 100}
QUICK = {
    "docferry.flows.backfill.chunk_loader.CHECKPOINT_S": 0.1,
    "docferry.adapters.mongodb.source._MAX_TIME_MS": 4_000,
    "docferry.flows.preflight.majority.LOOK_S": 0.5,
}
"""Checkpoints of a load, how long a page may wait for its snapshot, and how often the members are looked at."""


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack(members=3, mongo={"arbiter": True}) as opened:
        load_shop(opened.env()["DOCFERRY_MONGO_URI"], "arbitrated", users=100, awkward=0, unstorable=0, pre_images=True)
        yield opened


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path, "arbitrated", **SMALL)
    yield made
    made.close()


def write_alone(rig: Rig) -> ObjectId:
    """A change that the primary alone acknowledges."""
    alone = rig.database.get_collection("products", write_concern=WriteConcern(1))
    identity = ObjectId()
    alone.insert_one({"_id": identity, "name": "Lonely Lamp", "sku": f"LONELY-{identity}", "stock": 1})
    return identity


def why(mongo: SandboxReplicaSet, down: int) -> re.Pattern[str]:
    """What must be said: how many are up, how many must be, and the state of each."""
    lost = re.escape(mongo.address(down)) + r" \(not reachable/healthy\)"
    return re.compile(rf"waits: MongoDB has too few data-bearing members up, 2 of the 3 that .*{lost}.* ARBITER", re.S)


def test_replicator_and_backfill_wait_for_a_majority_say_why_and_go_on_when_the_member_is_back(
    stack: SandboxStack, rig: Rig, tmp_path: Path
) -> None:
    mongo = stack.mongo
    with ExitStack() as running:
        traffic = TrafficProcess(rig.env["DOCFERRY_APP_MONGO_URI"], tmp_path, database="arbitrated", rate=RATE)
        running.enter_context(traffic)
        traffic.await_writing()
        rig.load()
        backfill = running.enter_context(Victim(rig, tmp_path / "backfill.log", "backfill", "--again", settings=QUICK))
        eventually(loaded_by(rig, backfill), "a checkpoint of the load to move")
        with backfill.frozen():  # it would have ended before the member is down
            replicator = running.enter_context(Victim(rig, tmp_path / "first.log", "replicate", settings=QUICK))
            eventually(applied_by(rig, replicator), "the position to move")
            down = mongo.secondaries()[0]
            mongo.kill(down)
        lonely = write_alone(rig)
        said = why(mongo, down)
        eventually(lambda: said.search(replicator.said()), "the replicator to say why", 60)
        eventually(lambda: said.search(backfill.said()), "the backfill to say why", 60)
        assert replicator.is_alive()
        assert backfill.is_alive()
        assert not rig.dynamodb.query(**_query(rig, lonely))["Items"], (
            "a change was applied that a fail-over could undo"
        )
        (problem,) = check_source(rig.migration, MongoSource(rig.env["DOCFERRY_MONGO_URI"], "arbitrated"))
        assert "2 of the 3" in problem.what

        replicator.kill()
        second = running.enter_context(Victim(rig, tmp_path / "second.log", "replicate", settings=QUICK))
        eventually(lambda: said.search(second.said()), "a new replicator to say why", 60)
        assert second.is_alive()

        mongo.start(down)
        eventually(applied_by(rig, second), "the position to move", 90)
        eventually(lambda: "goes on: MongoDB has a majority" in second.said(), "it to say that it goes on")
        assert backfill.wait(90) == 0, backfill.said()[-2_000:]
        wrote = traffic.stop()
        second.kill()
    assert Victim(rig, tmp_path / "last.log", "replicate", "--until-caught-up").wait(120) == 0
    verdict = judge.judge_shop(rig.database, rig.dynamodb, rig.table, {}, live=True)
    assert verdict.counts == (0, 0, 0), verdict
    assert [letter for name in COLLECTIONS for letter in list_letters(rig.ledger, name)] == []
    assert wrote.documents_changed > 50
    assert rig.dynamodb.query(**_query(rig, lonely))["Items"], "the lonely document never arrived"


def _query(rig: Rig, product: ObjectId) -> dict[str, object]:
    return {
        "TableName": rig.table,
        "ConsistentRead": True,
        "KeyConditionExpression": "PK = :pk",
        "ExpressionAttributeValues": {":pk": {"S": f"PRODUCT#{product}"}},
    }
