"""A collection of which a part is migrated: what is loaded, followed, found and mended is that part, and the rest is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from docferry.core.compare.diff import DifferenceKind
from docferry.core.mapping.items import tombstone
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.validate.changed import ChangeWatch, compare_changed
from support.filtered.world import Orders
from support.validate.planting import at_once

__all__ = ["at_once"]
pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def world() -> Orders:
    made = Orders()
    made.load()
    made.follow()
    return made


@pytest.mark.parametrize("again", [False, True])
def test_a_load_stores_the_part_and_counts_what_it_leaves_out(again: bool) -> None:
    world = Orders()
    report = world.load()
    if again:
        world.follow()
        world.put(6, "eu")
        report = world.load_again()
    counts = report.counts
    assert counts.outside == 3
    assert counts.read == counts.written + counts.superseded + counts.dead + counts.outside
    assert counts.dead == 0
    assert world.stored() == [0, 2, 4, 6][: 4 if again else 3]


def test_the_plan_of_a_load_counts_what_would_be_stored() -> None:
    world = Orders(10)
    (plan,) = plan_backfill(world.job()).collections
    assert (plan.documents, plan.outside, plan.items, plan.unstorable_in_sample) == (5, 5, 15, 0)
    world.source.scan_s = 3_600.0  # MongoDB does not count them in time
    assert plan_backfill(world.job()).collections[0].documents == 5


def test_an_array_there_is_a_dead_letter_and_a_finding_where_it_has_none(world: Orders) -> None:
    world.put(7, ["eu", "us"])
    report = world.follow()
    assert (report.dead, world.letters()) == (1, {"~i7": "FilterUndecided"})
    assert world.validate().collections[0].unstorable == 1
    fresh = Orders(20)
    fresh.put(77, ["eu"])
    assert (fresh.load().counts.dead, fresh.letters()) == (1, {"~i77": "FilterUndecided"})


def test_events_of_documents_outside_are_counted_as_such_and_write_nothing(world: Orders) -> None:
    before = dict(world.table)
    world.put(1, "us", note=1)
    world.put(9, "us")
    world.source.remove("orders", 3)
    report = world.follow()
    assert (report.events, report.outside, report.written, report.superseded) == (3, 3, 0, 0)
    assert world.table == before
    world.put(2, "eu", touched=["note"], note=1)
    assert world.follow().written == 1


def test_a_document_that_leaves_is_a_dead_letter_and_none_of_its_items_stays(world: Orders) -> None:
    world.put(2, "us", touched=["region"])
    report = world.follow()
    assert (report.dead, world.letters()) == (1, {"~i2": "FilterCrossed"})
    assert (world.stored(), world.live(2)) == ([0, 4], 0)
    world.put(2, "us", touched=["note"], note=1)  # outside still: it does not hide what has happened
    assert world.follow().outside == 1
    assert world.letters() == {"~i2": "FilterCrossed"}
    assert world.validate().verdict == "EQUAL"
    assert world.replay().to_dict() | {"outside": 0} == dict.fromkeys(world.replay().to_dict(), 0) | {"letters": 1}
    assert world.letters() == {}


def test_a_document_that_comes_in_is_stored_and_a_dead_letter_until_a_replay_takes_it(world: Orders) -> None:
    world.put(1, "eu", touched=["region"])
    assert (world.follow().dead, world.letters()) == (1, {"~i1": "FilterCrossed"})
    assert (world.stored(), world.live(1)) == ([0, 1, 2, 4], 3)
    world.put(1, "eu", touched=["note"], note=1)  # a change that can be stored does not hide what has happened
    assert (world.follow().written, world.letters()) == (1, {"~i1": "FilterCrossed"})
    assert world.validate().verdict == "EQUAL"
    assert world.replay().stored == 1
    assert (world.stored(), world.letters()) == ([0, 1, 2, 4], {})


def test_a_document_that_has_left_and_is_deleted_leaves_no_letter(world: Orders) -> None:
    world.put(2, "us", touched=["region"])
    world.follow()
    world.source.remove("orders", 2)
    assert world.follow().outside == 1
    assert world.letters() == {}


def test_a_document_that_comes_back_in_is_stored_again_and_told_once_more(world: Orders) -> None:
    world.put(2, "us", touched=["region"])
    world.put(2, "eu", touched=["region"])
    assert world.follow().dead == 2
    assert (world.stored(), world.live(2), world.letters()) == ([0, 2, 4], 3, {"~i2": "FilterCrossed"})


def missing(world: Orders) -> None:
    del world.table["ORDER#~i2", "META"]


def buried(world: Orders) -> None:
    world.table["ORDER#~i2", "META"] = tombstone(world.table["ORDER#~i2", "META"], 1, "_ttl")


def stored_outside(world: Orders) -> None:
    """As if a change had not been followed: the document has left, and its items are there."""
    world.source.put("orders", {"_id": 2, "region": "us", "lines": []})
    world.source._events.pop()


@pytest.mark.parametrize(
    ("damage", "kind", "stored"),
    [
        (missing, DifferenceKind.MISSING, [0, 2, 4]),
        (buried, DifferenceKind.MISSING, [0, 2, 4]),
        (stored_outside, DifferenceKind.EXTRA, [0, 4]),
    ],
)
def test_what_is_not_the_part_is_found_and_mended(
    world: Orders, damage: Callable[[Orders], None], kind: DifferenceKind, stored: list[int]
) -> None:
    report = world.validate()
    assert (report.verdict, report.collections[0].documents, report.collections[0].outside) == ("EQUAL", 3, 3)
    damage(world)
    world.pass_time()
    report = world.validate()
    assert report.verdict == "DIFFERENT"
    assert {one.kind for one in report.differences} == {kind}
    world.repair()
    assert world.stored() == stored
    assert world.validate().verdict == "EQUAL"


def test_a_repair_buries_what_is_stored_of_a_document_that_has_left_since_it_was_seen(world: Orders) -> None:
    missing(world)
    world.pass_time()
    before = world.validate()
    stored_outside(world)
    report = world.repair()
    assert before.verdict == "DIFFERENT"
    assert (report.dead, world.live(2)) == (0, 0)
    assert world.validate().verdict == "EQUAL"


def test_what_changed_outside_is_not_compared_while_writes_wait(world: Orders) -> None:
    async def compared() -> tuple[int, int]:
        watch = ChangeWatch(world.job(), since)
        await watch.read_until(world.source.cluster_time())
        await watch.close()
        found = await compare_changed(world.job(), world.target, watch.changed, world.source.cluster_time())
        return watch.changed.documents, len(found.differences)

    since = world.source.cluster_time()
    world.put(1, "us", note=1)
    world.put(2, "eu", note=1)
    world.follow()
    assert asyncio.run(compared()) == (1, 0)
    stored_outside(world)
    assert asyncio.run(compared()) == (1, 3)
