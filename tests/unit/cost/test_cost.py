"""Prices: AWS's own worked examples, and laws that hold for any workload."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from docferry.core.cost.migration import MigrationPlan, load_units, migration_cost
from docferry.core.cost.monthly import cheaper, monthly_cost
from docferry.core.cost.prices import PriceBook, price_book_of
from docferry.core.cost.roi import MongoBill, compare, scaled
from docferry.core.cost.units import index_write_units, read_units, write_units
from docferry.core.cost.workload import EstateLoad, IndexLoad, TableLoad
from docferry.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st
from support.place import ROOT

TREE: dict[str, Any] = yaml.safe_load(
    (ROOT / "include" / "docferry" / "config" / "price_books" / "us-east-1.yaml").read_text()
)
BOOK = price_book_of(TREE, "us-east-1.yaml")
KB = 1024


def usd(cost: Any, what: str) -> float:
    return math.fsum(line.usd for line in cost.lines if what in line.what)


# --- AWS's worked examples (pricing pages and "read and write operations", read 2026-11-29) ---------------------------


def test_reads_of_8_kb_cost_two_units_strongly_one_eventually_and_four_in_a_transaction() -> None:
    assert [read_units(8 * KB, kind) for kind in ("strong", "eventual", "transactional")] == [2, 1, 4]


def test_writes_of_1_and_3_kb_cost_one_and_three_units_and_six_in_a_transaction() -> None:
    assert (write_units(KB), write_units(3 * KB), write_units(3 * KB, transactional=True)) == (1, 3, 6)


def test_a_changed_index_key_is_a_delete_and_a_put() -> None:
    assert (index_write_units(700), index_write_units(700, key_changes=True)) == (1, 2)


def test_playbooks_month_costs_a_hundredth_of_what_the_playbook_says_for_requests() -> None:
    """10 M reads and 2 M writes: the playbook says 125 and 250 USD; on demand they are 0.63 (eventual) and 1.25."""
    table = TableLoad(name="Shop", items=1e6, item_bytes=900, writes=2e6, reads=10e6)
    cost = monthly_cost(EstateLoad(tables=(table,)), BOOK, "on_demand")
    assert usd(cost, "reads") == pytest.approx(0.625)
    assert usd(cost, "writes") == pytest.approx(1.25)


def test_100_units_provisioned_for_a_month_cost_as_the_pricing_page_says() -> None:
    """100 WCU and 100 RCU for 730 hours: 47.45 and 9.49 USD. A flat load that fills them to the target needs no more."""
    used = 100 * 0.7 / 1.5 * 730 * 3600
    table = TableLoad(name="T", items=0, item_bytes=1000, writes=used - 1, reads=2 * used - 2)
    cost = monthly_cost(EstateLoad(tables=(table,)), BOOK, "provisioned")
    assert usd(cost, "writes") == pytest.approx(47.45)
    assert usd(cost, "reads") == pytest.approx(9.49)


def test_storage_counts_100_bytes_an_item_and_an_index_entry_and_25_gb_are_free() -> None:
    table = TableLoad(
        name="T",
        items=1e8,
        item_bytes=900,
        writes=0,
        reads=0,
        indexes=[IndexLoad(name="GSI1", bytes_in=900, share=0.5)],
    )
    cost = monthly_cost(EstateLoad(tables=(table,)), BOOK, "on_demand")
    assert usd(cost, "T: storage") == pytest.approx((100 - 25) * 0.25)
    assert usd(cost, "GSI1, storage") == pytest.approx(50 * 0.25)
    assert usd(cost, "point-in-time") == pytest.approx(100 * 0.20)


def test_load_pays_for_indexes_and_import_by_size() -> None:
    table = TableLoad(
        name="T",
        items=1e6,
        item_bytes=1500,
        writes=0,
        reads=0,
        indexes=[IndexLoad(name="G", bytes_in=1500, share=0.25)],
    )
    assert load_units(table) == 1e6 * 2 + 0.25e6 * 2
    estate = EstateLoad(tables=(table,))
    plan = MigrationPlan(validations=0, dual_write_weeks=0, way_back_weeks=0)
    assert migration_cost(estate, BOOK, plan).usd == pytest.approx(2.5 * 0.625)
    assert migration_cost(estate, BOOK, replace(plan, by_import=True)).usd == pytest.approx(1.5 * 0.15)


def test_dax_node_that_the_book_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"dax\.r4\.large"):
        monthly_cost(EstateLoad(tables=(), dax_node="dax.r4.large", dax_nodes=3), BOOK, "on_demand")


def test_more_expensive_dynamodb_is_said_plainly() -> None:
    table = TableLoad(name="T", items=1e6, item_bytes=900, writes=3e9, reads=1e9)
    estate = EstateLoad(tables=(table,))
    found = compare(estate, BOOK, MongoBill(parts={"EC2": 100.0}), migration_cost(estate, BOOK, MigrationPlan()))
    assert found.break_even_months is None
    assert "more than MongoDB's bill" in found.sentence


def test_price_book_says_everything_that_is_wrong_with_it() -> None:
    tree = {**TREE, "restore_gb": -1, "wrong": 1, "dax_node_hour": {"dax.x": "many"}}
    del tree["import_gb"]
    with pytest.raises(ConfigError) as caught:
        price_book_of(tree, "book.yaml")
    assert {one.where for one in caught.value.problems} == {"restore_gb", "wrong", "dax_node_hour.dax.x", "import_gb"}


# --- laws ------------------------------------------------------------------------------------------------------------

counts = st.floats(0, 1e10)
shares = st.floats(0, 1)
indexes = st.builds(
    IndexLoad, name=st.just("GSI1"), bytes_in=st.floats(1, 400_000), share=shares, changed=shares, moved=shares
)
tables = st.builds(
    TableLoad,
    name=st.sampled_from(["A", "B"]),
    items=counts,
    item_bytes=st.floats(1, 400_000),
    writes=counts,
    reads=counts,
    strong=shares,
    transactional=shares,
    indexes=st.lists(indexes, max_size=3),
    day=st.lists(st.floats(0.01, 100), min_size=24, max_size=24),
    stream_reads=counts,
)
estates = st.builds(
    EstateLoad,
    tables=st.lists(tables, max_size=3),
    replicas=st.integers(0, 2),
    dax_node=st.just("dax.r5.large"),
    dax_nodes=st.integers(0, 3),
    backup_gb=st.floats(0, 1e5),
    transfer_out_gb=st.floats(0, 1e5),
)


@given(estates, st.sampled_from(["on_demand", "provisioned"]))
def test_parts_add_up_and_none_is_negative(estate: EstateLoad, billing: Any) -> None:
    cost = monthly_cost(estate, BOOK, billing)
    assert cost.usd == pytest.approx(sum(line.quantity * line.price for line in cost.lines))
    assert all(line.usd >= 0 for line in cost.lines)


@given(
    estates,
    st.floats(1, 10),
    st.sampled_from(["reads", "writes", "items"]),
    st.sampled_from(["on_demand", "provisioned"]),
)
def test_more_of_anything_never_costs_less(estate: EstateLoad, times: float, what: str, billing: Any) -> None:
    more = scaled(estate, **{what: times})
    assert monthly_cost(more, BOOK, billing).usd >= monthly_cost(estate, BOOK, billing).usd - 1e-6
    plan = MigrationPlan(journal_units=2)
    assert migration_cost(more, BOOK, plan).usd >= migration_cost(estate, BOOK, plan).usd - 1e-6


@given(estates)
def test_cheaper_is_the_cheaper_one(estate: EstateLoad) -> None:
    assert cheaper(estate, BOOK).usd == min(monthly_cost(estate, BOOK, one).usd for one in ("on_demand", "provisioned"))


@given(estates, st.sampled_from(["write_request_million", "read_request_million", "storage_gb_month", "pitr_gb_month"]))
def test_higher_price_never_costs_less(estate: EstateLoad, name: str) -> None:
    dearer: PriceBook = replace(BOOK, **{name: getattr(BOOK, name) * 2})
    assert monthly_cost(estate, dearer, "on_demand").usd >= monthly_cost(estate, BOOK, "on_demand").usd - 1e-6


def test_shipped_book_is_named_after_its_region() -> None:
    books = Path(ROOT / "include" / "docferry" / "config" / "price_books").glob("*.yaml")
    assert {book.stem: price_book_of(yaml.safe_load(book.read_text()), book.name).region for book in books} == {
        "us-east-1": "us-east-1"
    }
