"""A dry run's money: what is not loaded yet is paid for once more, what lies there each month."""

from __future__ import annotations

import pytest
from docferry.config.price_book import load_price_book
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.cost.actual import load_cost, loads
from docferry.flows.cost.dry_run import dry_run_of
from docferry.flows.cost.measured import measure_collections
from docferry.testing.jobs import make_job
from support.replicate.fake_world import MIGRATION, World

BOOK = load_price_book()
A_UNIT = BOOK.write_request_million / 1e6


def test_what_is_not_loaded_yet_is_priced_as_its_plan_says_and_what_is_loaded_costs_nothing_again() -> None:
    world = World(200)
    job = make_job(**world.common)
    plan = plan_backfill(job)
    before = dry_run_of(MIGRATION, world.source, BOOK, plan=plan)
    assert before.load == pytest.approx(plan.write_units * A_UNIT)
    world.load()
    after = dry_run_of(MIGRATION, world.source, BOOK, plan=plan_backfill(job))
    assert after.load == 0
    assert after.month_usd == before.month_usd
    assert before.to_dict()["load_usd"] >= 0
    assert "this load" in before.lines()[0]


def test_provisioning_prices_all_that_is_there() -> None:
    found = dry_run_of(MIGRATION, World(200).source, BOOK, image_bytes=1e9)
    assert found.load == pytest.approx(200 * A_UNIT)
    assert found.images == pytest.approx(0.08)


def test_a_loads_end_is_held_against_its_plan() -> None:
    world = World(200)
    job = make_job(**world.common)
    plan = plan_backfill(job)
    world.load()
    (row,) = loads(job, measure_collections(MIGRATION, world.source))
    assert row.write_units == row.forecast_writes == plan.write_units == 200
    assert load_cost(plan, [], BOOK).lines() == []
