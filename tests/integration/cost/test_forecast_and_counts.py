"""A forecast of a backfill and of a day of client traffic agrees with what is counted, and that with AWS's rules."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from docferry.client.transport import circuit_breaker
from docferry.config.price_book import load_price_book
from docferry.core.cost.calls import CallRates, IndexReads
from docferry.core.cost.dry_run import dry_run_cost
from docferry.core.cost.sizes import CollectionSizes
from docferry.flows.cost.actual import consumed
from docferry.flows.cost.counting import counted
from docferry.flows.cost.forecasting import priced_design
from docferry.flows.cost.measured import measure_collections
from docferry.flows.validate.first_pass import validate
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually, shop_rig
from support.client.rig import MODES, Blocking, connected, set_mode
from support.cost.meter import Meter
from support.replicate.rig import with_images

BOOK = load_price_book()
CLOSE = 0.05


@pytest.fixture(scope="module")
def meter(stack: SandboxStack) -> Iterator[Meter]:
    with Meter(stack.env()["AWS_ENDPOINT_URL_DYNAMODB"]) as opened:
        yield opened


@pytest.fixture
def rig(stack: SandboxStack, meter: Meter, tmp_path: Path) -> Iterator[Rig]:
    name = f"priced{uuid.uuid4().hex[:8]}"
    load_shop(stack.env()["DOCFERRY_MONGO_URI"], name, users=80, awkward=0, unstorable=0)
    made = shop_rig(stack.env() | {"AWS_ENDPOINT_URL_DYNAMODB": meter.url}, tmp_path, name)
    with_images(made.database)
    yield made
    made.close()


def measured(rig: Rig) -> list[CollectionSizes]:
    return measure_collections(rig.migration, rig.job().source)


def test_forecast_of_a_backfill_agrees_with_what_it_consumed(rig: Rig, meter: Meter) -> None:
    forecast = dry_run_cost(priced_design(rig.migration), measured(rig), BOOK).load / BOOK.write_request_million * 1e6
    reports = rig.load()
    counts = sum(one.counts.units for one in reports.values())
    assert counts == pytest.approx(meter.write_units[rig.table], abs=len(reports)), "counted as AWS counts"
    assert forecast == pytest.approx(counts, rel=CLOSE)
    rows = {one.what: one for one in consumed(rig.job(), measured(rig), {})}
    for name, report in reports.items():
        row = rows[f"load of {name}"]
        assert row.write_units == report.counts.units
        assert row.forecast_writes == pytest.approx(row.write_units, rel=CLOSE)


def test_a_validation_is_counted_and_forecast(rig: Rig, meter: Meter) -> None:
    rig.load()
    before = meter.read_units[rig.table]
    job = rig.job()

    async def run() -> None:
        target = rig.target()
        try:
            await counted(job, target, "validate", validate(job, target))
        finally:
            await target.close()

    asyncio.run(run())
    row = next(one for one in consumed(rig.job(), measured(rig), {}) if one.what == "validate")
    assert row.read_units == meter.read_units[rig.table] - before, "counted as AWS counts"
    assert row.forecast_reads == pytest.approx(row.read_units, rel=CLOSE)


CALLS = 400
WEIGHTS = {
    ("users", "by_key"): 30, ("users", "by_index"): 10, ("users", "update"): 15, ("users", "insert"): 4,
    ("orders", "by_key"): 10, ("orders", "by_index"): 10, ("orders", "update"): 6,
    ("products", "by_key"): 10, ("products", "update"): 4, ("products", "delete"): 1,
}  # fmt: skip


class Day:
    """A day's calls, in a random order that is the same each time."""

    def __init__(self, rig: Rig) -> None:
        self.random = Random(7)
        self.documents = {name: list(rig.database[name].find()) for name in ("users", "orders", "products")}
        # An order's user has few orders, of which each is found.
        self.made: Counter[tuple[str, str]] = Counter()
        self.results: Counter[str] = Counter()

    def live(self, application: Blocking) -> None:
        kinds = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=CALLS)
        for number, (collection, kind) in enumerate(kinds):
            self.made[collection, kind] += 1
            getattr(self, f"_{kind}")(application, collection)
            if number % 50 == 49:
                self._await_comparisons(application)

    def _await_comparisons(self, application: Blocking) -> None:
        """While MongoDB leads each read is compared, as far as there is time: here there is."""
        if application.manager.get_metrics()["configuration"]["write_to_mongo"]:
            asked = sum(number for (_, kind), number in self.made.items() if kind.startswith("by_"))

            def compared() -> bool:
                counts = application.manager.get_metrics()["counts"]
                return bool(sum(counts.get(f"shadow.{one}", 0) for one in ("equal", "mismatch")) >= asked)

            eventually(compared, "all reads to be compared")

    def _one(self, collection: str) -> dict[str, Any]:
        found: dict[str, Any] = self.random.choice(self.documents[collection])
        return found

    def _key(self, collection: str, document: dict[str, Any]) -> dict[str, Any]:
        return {"username": document["username"]} if collection == "users" else {"_id": document["_id"]}

    def _by_key(self, application: Blocking, collection: str) -> None:
        assert application.call(collection, "find_one", self._key(collection, self._one(collection)))

    def _by_index(self, application: Blocking, collection: str) -> None:
        one = self._one(collection)
        if collection == "users":
            while not one.get("email"):
                one = self._one(collection)
            found = application.call(collection, "find", {"email": one["email"]})
        else:
            found = application.call(collection, "find", {"userId": one["userId"]})
        self.results[collection] += len(found)

    def _update(self, application: Blocking, collection: str) -> None:
        """A field that is in no key."""
        change = {"$set": {"visits": self.random.randrange(100, 999)}}
        application.call(collection, "update_one", self._key(collection, self._one(collection)), change)

    def _insert(self, application: Blocking, collection: str) -> None:
        new = {name: one for name, one in self._one(collection).items() if name != "_id"}
        mark = uuid.uuid4().hex[:6]
        new |= {"username": f"new{mark}", "email": f"new{mark}@example.com"}
        application.call(collection, "insert_one", new)

    def _delete(self, application: Blocking, collection: str) -> None:
        one = self._one(collection)
        self.documents[collection].remove(one)
        application.call(collection, "delete_one", self._key(collection, one))

    def rates(self) -> dict[str, CallRates]:
        """The same day as calls a second."""
        index = {"users": "GSI1", "orders": "GSI1"}
        return {name: self._rates(name, index.get(name)) for name in self.documents}

    def _rates(self, name: str, index: str | None) -> CallRates:
        a_second = {
            kind: self.made[name, kind] / 86_400 for kind in ("by_key", "by_index", "insert", "update", "delete")
        }
        calls = self.made[name, "by_index"]
        return CallRates(
            by_key=a_second["by_key"],
            by_index={index: IndexReads(calls=a_second["by_index"], results=self.results[name] / calls)}
            if index
            else {},
            insert=a_second["insert"],
            update=a_second["update"],
            delete=a_second["delete"],
        )


def by_rules(meter: Meter, table: str, journal: str) -> tuple[float, float]:
    """Read and write units of the application's requests: of the journal only entries, which are in transactions."""
    return meter.read_units[table], meter.write_units[table] + meter.in_transactions[journal]


@pytest.mark.parametrize("mode", ["DYNAMODB_ONLY", "DUAL_WRITE", "DYNAMODB_READS 100"])
def test_forecast_of_a_day_of_client_traffic_agrees_with_what_it_consumed(
    mode: str, rig: Rig, meter: Meter, stack: SandboxStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is given up on a busy machine is carried out all the same, and its answer, with what it cost, is not heard.
    monkeypatch.setattr(circuit_breaker, "TIMEOUT_S", 30.0)
    rig.load()
    set_mode(rig, replace(MODES[mode], journal=mode == "DYNAMODB_ONLY"))
    connected(rig, monkeypatch, stack)
    journal = rig.migration.ledger.journal_table
    before = by_rules(meter, rig.table, journal)
    sizes, application, day = measured(rig), Blocking(rig), Day(rig)
    try:
        day.live(application)
    finally:
        application.close()
    row = next(one for one in consumed(rig.job(), sizes, day.rates()) if one.what == "the application")
    reads, writes = (now - old for now, old in zip(by_rules(meter, rig.table, journal), before, strict=True))
    assert row.write_units == pytest.approx(writes, abs=1), "counted as AWS counts"
    assert row.write_units > 0
    assert row.forecast_writes == pytest.approx(row.write_units, rel=CLOSE)
    assert row.read_units == pytest.approx(reads, abs=1), "counted as AWS counts"
    assert row.read_units > 0, "in DUAL_WRITE those of comparisons"
    assert row.forecast_reads == pytest.approx(row.read_units, rel=CLOSE)
