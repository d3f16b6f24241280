"""Validation while both databases are being written, on fakes: what is proved, what is on its way, what is not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.mapping.items import Item, ItemKey, tombstone
from docferry.core.versions import version_of, version_text
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.ledger.times import encode_time, now_ms
from docferry.flows.validate import recheck as generations
from docferry.ports.flows import TargetPage
from support.validate.fakes import impatient, root, some, world
from support.validate.planting import MAKERS, at_once
from support.validate.world import World

__all__ = ["at_once", "impatient", "world"]

pytestmark = pytest.mark.usefixtures("at_once", "impatient")


def when_asked_again(world: World, times: int, then: Callable[[], None]) -> None:
    world.ledger.on_look = lambda look: then() if look == times else None


# --- on its way ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["updated", "inserted", "deleted", "child gone", "key moved"])
def test_change_on_its_way_is_no_difference(world: World, change: str) -> None:
    order, user = some(world, "orders"), some(world, "users")
    if change == "updated":
        world.write("orders", {**order, "currency": "CHF"})
    elif change == "inserted":
        world.write("orders", MAKERS["orders"]("three"))
    elif change == "deleted":
        world.delete("orders", order)
    elif change == "child gone":
        world.write("orders", {**order, "items": order["items"][:1]})
    else:
        world.write("users", {**user, "username": "somebody else"})
    when_asked_again(world, 4, world.replicate)
    report = world.validate()
    assert report.ok, report.render()
    assert (report.generations, report.rechecked > 0, world.log) == (2, True, [])


def test_without_suspects_nobody_asks_how_far_replication_is(world: World) -> None:
    report = world.validate()
    assert report.ok
    assert (report.generations, report.rechecked, world.ledger.looks) == (1, 0, 0)


@pytest.mark.parametrize("changed", [False, True])
def test_scan_for_the_keys_alone_is_not_paid_for_where_documents_have_changed_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    asked: list[Sequence[str]] = []
    scan, get_all = world.target.scan, world.target.get_all

    async def noted_scan(*arguments: Any) -> TargetPage:
        asked.append(arguments[-1])
        return await scan(*arguments)

    async def changing_get_all(table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        found = await get_all(table, keys)
        record = world.ledger.read(*REPLICATION)
        assert record is not None
        world.ledger.write(*REPLICATION, {**record.body, "written": int(changed)}, expect=record)
        return found

    monkeypatch.setattr(world.target, "scan", noted_scan)
    monkeypatch.setattr(world.target, "get_all", changing_get_all)
    assert world.validate().ok
    assert {"_t" in attributes for attributes in asked} == {changed}


@pytest.mark.parametrize("change", ["updated", "deleted and back"])
def test_document_written_at_every_look_is_judged_at_its_items_own_time(
    world: World, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its items are always newer than what replication says it has applied, and older than MongoDB's."""
    monkeypatch.setattr(generations, "JUDGING_BEHIND_S", 0.3)
    order = some(world, "orders")

    def move_on(number: int) -> None:
        if change == "updated":
            world.write("orders", {**order, "currency": f"C{number}"})
        else:
            world.delete("orders", order)

    def on(look: int) -> None:
        at = world.write("orders", {**order, "currency": f"D{look}"})
        while world.log:
            world.apply_next()
        world.set_position(at)
        move_on(look)

    move_on(0)
    world.ledger.on_look = on
    report = world.validate()
    assert report.ok, report.render()
    assert world.log, "MongoDB was ahead all the time"


def test_dual_write_that_arrives_between_two_looks_is_no_difference_where_replication_never_ran() -> None:
    world = World()
    world.write("orders", MAKERS["orders"]("one"))
    world.load()
    world.write("orders", {**some(world, "orders"), "currency": "CHF"})
    world.ledger.on_look = lambda look: world.apply_next() if world.log else None
    report = world.validate()
    assert report.ok, report.render()
    assert report.rechecked == 1


def test_where_replication_never_ran_what_moves_between_two_looks_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    order = MAKERS["orders"]("one")
    world.write("orders", order)
    world.load()
    changes = iter(["C1", "C2", "C3", "C4"])

    async def meanwhile(self: Any) -> None:
        for currency in changes:
            world.write("orders", {**order, "currency": currency})
            break

    monkeypatch.setattr(generations.Generations, "_pause", meanwhile)
    world.write("orders", {**order, "currency": "C0"})
    report = world.validate()
    assert [(one.path, one.expected) for one in report.differences] == [("currency", "string C4")]
    assert report.generations == 6, "five looks saw something else each, the last saw it again"


# --- real ------------------------------------------------------------------------------------------------------------


def test_planted_difference_is_found_with_path_and_age_among_changes_on_their_way() -> None:
    world = World(settle_s=0.2)
    for name in ("one", "two"):
        world.write("orders", MAKERS["orders"](name))
    world.replicate()
    planted, changed = world.now.values()
    world.plant(root(world, dict(planted)), currency={"S": "XXX"})
    world.write("orders", {**changed, "currency": "CHF"})
    when_asked_again(world, 3, world.replicate)
    started = now_ms()
    report = world.validate()
    (found,) = report.differences
    assert (found.path, found.expected, found.actual) == ("currency", "string EUR", "string XXX")
    assert found.id == str(planted["_id"])
    assert 0.2 <= found.age_s == report.largest_age_s < 20
    assert started <= found.first_seen_ms <= now_ms() - 200
    assert (report.verdict, report.pending, report.equal_up_to) == ("DIFFERENT", 0, None)


def test_difference_that_heals_within_the_bound_is_none() -> None:
    world = World(settle_s=0.3)
    world.write("orders", MAKERS["orders"]("one"))
    world.replicate()
    key = root(world, some(world, "orders"))
    world.plant(key, currency={"S": "XXX"})
    when_asked_again(world, 2, lambda: world.plant(key, currency={"S": "EUR"}))
    report = world.validate()
    assert report.ok, report.render()
    assert report.rechecked == 2


def test_version_of_a_time_to_come_does_not_keep_a_difference_from_being_judged(world: World) -> None:
    world.plant(root(world, some(world, "orders")), currency={"S": "XXX"}, _v={"S": "f" * 22})
    assert [one.path for one in world.validate().differences] == ["currency"]


def test_items_of_a_document_that_was_deleted_are_extra_once_replication_has_passed(world: World) -> None:
    """Deleted after its page had been compared: its keys were expected, so the scan does not miss it."""
    order = some(world, "orders")
    world.write("orders", {**order, "currency": "CHF"})

    def lose() -> None:
        world.delete("orders", order)
        world.log.clear()
        world.replicate()

    when_asked_again(world, 1, lose)
    report = world.validate()
    assert {one.kind.value for one in report.differences} == {"extra"}
    assert len(report.differences) == 4
    assert {one.id for one in report.differences} == {str(order["_id"])}


def test_letter_that_is_closed_while_looking_is_no_difference(world: World) -> None:
    """At the time of the look the document cannot be stored, and its letter is gone: it was mended since."""
    product = some(world, "products")
    deep: Any = "bottom"
    for _ in range(40):
        deep = {"down": deep}
    at = world.source.put("products", {**product, "deep": deep})
    key = root(world, product)
    item = world.items[key]
    world.items[key] = tombstone(item, version_of(at, 0), "_ttl")

    def on(look: int) -> None:
        if look == 1:
            mended = world.source.put("products", product)
            world.items[key] = {**item, "_v": {"S": version_text(version_of(mended, 0))}}
            world.set_position(mended)
        else:
            world.set_position(Timestamp(1, world.source.cluster_time().inc + 1))

    world.ledger.on_look = on
    report = world.validate()
    assert report.ok, report.render()
    assert report.rechecked >= 2


# --- not known -------------------------------------------------------------------------------------------------------


def test_replication_that_stands_still_leaves_it_pending_and_the_report_is_not_ok(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "STILL_S", 0.1)
    order = some(world, "orders")
    world.write("orders", {**order, "currency": "CHF"})
    world.plant(root(world, some(world, "products")), stock={"N": "1"})
    world.ledger.on_look = lambda look: world.write("users", some(world, "users"))
    report = world.validate()
    assert (report.ok, report.verdict, report.pending) == (False, "UNDECIDED", 2)
    assert not any(one.mismatches for one in report.collections)
    assert report.equal_up_to is None
    assert "stands still" in report.why_pending
    assert {one.kind.value for one in report.differences} == {"pending"}
    assert report.largest_age_s >= 0.1
    told = report.to_dict()
    assert (told["ok"], told["pending"], told["equal_up_to"]) == (False, 2, None)
    assert "UNDECIDED" in report.render()
    assert "stands still" in report.render()


def test_replication_that_stays_behind_leaves_it_pending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "JUDGING_BEHIND_S", 0.1)
    world.write("orders", {**some(world, "orders"), "currency": "CHF"})
    behind = iter(range(3, 10_000))
    world.set_position(Timestamp(1, 2))

    def on(look: int) -> None:
        world.time = Timestamp(1, world.time.inc)
        for _ in range(2):
            world.write("users", some(world, "users"))
        world.set_position(Timestamp(1, min(next(behind), 6)))

    world.ledger.on_look = on
    report = world.validate()
    assert (report.verdict, report.pending) == ("UNDECIDED", 1)
    assert "behind" in report.why_pending


def test_quiet_mongodb_is_no_replication_that_stands_still(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "STILL_S", 0.02)
    world.write("orders", {**some(world, "orders"), "currency": "CHF"})
    when_asked_again(world, 30, world.replicate)
    report = world.validate()
    assert report.ok, report.render()


# --- equal up to -----------------------------------------------------------------------------------------------------


def test_equal_up_to_is_the_time_of_the_first_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Timestamp] = []
    read = world.source.read_page

    def noting(*args: Any) -> list[bytes]:
        times.append(args[-1])
        world.write("users", some(world, "users"))
        return read(*args)

    monkeypatch.setattr(world.source, "read_page", noting)
    world.ledger.on_look = lambda look: world.replicate()
    report = world.validate()
    assert report.ok, report.render()
    assert len(set(times)) == len(times) > 4
    assert report.equal_up_to == min(times)
    told = report.to_dict()
    assert told["equal_up_to"] == encode_time(min(times))
    assert datetime.fromisoformat(told["equal_up_to_date"]).timestamp() == min(times).time


def test_what_is_empty_is_equal_up_to_the_time_at_which_it_was() -> None:
    world = World()
    report = world.validate()
    assert report.equal_up_to == world.source.cluster_time()


def test_sample_is_equal_up_to_no_time(world: World) -> None:
    report = world.validate(sample=1)
    assert report.ok
    assert report.equal_up_to is None
