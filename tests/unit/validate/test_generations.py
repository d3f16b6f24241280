"""Validation while both databases are being written, on fakes: what is proved, what is on its way, what is not known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.mapping.mapping import Item, ItemKey
from docferry.core.mapping.tombstones import tombstone
from docferry.core.versions import version_of, version_text
from docferry.errors import ItemTooLarge, LeaseHeld, Stopped, Unavailable
from docferry.flows.ledger import state
from docferry.flows.ledger.reports import latest_report
from docferry.flows.validate import first_pass as checking
from docferry.flows.validate import progress as validation_progress
from docferry.flows.validate import recheck as generations
from docferry.flows.validate import repair as mending
from docferry.flows.validate import suspects
from docferry.flows.validate.suspects import Suspect, Suspects, decode_suspects, encode_suspects
from docferry.ports.flows import TargetPage
from docferry.testing.fakes import FakeSource
from support.validate.planting import MAKERS, at_once
from support.validate.world import TABLE, World

__all__ = ["at_once"]
pytestmark = pytest.mark.usefixtures("at_once", "impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "POLL_S", 0.005)


@pytest.fixture
def world() -> World:
    made = World()
    for name in ("one", "two"):
        for collection in ("users", "orders", "products"):
            made.write(collection, MAKERS[collection](name))
    made.load()
    made.replicate()
    return made


def some(world: World, collection: str) -> dict[str, Any]:
    return dict(next(document for (name, _), document in world.now.items() if name == collection))


def root(world: World, document: dict[str, Any]) -> ItemKey:
    return next(key for key in world.items if key[1] == "METADATA" and key[0].endswith(str(document["_id"])))


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
        record = world.ledger.read(*state.REPLICATION)
        assert record is not None
        world.ledger.write(*state.REPLICATION, {**record.body, "written": int(changed)}, expect=record)
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
    monkeypatch.setattr(generations, "BEHIND_S", 0.3)
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
    started = state.now_ms()
    report = world.validate()
    (found,) = report.differences
    assert (found.path, found.expected, found.actual) == ("currency", "string EUR", "string XXX")
    assert found.id == str(planted["_id"])
    assert 0.2 <= found.age_s == report.largest_age_s < 20
    assert started <= found.first_seen_ms <= state.now_ms() - 200
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
    monkeypatch.setattr(generations, "BEHIND_S", 0.1)
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


def test_equal_up_to_is_the_time_of_the_first_page(world: World) -> None:
    times: list[Timestamp] = []
    read = world.source.read_page

    def noting(*args: Any) -> list[bytes]:
        times.append(args[-1])
        world.write("users", some(world, "users"))
        return read(*args)

    world.source.read_page = noting  # type: ignore[method-assign]
    world.ledger.on_look = lambda look: world.replicate()
    report = world.validate()
    assert report.ok, report.render()
    assert len(set(times)) == len(times) > 4
    assert report.equal_up_to == min(times)
    told = report.to_dict()
    assert told["equal_up_to"] == state.encode_time(min(times))
    assert datetime.fromisoformat(told["equal_up_to_date"]).timestamp() == min(times).time


def test_what_is_empty_is_equal_up_to_the_time_at_which_it_was() -> None:
    world = World()
    report = world.validate()
    assert report.equal_up_to == world.source.cluster_time()


def test_sample_is_equal_up_to_no_time(world: World) -> None:
    report = world.validate(sample=1)
    assert report.ok
    assert report.equal_up_to is None


# --- reports ---------------------------------------------------------------------------------------------------------


def test_partial_reports_do_not_become_the_latest(world: World) -> None:
    full = world.validate()
    world.plant(root(world, some(world, "products")), stock={"N": "1"})
    assert not world.validate("products").ok
    assert not world.validate(sample=10).ok
    latest = latest_report(world.ledger)
    assert latest is not None
    assert (latest["ok"], latest["at_ms"]) == (True, full.at_ms)
    assert len(world.ledger.list("reports", "validate-part#")) == 2
    assert not world.validate().ok
    latest = latest_report(world.ledger)
    assert latest is not None
    assert not latest["ok"]


def test_report_that_began_earlier_does_not_replace_a_newer_one(world: World) -> None:
    later = world.validate()
    world.plant(root(world, some(world, "products")), stock={"N": "1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking.state, "now_ms", lambda: later.at_ms - 10)
        assert world.validate().at_ms < later.at_ms
    latest = latest_report(world.ledger)
    assert latest is not None
    assert (latest["ok"], latest["at_ms"]) == (True, later.at_ms)


def test_latest_report_is_one_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.validate()
    monkeypatch.setattr(world.ledger, "list", None)
    assert latest_report(world.ledger) is not None


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PAGE_DOCUMENTS", 5)
    monkeypatch.setattr(validation_progress, "CHECKPOINT_S", 0.0)


class Lost(Exception):
    """The process is gone, or as good as."""


class Fragile(FakeSource):
    """A source that works so many times."""

    def __init__(self, world: World, pages: int) -> None:
        self.world, self.left, self.read = world, pages, 0

    def __getattribute__(self, name: str) -> Any:
        mine = ("world", "left", "read", "read_page")
        return object.__getattribute__(self, name) if name in mine else getattr(self.world.source, name)

    def read_page(self, *args: Any) -> list[bytes]:
        if self.left <= 0:
            raise Lost
        self.left -= 1
        page = self.world.source.read_page(*args)
        self.read += len(page)
        return page


def many(documents: int) -> World:
    world = World()
    for number in range(documents):
        world.write("products", MAKERS["products"](f"p{number}"))
        world.write("orders", MAKERS["orders"](f"o{number}"))
    world.load()
    world.replicate()
    return world


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("pages", [0, 1, 7, 12, 20, 21])
def test_validation_that_was_cut_goes_on_and_finds_what_one_run_would(pages: int) -> None:
    world = many(50)
    for document in list(world.now.values())[:6]:
        world.plant(root(world, dict(document)), createdAt={"S": "x"})
    whole = world.validate().to_dict()
    with pytest.raises(Lost):
        world.validate(job=world.job(source=Fragile(world, pages)))
    parts = world.ledger.list(validation_progress.PARTS)
    kept = [one.name for part in parts for one in decode_suspects(part.body["data"])]
    assert len(kept) == len(set(kept)), "each is written once"
    again = Fragile(world, 1_000)
    report = world.validate(job=world.job(source=again))
    told = report.to_dict()
    for name in ("at_ms", "largest_age_s", "collections", "differences"):
        told.pop(name), whole.pop(name)
    assert told == whole
    assert [(one.documents, one.items, one.different) for one in report.collections][1:3] == [(50, 200, 3), (50, 50, 3)]
    assert again.read <= 100 - 5 * max(0, pages - 5), "what had been compared is not read again"


@pytest.mark.usefixtures("small_steps")
def test_scan_goes_on_behind_the_pages_that_were_dealt_with(monkeypatch: pytest.MonkeyPatch) -> None:
    world = many(60)
    world.target.page_items = 5
    scan, scanned = world.target.scan, []

    async def fragile(*args: Any) -> Any:
        if len(scanned) >= limit:
            raise Lost
        page = await scan(*args)
        scanned.append(len(page.items))
        return page

    monkeypatch.setattr(world.target, "scan", fragile)
    limit = 30
    with pytest.raises(Lost):
        world.validate()
    first, limit = sum(scanned), 10_000
    source = Fragile(world, 1_000)
    report = world.validate(job=world.job(source=source))
    assert report.ok, report.render()
    assert source.read == 0
    assert sum(scanned) - first <= 300 - first + 4 * 5


@pytest.mark.usefixtures("small_steps")
def test_finished_validation_is_begun_anew_and_leaves_nothing_behind() -> None:
    world = many(20)
    world.plant(next(key for key in world.items if key[1] == "METADATA"), createdAt={"S": "x"})
    for _ in range(2):
        source = Fragile(world, 1_000)
        report = world.validate(job=world.job(source=source))
        assert (source.read, report.ok) == (40, False)
        assert world.ledger.list(validation_progress.PARTS) == []


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("why", ["digest", "age"])
def test_validation_of_another_file_or_of_long_ago_is_not_continued(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = many(20)
    with pytest.raises(Lost):
        world.validate(job=world.job(source=Fragile(world, 6)))
    if why == "age":
        monkeypatch.setattr(validation_progress, "RESUME_WITHIN_S", -1.0)
    else:
        record = world.ledger.read(validation_progress.SECTION, validation_progress.KEY)
        assert record is not None
        world.ledger.write(record.section, record.key, {**record.body, "digest": "another"}, expect=record)
    source = Fragile(world, 1_000)
    assert world.validate(job=world.job(source=source)).ok
    assert source.read == 40


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the fake has no event to wait for
            await asyncio.sleep(0)


@pytest.mark.usefixtures("small_steps")
def test_second_full_validation_says_who_holds_the_first_and_partial_ones_do_not_mind(world: World) -> None:
    async def both() -> None:
        world.target.hang()
        first = asyncio.ensure_future(checking.validate(world.job("ada"), world.target))
        await until(lambda: "BatchGetItem" in world.target.requests)
        with pytest.raises(LeaseHeld, match="ada"):
            await checking.validate(world.job("bob"), world.target)
        part = asyncio.ensure_future(checking.validate(world.job("bob"), world.target, ["products"]))
        world.target.resume()
        assert (await first).ok
        assert (await part).ok

    asyncio.run(both())


def test_stop_ends_a_read_of_dynamodb_that_does_not_answer(world: World) -> None:
    job = world.job()

    async def stop_it() -> float:
        world.target.hang()
        running = asyncio.ensure_future(checking.validate(job, world.target))
        await until(lambda: "BatchGetItem" in world.target.requests)
        began = asyncio.get_running_loop().time()
        job.stop.set()  # type: ignore[attr-defined]
        with pytest.raises(Stopped):
            await running
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(stop_it()) < 5
    world.target.resume()
    assert world.validate().ok, "the lease was given back"


def test_ledger_that_is_gone_at_the_end_does_not_hide_the_error(world: World) -> None:
    async def lose(*args: Any) -> Any:
        world.ledger.faults.fail_next(*[Unavailable("gone")] * 10)
        raise Lost

    world.target.get_all = lose  # type: ignore[method-assign]
    with pytest.raises(Lost) as raised:
        world.validate()
    assert "could not be given back" in "".join(raised.value.__notes__)


def test_suspects_come_back_from_the_ledger_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "PART_BYTES", 500)
    made = Suspects()
    for number in range(200):
        made.add(
            Suspect(
                table=TABLE, collection="users", id=b"%d" % number, keys=((f"U{number}", "P"),), first_seen_ms=number,
                key=("a", str(number)) if number % 2 else None, mark=b"m",
            )
        )  # fmt: skip
    parts = encode_suspects(made.fresh)
    assert len(parts) > 4
    assert all(len(part) <= 500 for part in parts)
    assert [one for part in parts for one in decode_suspects(part)] == made.fresh


def test_suspects_past_the_bound_are_counted_and_the_report_is_not_equal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "MAX_SUSPECTS", 1)
    for collection in ("orders", "products"):
        key = root(world, some(world, collection))
        world.plant(key, createdAt={"S": "x"})
    report = world.validate()
    assert report.unchecked == 1
    assert report.equal_up_to is None
    assert not report.ok


# --- repair and letters under live traffic ---------------------------------------------------------------------------


def repair(world: World) -> mending.RepairReport:
    return asyncio.run(mending.repair(world.job(), world.target))


def test_document_mended_while_repair_gives_it_a_letter_is_not_buried(world: World) -> None:
    product = some(world, "products")
    key = root(world, product)
    world.target.refuses = lambda item: item.get("stock") == {"N": "13"}
    world.write("products", {**product, "stock": 13})
    world.log.clear()
    world.set_position(Timestamp(world.time.time, world.time.inc + 1))
    opened = state.open_letter

    def mended_then(*args: Any) -> None:
        opened(*args)
        world.write("products", {**product, "stock": 14})
        world.replicate()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mending.state, "open_letter", mended_then)
        report = repair(world)
    assert (report.dead, report.kept, report.complete) == (1, 1, False)
    assert world.items[key]["stock"] == {"N": "14"}
    assert "_deleted" not in world.items[key]


def letter_of(world: World, product: dict[str, Any], version: int) -> None:
    import bson

    error = ItemTooLarge("too large", id=str(product["_id"]))
    state.open_letter(world.ledger, "products", error, bson.encode(product), version)


def replay(world: World) -> dict[str, int]:
    return asyncio.run(mending.replay_letters(world.job(), world.target, "products")).to_dict()


def test_replay_of_what_is_newer_already_says_superseded_and_closes_the_letter(world: World) -> None:
    product = some(world, "products")
    letter_of(world, product, 7)
    newer = checking.snapshot_version(Timestamp(world.time.time, world.time.inc + 50))
    world.plant(root(world, product), _v={"S": format(newer, "022x")})
    found = replay(world)
    assert (found["superseded"], found["stored"]) == (1, 0)
    assert state.list_letters(world.ledger, "products") == []


def test_letter_of_the_time_that_is_still_now_is_not_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "TIME_PASSES_WITHIN_S", 0.2)
    product = some(world, "products")
    letter_of(world, product, checking.snapshot_version(world.time))
    assert replay(world)["superseded"] == 1
    assert len(state.list_letters(world.ledger, "products")) == 1
    world.write("users", some(world, "users"))
    assert replay(world)["stored"] == 1
    assert state.list_letters(world.ledger, "products") == []
