"""A validation that is cut, stopped, begun again or held by another; and the report that becomes the latest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import LeaseHeld, PreflightFailed, Stopped, Unavailable
from docferry.flows.ledger.reports import latest_report
from docferry.flows.ledger.rooms.validation import SUSPECTS, VALIDATION
from docferry.flows.validate import first_pass as checking
from docferry.flows.validate import progress as validation_progress
from docferry.flows.validate import skeleton, suspects
from docferry.flows.validate.suspects import Suspect, Suspects, decode_suspects, encode_suspects
from docferry.testing.fakes import FakeSource
from support.validate.fakes import impatient, root, some, world
from support.validate.planting import MAKERS, at_once
from support.validate.world import TABLE, World

__all__ = ["at_once", "impatient", "world"]

pytestmark = pytest.mark.usefixtures("at_once", "impatient")


# --- reports ---------------------------------------------------------------------------------------------------------


def test_partial_reports_do_not_become_the_latest(world: World) -> None:
    full = world.validate()
    world.plant(root(world, some(world, "products")), stock={"N": "1"})
    assert not world.validate("products").ok
    assert not world.validate(sample=10).ok
    latest = latest_report(world.ledger)
    assert latest is not None
    assert (latest.ok, latest.at_ms) == (True, full.at_ms)
    assert len(world.ledger.list("reports", "validate-part#")) == 2
    assert not world.validate().ok
    latest = latest_report(world.ledger)
    assert latest is not None
    assert not latest.ok


def test_report_that_began_earlier_does_not_replace_a_newer_one(world: World) -> None:
    later = world.validate()
    world.plant(root(world, some(world, "products")), stock={"N": "1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skeleton, "now_ms", lambda: later.at_ms - 10)
        assert world.validate().at_ms < later.at_ms
    latest = latest_report(world.ledger)
    assert latest is not None
    assert (latest.ok, latest.at_ms) == (True, later.at_ms)


def test_latest_report_is_one_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.validate()
    monkeypatch.setattr(world.ledger, "list", None)
    assert latest_report(world.ledger) is not None


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeleton, "PAGE_DOCUMENTS", 5)
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
    parts = world.ledger.list(SUSPECTS)
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
    scan = world.target.scan
    scanned: list[int] = []

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
        assert world.ledger.list(SUSPECTS) == []


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("why", ["digest", "age"])
def test_validation_of_another_file_or_of_long_ago_is_not_continued(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = many(20)
    with pytest.raises(Lost):
        world.validate(job=world.job(source=Fragile(world, 6)))
    if why == "age":
        monkeypatch.setattr(validation_progress, "RESUME_WITHIN_S", -1.0)
    else:
        record = world.ledger.read(*VALIDATION)
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


def test_ledger_that_is_gone_at_the_end_does_not_hide_the_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(*args: Any) -> Any:
        world.ledger.faults.fail_next(*[Unavailable("gone")] * 10)
        raise Lost

    monkeypatch.setattr(world.target, "get_all", lose)
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


def test_a_validation_in_which_the_leader_changed_is_refused_and_leaves_no_report(world: World) -> None:
    async def led_meanwhile() -> None:
        world.target.hang()
        running = asyncio.ensure_future(checking.validate(world.job(), world.target))
        await until(lambda: "BatchGetItem" in world.target.requests)
        body = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1, floor=17).to_body()
        world.ledger.write(*MODE, body, expect=world.ledger.read(*MODE))
        world.target.resume()
        with pytest.raises(PreflightFailed, match="changed meanwhile"):
            await running

    asyncio.run(led_meanwhile())
    assert latest_report(world.ledger) is None
