"""Purging on fakes: which tombstones go, who keeps it from going on, and what a frozen repair does when it wakes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.core.mapping.items import ItemKey, key_of
from docferry.core.versions import parse_version, version_of, version_text
from docferry.errors import ItemTooLarge, LeaseHeld, LeaseLost, PreflightFailed, Stopped, Unavailable
from docferry.flows import purge as purging
from docferry.flows.ledger import writers
from docferry.flows.ledger.dead_letters import close_letter, open_letter, read_letter
from docferry.flows.ledger.leases import Lease
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.ledger.reigns import record_reign
from docferry.flows.ledger.rooms.purge import PURGE
from docferry.flows.ledger.times import now_ms
from docferry.flows.purge import PurgeReport
from docferry.flows.validate import repair as mending
from docferry.flows.validate.replay import replay_letters
from docferry.ports.flows import Grave, Identity, Written
from support.validate.fakes import root
from support.validate.planting import MAKERS, at_once
from support.validate.world import Free, World

__all__ = ["at_once"]
pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def world() -> World:
    """Two products and an order, loaded and followed; one product is deleted, an order's line taken away."""
    made = World()
    for name in ("one", "two"):
        made.write("products", MAKERS["products"](name))
    order = MAKERS["orders"]("one")
    made.write("orders", order)
    made.load()
    made.delete("products", some(made, "products"))
    made.write("orders", {**order, "items": order["items"][:-1]})
    made.write("users", MAKERS["users"]("later"))
    made.replicate()
    return made


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "YOUNG_S", 0.0)
    monkeypatch.setattr(purging, "STALE_S", 0.0)


def some(world: World, collection: str) -> dict[str, Any]:
    return dict(next(document for (name, _), document in world.now.items() if name == collection))


def purge(world: World, dry_run: bool = False, **changes: Any) -> PurgeReport:
    job = world.job(**changes)
    return asyncio.run(purging.purge(job, world.target, dry_run))


def graves(world: World) -> set[ItemKey]:
    return {key for key, item in world.items.items() if "_deleted" in item}


def ledger_of(world: World) -> list[Any]:
    return [(one.section, one.key, one.revision) for one in world.ledger._records.values()]


# --- what goes -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_wait")
def test_tombstones_go_and_nothing_else(world: World) -> None:
    alive = {key: item for key, item in world.items.items() if "_deleted" not in item}
    assert len(graves(world)) == 2
    report = purge(world)
    assert (report.scanned, report.purged, report.changed, sum(report.kept.values())) == (2, 2, 0, 0)
    assert report.items == len(alive) + 2
    assert world.items == alive
    assert world.validate().ok
    again = purge(world)
    assert (again.scanned, again.purged) == (0, 0)


@pytest.mark.usefixtures("no_wait")
def test_tombstone_at_or_behind_the_position_stays(world: World) -> None:
    first, second = sorted(int(item["_v"]["S"], 16) for item in world.items.values() if "_deleted" in item)
    time = Timestamp(1, (second >> 24) & 0xFFFFFFFF)
    assert second == version_of(time, 0)
    world.set_position(time)  # n is 0: the event of `second` would be read again
    report = purge(world)
    assert (report.purged, report.kept["young"]) == (1, 1)
    assert [int(world.items[key]["_v"]["S"], 16) for key in graves(world)] == [second] != [first]


@pytest.mark.usefixtures("no_wait")
def test_tombstones_of_a_document_with_a_dead_letter_stay(world: World) -> None:
    order = some(world, "orders")
    error = ItemTooLarge("too large", id=str(order["_id"]))
    open_letter(world.ledger, "orders", error, bson.encode(order), 7)
    report = purge(world)
    assert (report.purged, report.kept["dead_letter"]) == (1, 1)
    assert [key[0] for key in graves(world)] == [f"ORDER#{order['_id']}"]
    record = read_letter(world.ledger, "orders", str(order["_id"]))
    assert record is not None
    close_letter(world.ledger, record)
    assert purge(world).purged == 1


@pytest.mark.parametrize(
    "strange",
    [
        {"_v": {"S": "7"}},
        {"_v": {"N": "7"}},
        {"entityType": {"S": "MALLORY"}},
        {"_deleted": {"S": "yes"}},
        {"_id": None},
    ],
)
@pytest.mark.usefixtures("no_wait")
def test_tombstone_that_is_not_ours_stays(world: World, strange: dict[str, Any]) -> None:
    key = sorted(graves(world))[0]
    world.plant(key, **strange)
    world.items[key] = {name: value for name, value in world.items[key].items() if value is not None}
    report = purge(world)
    assert (report.purged, report.kept["unknown"]) == (1, 1)
    assert graves(world) == {key}


@pytest.mark.usefixtures("no_wait")
def test_tombstone_replaced_between_judging_and_deleting_stays_and_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_exact = world.target.delete_exact
    replaced: list[ItemKey] = []

    async def meanwhile(table: str, chosen: Sequence[Grave], *rest: Any) -> Written:
        if chosen and not replaced:
            replaced.append(chosen[0].key)
            item = world.items[chosen[0].key]
            newer = {**item, "_v": {"S": "f" * 22}}
            await world.target.put_newer(table, [newer], Free(), lambda: None)
        return await delete_exact(table, chosen, *rest)

    monkeypatch.setattr(world.target, "delete_exact", meanwhile)
    report = purge(world)
    assert (report.scanned, report.purged, report.changed) == (2, 1, 1)
    assert graves(world) == set(replaced)


@pytest.mark.usefixtures("no_wait")
def test_what_repair_found_extra_and_buried_at_its_own_old_version_goes_like_any_other(world: World) -> None:
    key, item = next(
        (key, item) for key, item in world.items.items() if key[0].startswith("ORDER#") and "_deleted" not in item
    )
    gone = "0" * 24
    extra = {**item, "PK": {"S": f"ORDER#{gone}"}, "_id": {"S": gone}, "_v": {"S": f"{1:022x}"}}
    world.items[f"ORDER#{gone}", key[1]] = extra
    assert asyncio.run(mending.repair(world.job(), world.target)).tombstones == 1
    assert world.items[f"ORDER#{gone}", key[1]]["_v"] == {"S": f"{1:022x}"}
    assert purge(world).purged == 3
    assert world.validate().ok


# --- two runs --------------------------------------------------------------------------------------------------------


def pass_time(world: World, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On MongoDB's clock and on ours."""
    ours = vars(purging)["now_ms"]() + seconds * 1000
    monkeypatch.setattr(purging, "now_ms", lambda: ours)
    world.source._now = Timestamp(world.source._now.time + seconds, 1)


def test_first_run_refuses_and_the_next_purges_what_was_applied_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_time(world, 100, monkeypatch)
    with pytest.raises(PreflightFailed, match=r"too young .*run again in 1860 s"):
        purge(world)
    assert len(graves(world)) == 2
    pass_time(world, 1000, monkeypatch)
    world.delete("products", some(world, "products"))
    world.replicate()
    with pytest.raises(PreflightFailed, match=r"run again in 860 s"):
        purge(world)
    pass_time(world, 860, monkeypatch)
    seen = purge(world, dry_run=True)
    assert (seen.purgeable, seen.purged, seen.kept["young"]) == (2, 0, 1)
    report = purge(world)
    assert (report.purged, report.kept["young"]) == (2, 1)
    pass_time(world, 1860, monkeypatch)
    assert purge(world).purged == 1


def test_dry_run_shows_what_is_missing_of_the_proof_and_changes_nothing(world: World) -> None:
    before, items = ledger_of(world), dict(world.items)
    report = purge(world, dry_run=True)
    assert not report.proof.holds
    assert (report.scanned, report.purgeable, report.kept["young"]) == (2, 0, 2)
    assert "too young" in report.render()
    assert "Nothing was deleted" in report.render()
    assert (ledger_of(world), world.items) == (before, items)


@pytest.mark.usefixtures("no_wait")
def test_dry_run_of_a_proved_purge_changes_nothing_either(world: World) -> None:
    before, items = ledger_of(world), dict(world.items)
    report = purge(world, dry_run=True)
    assert (report.proof.holds, report.purgeable, report.purged) == (True, 2, 0)
    assert (ledger_of(world), world.items) == (before, items)


# --- who keeps it from going on --------------------------------------------------------------------------------------


def hold(world: World, section: str, key: str, **body: Any) -> None:
    body = {"owner": "somebody", "mark": "m", "until": now_ms() + 60_000} | body
    world.ledger.write(section, key, body, expect=world.ledger.read(section, key))


@pytest.mark.parametrize(
    ("section", "key", "body"),
    [
        ("backfill", "products", {"state": "loading", "mode": "conditional"}),
        ("backfill", "products", {"state": "new", "mode": "conditional", "owner": ""}),
        ("chunks:orders", "00000", {"state": "loading"}),
        ("writers", "repair", {}),
        ("writers", "replay users", {}),
    ],
)
@pytest.mark.usefixtures("no_wait")
def test_whoever_may_write_is_named_and_nothing_is_deleted(
    world: World, section: str, key: str, body: dict[str, Any]
) -> None:
    hold(world, section, key, **body)
    with pytest.raises(PreflightFailed, match=key if section == "writers" else section.removeprefix("chunks:")):
        purge(world)
    assert len(graves(world)) == 2
    ended = {"state": "complete", "mode": "conditional", "owner": "", "until": 0}
    hold(world, section, key, **ended)
    assert purge(world).purged == 2


@pytest.mark.usefixtures("no_wait")
def test_every_reason_is_told_at_once(world: World) -> None:
    record = world.ledger.read(*REPLICATION)
    world.ledger.write(*REPLICATION, {"owner": ""}, expect=record)
    hold(world, "backfill", "products", state="loading", mode="conditional")
    hold(world, "writers", "repair")
    with pytest.raises(PreflightFailed) as refused:
        purge(world)
    assert len(refused.value.problems) == 4


@pytest.mark.usefixtures("no_wait")
def test_second_purge_is_told_who_is_at_it(world: World) -> None:
    hold(world, *PURGE)
    with pytest.raises(LeaseHeld, match="somebody"):
        purge(world)
    assert len(graves(world)) == 2


@pytest.mark.usefixtures("no_wait")
def test_purge_whose_lease_is_lost_deletes_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(lease: Lease) -> None:
        raise LeaseLost(lease.key)

    monkeypatch.setattr(Lease, "check", lost)
    with pytest.raises(LeaseLost):
        purge(world)
    assert len(graves(world)) == 2


@pytest.mark.usefixtures("no_wait")
def test_stopped_purge_gives_its_lease_back_and_is_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.job()
    delete_exact = world.target.delete_exact

    async def stop_first(*args: Any) -> Written:
        job.stop.set()  # type: ignore[attr-defined]
        return await delete_exact(*args)

    monkeypatch.setattr(world.target, "delete_exact", stop_first)
    with pytest.raises(Stopped):
        asyncio.run(purging.purge(job, world.target))
    assert len(graves(world)) == 2
    world.target.delete_exact = delete_exact  # type: ignore[method-assign]
    assert purge(world, identity=other()).purged == 2


def other() -> Identity:
    return Identity(name="other", mark="other", ended=lambda mark: False)


@pytest.mark.usefixtures("no_wait")
def test_failure_in_the_midst_of_it_is_told_and_leaves_no_lease(world: World) -> None:
    world.target.faults.fail_next(Unavailable("gone", operation="Scan"))
    with pytest.raises(Unavailable):
        purge(world)
    assert purge(world, identity=other()).purged == 2


# --- repair and replay hold a lease ----------------------------------------------------------------------------------


def test_repair_is_seen_while_it_writes_and_stops_writing_when_its_lease_is_lost(world: World) -> None:
    key = key_of(world.migration.mapping("products").encode(some(world, "products"), 0)[0])
    world.plant(key, stock={"N": "99"})
    put_newer = world.target.put_newer
    held: list[list[str]] = []

    async def frozen(table: str, items: Any, budget: Any, guard: Any, **more: Any) -> Written:
        held.append(writers.open_writers(world.ledger, other()))
        with pytest.MonkeyPatch.context() as later:
            woken = time.monotonic() + 3600
            later.setattr(time, "monotonic", lambda: woken)
            return await put_newer(table, items, budget, guard, **more)

    world.write("users", MAKERS["users"]("tick"))
    world.replicate()
    world.target.put_newer = frozen  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        asyncio.run(mending.repair(world.job(), world.target))
    assert held[-1] == ["repair is held by somebody"]
    assert world.items[key]["stock"] == {"N": "99"}


def test_replay_is_seen_while_it_writes_and_a_second_one_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = some(world, "products")
    error = ItemTooLarge("too large", id=str(product["_id"]))
    open_letter(world.ledger, "products", error, bson.encode(product), 7)
    hold(world, writers.WRITERS, "replay products")
    with pytest.raises(LeaseHeld, match="somebody"):
        asyncio.run(replay_letters(world.job(), world.target, "products"))
    hold(world, writers.WRITERS, "replay products", owner="")
    read_ids = world.source.read_ids
    held: list[list[str]] = []

    def look(*args: Any) -> Any:
        held.append(writers.open_writers(world.ledger, other()))
        return read_ids(*args)

    monkeypatch.setattr(world.source, "read_ids", look)
    asyncio.run(replay_letters(world.job(), world.target, "products"))
    assert held[0] == ["replay products is held by somebody"]
    assert writers.open_writers(world.ledger, other()) == []


@pytest.mark.usefixtures("no_wait")
def test_a_tombstone_of_a_reign_of_dynamodb_stays_while_mongodb_holds_its_document(world: World) -> None:
    product = some(world, "products")
    key = root(world, product)
    version = parse_version(world.items[key]["_v"]["S"])
    record_reign(world.ledger, floor=version, end=version + 10)
    world.plant(key, _deleted={"BOOL": True}, _v={"S": version_text(version + 5)})
    report = purge(world)
    assert key in graves(world)
    assert (report.purged, report.kept["deleted_while_dynamodb_led"]) == (2, 1)
    world.source.remove("products", product["_id"])
    world.replicate()
    assert purge(world).purged == 1
