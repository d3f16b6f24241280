"""What was consumed beside the forecast for the same work: loads, flows, the application."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from docferry.config.price_book import load_price_book
from docferry.core.cost.actual import Consumed, actual, deviation
from docferry.core.cost.calls import CallRates, IndexReads
from docferry.core.cost.forecast import Workload
from docferry.core.cutover.instances import Instance
from docferry.flows.cost.actual import consumed
from docferry.flows.cost.counting import counted
from docferry.flows.cost.forecasting import with_counted
from docferry.flows.cost.measured import CallCounts, measure_collections
from docferry.flows.kernel.job import Job
from docferry.flows.replicate.follower import replicate
from docferry.flows.validate.first_pass import validate
from docferry.testing.jobs import make_job
from support.replicate.fake_world import MIGRATION, World

BOOK = load_price_book()
DOCUMENTS = 400


@pytest.fixture
def world() -> World:
    made = World(DOCUMENTS)
    made.load()
    return made


def job_of(world: World) -> Job:
    return make_job(**world.common)


def rows(world: World, rates: Mapping[str, CallRates] | None = None) -> dict[str, Consumed]:
    sizes = measure_collections(MIGRATION, world.source)
    return {one.what: one for one in consumed(job_of(world), sizes, rates or {})}


def test_a_load_is_held_against_what_its_documents_take(world: World) -> None:
    row = rows(world)["load of docs"]
    assert row.write_units == row.forecast_writes == DOCUMENTS
    assert row.work == "400 documents"


def test_replication_is_held_against_its_changes(world: World) -> None:
    for number in range(10):
        world.source.put("docs", {"_id": number, "x": 2})
    job = job_of(world)
    until = world.source.cluster_time()
    asyncio.run(counted(job, world.target, "replicate", replicate(job, world.target, until=until)))
    row = rows(world, {"docs": CallRates(update=1)})["replicate"]
    assert row.work == "10 written, 0 superseded"
    assert row.write_units == row.forecast_writes == 10


def test_a_validation_is_held_against_getting_and_scanning_all(world: World) -> None:
    job = job_of(world)
    asyncio.run(counted(job, world.target, "validate", validate(job, world.target)))
    row = rows(world)["validate"]
    assert row.work == "1 reports"
    assert row.forecast_reads == pytest.approx(row.read_units, rel=0.05)


def test_without_work_there_is_nothing_to_compare() -> None:
    assert rows(World(3)) == {}


def instance(world: World, name: str, **counts: int) -> None:
    counted_calls = {key.replace("__", "."): number for key, number in counts.items()}
    one = Instance(
        id=name, name=name, mark="", epoch=0, registered_ms=1, beat_ms=1, until_ms=1, ended=True, counts=counted_calls
    )
    world.ledger.write("instances", name, one.to_body(), expect=None)


def test_the_application_is_held_against_its_counted_calls(world: World) -> None:
    instance(world, "a", dynamodb__find_one=100, capacity__read_units=150, capacity__write_units=200)
    instance(world, "b", dynamodb__update_one=50, dynamodb__put=30, dynamodb__find_one__failed=9, mongodb__find=7)
    row = rows(world, {"docs": CallRates(by_key=1, update=1)})["the application"]
    assert row.work == "100 reads, 50 writes, 30 dual puts, 0 comparisons"
    assert (row.read_units, row.write_units) == (150, 200)
    assert row.forecast_reads == 100 + 50, "an update reads first"
    assert row.forecast_writes == 50 * (2 + 2) + 30, "a transaction with an entry in the journal; a plain put"


def test_comparisons_of_reads_are_forecast_by_the_documents_that_they_read(world: World) -> None:
    instance(
        world, "a", dynamodb__put=1, capacity__read_units=60, shadow__equal=18, shadow__mismatch=2, shadow__skipped=5
    )
    by_index = {"GSI1": IndexReads(calls=1, results=5)}
    row = rows(world, {"docs": CallRates(by_key=1, by_index=by_index, update=1)})["the application"]
    assert row.work.endswith("20 comparisons")
    assert row.forecast_reads == 20 * (1 + 5) / 2, "a read gives three documents in the mean"


def test_a_table_says_how_far_both_are_apart_and_what_it_costs() -> None:
    found = actual(BOOK, [Consumed(what="load", read_units=0, write_units=1_030_000, forecast_writes=1e6, work="x")])
    _, (row, total) = found.table()
    assert row == ("load", "x", "0", "", "", "1,030,000", "1,000,000", "+3.0 %", "0.6438")
    assert total[-1] == "0.6438"
    assert found.to_dict()["usd"] == pytest.approx(0.64375)
    assert deviation(1, None) == deviation(1, 0) == ""


def test_an_end_report_says_what_was_consumed_and_what_was_forecast() -> None:
    found = actual(BOOK, [Consumed(what="this load", read_units=0, write_units=990, forecast_writes=1_000)])
    assert found.lines() == [
        "this load: 990 write units, 0.0006 USD on demand; 1,000 were forecast (-1.0 %)",
        f"Prices: {BOOK.title}.",
    ]
    assert actual(BOOK, []).lines() == []


def test_given_calls_win_over_counted_ones_and_what_is_guessed_is_said() -> None:
    counted_calls = CallCounts(rates={"docs": CallRates(by_key=5, update=1)}, missing="")
    found = with_counted(MIGRATION, Workload(), counted_calls)
    assert found.rates == counted_calls.rates
    assert any("docs: each read is taken for one by key" in note for note in found.notes)
    given = Workload(rates={"docs": CallRates(by_key=9)})
    assert with_counted(MIGRATION, given, counted_calls) == given
    missing = replace(counted_calls, rates={}, missing="no permission")
    assert with_counted(MIGRATION, Workload(), missing).notes == ("no permission",)
