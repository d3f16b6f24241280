"""A load under live traffic, while replication is behind: what was deleted in between does not stay."""

from __future__ import annotations

import asyncio
import threading

import pytest
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import PreflightFailed
from docferry.flows.backfill.again import begin_again
from docferry.flows.backfill.chunks import prepare
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.writers import open_writers, unfinished_loads, writing
from docferry.testing.jobs import make_job
from support.replicate.fake_world import World


def test_what_was_deleted_while_replication_was_behind_is_gone_after_a_new_load() -> None:
    world = World(5)
    world.load()
    world.replicate()
    world.source.remove("docs", 3)  # no process follows at this time
    world.source.put("docs", {"_id": 5})
    world.load(again=True)
    assert "DOCS#~i3" in world.alive(), "a load alone knows nothing of what is gone"
    report = world.replicate()
    assert report.lag_s == 0
    assert (report.events, report.passed) == (2, 0)
    assert world.alive() == {f"DOCS#~i{number}" for number in (0, 1, 2, 4, 5)}


@pytest.mark.parametrize("mode", ["DYNAMODB_ONLY", "HOLD", "FINAL"])
def test_nothing_of_mongodb_is_loaded_over_what_a_leading_dynamodb_holds(mode: str) -> None:
    world = World(5)
    world.load()
    world.replicate()
    states = {
        "DYNAMODB_ONLY": ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5),
        "FINAL": ModeState(mode=Mode.FINAL, epoch=6),
        "HOLD": ModeState(mode=Mode.DYNAMODB_READS, percent=100, epoch=4).hold(Mode.DYNAMODB_ONLY, 10**15),
    }
    world.ledger.write(*MODE, states[mode].to_body(), expect=world.ledger.read(*MODE))
    with pytest.raises(PreflightFailed, match="mode: is "):
        world.load(again=True)
    header = world.ledger.read("backfill", "docs")
    assert header is not None
    assert header.body["state"] == "complete"  # nothing has been touched


def test_load_that_was_begun_before_the_leader_is_changed_does_not_go_on_afterwards() -> None:
    world = World(5)
    world.load()
    job = make_job(**world.common, run="again")
    begin_again(job)
    world.ledger.write(*MODE, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5).to_body(), expect=world.ledger.read(*MODE))
    with pytest.raises(PreflightFailed, match="DynamoDB leads"):
        prepare(job, "docs")
    assert unfinished_loads(world.ledger, job.migration) == ["docs is new"]  # the change of leader sees it


def test_repair_that_begins_in_a_hold_is_refused_and_gives_its_lease_back() -> None:
    world = World(1)
    held = ModeState(mode=Mode.DYNAMODB_READS, percent=100, epoch=4).hold(Mode.DYNAMODB_ONLY, 10**15)
    world.ledger.write(*MODE, held.to_body(), expect=world.ledger.read(*MODE))

    async def begin() -> None:
        async with writing(world.ledger, world.common["identity"], "repair", threading.Event()):
            raise AssertionError("it may not write")

    with pytest.raises(PreflightFailed, match="the leader is being changed"):
        asyncio.run(begin())
    assert open_writers(world.ledger, world.common["identity"]) == []


def test_collection_without_images_is_not_loaded_again() -> None:
    world = World(5)
    world.load()
    world.source.images["docs"] = False
    with pytest.raises(PreflightFailed, match="docs: has no change stream images"):
        world.load(again=True)
    header = world.ledger.read("backfill", "docs")
    assert header is not None
    assert header.body["state"] == "complete"


def test_letters_of_documents_that_a_new_load_can_store_are_closed() -> None:
    """As after a change of the mapping, or of the document."""
    world = World(4)
    world.target.refuses = lambda item: item["PK"]["S"] in ("DOCS#~i2", "DOCS#~i3")
    world.load()
    assert [letter.id for letter in list_letters(world.ledger, "docs")] == ["~i2", "~i3"]
    world.target.refuses = lambda item: item["PK"]["S"] == "DOCS#~i3"
    world.source.put("docs", {"_id": 9})  # MongoDB's time moves on
    world.load(again=True)
    assert [letter.id for letter in list_letters(world.ledger, "docs")] == ["~i3"]
