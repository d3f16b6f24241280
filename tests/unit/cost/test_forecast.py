"""From documents and calls to money: each call's units, a table's totals, and what a forecast says in words."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from docferry.config.price_book import load_price_book
from docferry.core.cost.calls import (
    CallRates,
    IndexReads,
    Units,
    added,
    delete,
    insert,
    of_all,
    read_by_index,
    read_by_key,
    update,
)
from docferry.core.cost.dry_run import dry_run_cost
from docferry.core.cost.forecast import Forecast, PricedDesign, Workload, forecast
from docferry.core.cost.migration import MigrationPlan, load_units, validation_units
from docferry.core.cost.report import first_lines, markdown, page, to_dict
from docferry.core.cost.roi import MongoBill, shared_out
from docferry.core.cost.sizes import CollectionSizes, measure
from docferry.core.cost.workload import SECONDS_A_MONTH
from docferry.core.settings import Capacity, TableSettings
from hypothesis import given
from hypothesis import strategies as st

BOOK = load_price_book()
KB = 1024


def item(size: int, **keys: str) -> dict[str, Any]:
    """One of so many bytes, as DynamoDB counts them."""
    start = {"PK": {"S": "P"}, "SK": {"S": "S"}, "_v": {"S": "1"}} | {
        name: {"S": value} for name, value in keys.items()
    }
    used = sum(len(name) + len(value["S"]) for name, value in start.items())
    return start | {"a": {"S": "x" * (size - used - 1)}}


USERS = measure(
    "users",
    "Shop",
    1_000,
    [
        [item(1500, GSI1PK="e", GSI1SK="u"), item(500), item(500)],
        [item(900)],
    ],
    ["GSI1", "GSI2"],
    0,
)
"""Documents of three items (one in GSI1) and of one: 4 and 1 units, in transactions and alone."""


def test_sizes_are_means_over_documents_each_item_rounded_up_by_itself() -> None:
    assert (USERS.items, USERS.item_bytes) == (2.0, 850.0)
    assert (USERS.put_units, USERS.root_units) == ((2 + 1 + 1 + 1) / 2, (2 + 1) / 2)
    assert USERS.dual_units == (2 * 4 + 1) / 2
    assert (USERS.read_units, USERS.get_units) == (1.0, 2.0)
    assert [(one.name, one.entries, one.of_roots, one.put_units, one.bytes_in) for one in USERS.indexes] == [
        ("GSI1", 0.5, 0.5, 2.0, 1500.0)
    ]


def test_documents_that_cannot_be_stored_are_not_priced() -> None:
    assert replace(USERS, refused=1, sampled=4).stored == 750
    nothing = measure("users", "Shop", 10, [], [], 3)
    assert (nothing.stored, nothing.put_units) == (0, 0)


def test_each_call_takes_what_the_client_does() -> None:
    assert read_by_key(USERS) == Units(reads=1.0)
    assert read_by_index(USERS, "GSI1", 10) == Units(index_reads={"GSI1": 0.5 * 4}, reads=10.0)
    assert insert(USERS) == Units(write_reads=1.0, writes=5.0, index_writes={"GSI1": 1.0}, dual=4.5, follow=2.5)
    assert update(USERS, {"GSI1": 0.5}) == Units(
        write_reads=1.0, writes=3.0, index_writes={"GSI1": 1.5}, dual=4.5, follow=1.5
    )
    assert delete(USERS).writes == 5.0


def test_an_index_that_projects_only_keys_is_small_and_is_written_when_they_change() -> None:
    big = item(5_000, GSI1PK="e", GSI1SK="u")

    def keys(index: str, one: Any) -> Any:
        return {name: value for name, value in one.items() if name in {"PK", "SK", "GSI1PK", "GSI1SK"}}

    (index,) = measure("users", "Shop", 10, [[big]], ["GSI1"], 0, keys).indexes
    assert (index.put_units, index.versioned) == (1.0, False)
    assert index.bytes_in < 50
    sizes = replace(USERS, indexes=(index,))
    assert update(sizes).index_writes == {"GSI1": 0}
    assert update(sizes, {"GSI1": 0.25}).index_writes == {"GSI1": 0.5}
    (everything,) = measure("users", "Shop", 10, [[big]], ["GSI1"], 0).indexes
    assert (everything.put_units, everything.versioned) == (5.0, True)


DESIGN = PricedDesign(
    migration="shop", region="us-east-1", tables=(TableSettings(name="Shop", indexes=("GSI1", "GSI2")),)
)
RATES = CallRates(by_key=40, by_index={"GSI1": IndexReads(calls=5, results=2)}, insert=1, update=3, moved={"GSI1": 0.1})
ORDERS = measure("orders", "Shop", 5_000, [[item(3000, GSI1PK="u", GSI2PK="s")]], ["GSI1", "GSI2"], 0)


def priced(**more: Any) -> Forecast:
    workload = Workload(rates={"users": RATES, "orders": CallRates(insert=2)}, **more)
    return forecast(DESIGN, [USERS, ORDERS], workload, BOOK, MongoBill(parts={"EC2": 100.0}))


def quantity(cost: Any, what: str) -> float:
    return math.fsum(line.quantity for line in cost.lines if line.what == what)


def test_a_tables_month_is_the_sum_of_its_collections_calls() -> None:
    found = priced()
    units = added([of_all(USERS, RATES), of_all(ORDERS, CallRates(insert=2))])
    month = SECONDS_A_MONTH / 1e6
    assert quantity(found.on_demand, "Shop: writes") == pytest.approx(units.writes * month)
    assert quantity(found.on_demand, "Shop: reads") == pytest.approx((units.reads + units.write_reads) * month)
    for index in ("GSI1", "GSI2"):
        assert quantity(found.on_demand, f"Shop: index {index}, writes") == pytest.approx(
            units.index_writes[index] * month
        )
    assert quantity(found.on_demand, "Shop: index GSI1, reads") == pytest.approx(units.index_reads["GSI1"] * month)


def test_the_load_and_a_validation_take_what_each_item_takes() -> None:
    table = priced().load.tables[0]
    assert load_units(table) == pytest.approx(1_000 * (2.5 + 1.0) + 5_000 * (3 + 3 + 3))
    assert validation_units(table) == pytest.approx(1_000 * 2 + 5_000 * 1 + (1_000 * 1_700 + 5_000 * 3_000) / 4096)


def test_the_migration_prices_each_phase() -> None:
    plan = MigrationPlan(
        follow_weeks=1, dual_write_weeks=2, compared=0.5, way_back_weeks=1, processes=20, backups=1, team_weeks=4,
        team_week_usd=5_000,
    )  # fmt: skip
    lines = {line.what for line in priced(plan=plan).once.lines}
    for what in (
        "load", "load, index GSI1", "replication before dual writes", "dual writes", "replication beside dual writes",
        "reads that are compared", "14 validations", "journal while a way back is open", "reverse replication",
    ):  # fmt: skip
        assert f"Shop: {what}" in lines
    assert {"reverse replication: GetRecords", "ledger: reads", "backups until the end", "the team's time"} <= lines


def test_without_a_journal_nothing_is_paid_for_one() -> None:
    workload = Workload(rates={"users": RATES, "orders": CallRates()})
    found = forecast(replace(DESIGN, journal=False), [USERS, ORDERS], workload, BOOK)
    assert not [line for line in found.once.lines if "journal" in line.what]


def test_a_provisioned_table_keeps_to_its_files_capacity_and_says_when_it_is_too_little() -> None:
    capacity = Capacity(read_units=5, write_units=5, max_read_units=10, max_write_units=10)
    table = TableSettings(name="Shop", indexes=("GSI1", "GSI2"), billing="provisioned", capacity=capacity)
    day = (0.0,) * 12 + (2.0,) * 12
    found = forecast(
        replace(DESIGN, tables=(table,)), [USERS], Workload(rates={"users": RATES}, day=day), BOOK, MongoBill(parts={})
    )
    reads = next(line for line in found.provisioned.lines if line.what == "Shop: reads")
    assert reads.quantity == pytest.approx((5 + 10) / 2 * 730)
    assert "12 of 24 hours" in reads.note
    assert found.as_designed is found.provisioned


def test_infrequent_access_is_paid_by_its_own_prices_and_has_no_free_storage() -> None:
    found = priced(infrequent=frozenset({"Shop"}))
    prices = {line.what: line.price for line in found.on_demand.lines}
    assert (prices["Shop: writes"], prices["Shop: reads"], prices["Shop: storage"]) == (0.78, 0.155, 0.10)
    ((_, now, standard),) = found.classes
    assert now == pytest.approx(found.on_demand.usd)
    assert standard == pytest.approx(priced().on_demand.usd)


def test_a_table_that_is_mostly_storage_is_said_to_be_cheaper_as_infrequent() -> None:
    huge = replace(ORDERS, documents=1e9)
    found = forecast(DESIGN, [huge], Workload(rates={"orders": CallRates()}), BOOK)
    assert any("Shop in the class Standard-IA would cost" in line for line in first_lines(found))
    assert not any("Standard-IA" in line for line in first_lines(priced()))


def test_replicas_pay_replicated_units_for_the_table_and_ordinary_ones_for_indexes() -> None:
    book = replace(BOOK, replicated_write_million=0.9)
    found = forecast(replace(DESIGN, replicas=2), [USERS], Workload(rates={"users": RATES}), book)
    prices = {line.what: (line.price, line.quantity) for line in found.on_demand.lines}
    once = prices["Shop: writes"][1]
    price, quantity_of_two = prices["Shop: replicated writes"]
    assert price == 0.9
    assert quantity_of_two == pytest.approx(2 * once)
    assert prices["Shop: index GSI1, replicated writes"][0] == BOOK.write_request_million


def test_what_is_guessed_is_said() -> None:
    still = CollectionSizes(collection="events", table="Shop", documents=7, sampled=0)
    found = forecast(replace(DESIGN, region="eu-west-1"), [USERS, still], Workload(notes=["a note"]), BOOK)
    told = "\n".join(first_lines(found))
    assert "a note" in told
    assert "no document of events was looked at" in told
    assert "no traffic of users, events is known" in told
    assert "the prices are those of us-east-1, the tables will be in eu-west-1" in told
    assert "no saving is claimed" in told
    assert f"Prices: {BOOK.name}, of {BOOK.date}." in told


def test_a_dearer_dynamodb_is_said_in_a_plain_sentence() -> None:
    dear = Workload(rates={"users": replace(RATES, by_key=9_000, update=3_000)})
    found = forecast(DESIGN, [USERS], dear, BOOK, MongoBill(parts={"EC2": 10.0}))
    assert "USD a month more than MongoDB's bill" in found.comparison.sentence
    assert found.comparison.break_even_months is None


def test_reads_for_each_write_keep_the_number_of_requests() -> None:
    load = priced().load
    found = shared_out(load, 9)
    before, after = (sum(one.reads + one.writes for one in each.tables) for each in (load, found))
    assert after == pytest.approx(before)
    assert sum(one.reads for one in found.tables) == pytest.approx(9 * sum(one.writes for one in found.tables))


def test_the_sentence_is_about_the_billing_that_the_file_has_and_a_cheaper_one_is_named() -> None:
    found = priced()
    assert found.comparison.dynamodb_usd == found.as_designed.usd == found.on_demand.usd
    less = found.on_demand.usd - found.provisioned.usd
    assert less > 0
    assert f"Requests provisioned with autoscaling would cost {less:,.2f} USD a month less" in "\n".join(
        first_lines(found)
    )


def test_growth_is_compounded_and_told_by_year() -> None:
    usd = {one.what: one.usd for one in priced(growth=1.0).comparison.variations}
    assert usd["100% growth a year, after 3"] > usd["100% growth a year, after 1"] > priced().comparison.dynamodb_usd


def test_a_report_escapes_names_and_asks_nobody() -> None:
    found = replace(priced(), migration="<script>|x")
    html, text = page(found), markdown(found)
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "\\<script\\>\\|x" in text
    assert json.loads(json.dumps(to_dict(found)))["schema"] == 1


a_second = st.just(0.0) | st.floats(0.001, 1e4)
rates = st.builds(
    CallRates,
    by_key=a_second,
    by_index=st.dictionaries(st.sampled_from(["GSI1", "GSI2"]), st.builds(IndexReads, calls=a_second)),
    insert=a_second,
    update=a_second,
    delete=a_second,
)


@given(rates, st.sampled_from(["by_key", "insert", "update", "delete"]), st.floats(1, 5))
def test_more_calls_never_cost_less_and_lines_add_up(given_rates: CallRates, kind: str, more: float) -> None:
    def month(one: CallRates) -> Any:
        return forecast(DESIGN, [USERS, ORDERS], Workload(rates={"users": one}), BOOK)

    found = month(given_rates)
    larger = month(replace(given_rates, **{kind: getattr(given_rates, kind) * more}))
    assert larger.on_demand.usd >= found.on_demand.usd - 1e-6
    assert larger.once.usd >= found.once.usd - 1e-6
    assert found.on_demand.usd == pytest.approx(sum(line.quantity * line.price for line in found.on_demand.lines))


# --- dry runs --------------------------------------------------------------------------------------------------------


def test_a_dry_run_prices_this_load_and_what_lies_there() -> None:
    found = dry_run_cost(DESIGN, [USERS, replace(ORDERS, documents=1e8)], BOOK, image_bytes=50e9)
    load = 1_000 * (2.5 + 1.0) + 1e8 * (3 + 3 + 3)
    assert found.load == pytest.approx(load * 0.625e-6)
    assert found.load_indexes == pytest.approx((1_000 * 1.0 + 1e8 * 6) * 0.625e-6)
    gb = 1e8 * 3_100 / 1e9
    assert found.indexes_usd == pytest.approx(2 * gb * 0.25, rel=1e-3)
    assert found.month_usd == pytest.approx((3 * gb - 25) * 0.25 + gb * 0.20, rel=1e-3)
    assert found.backup == pytest.approx(gb * 0.10, rel=1e-3)
    assert found.images == pytest.approx(50 * 0.08)
    assert BOOK.title in found.lines()[0]


def test_a_dry_run_of_what_is_loaded_costs_no_load() -> None:
    found = dry_run_cost(DESIGN, [USERS], BOOK, loaded={"Shop": 0})
    assert (found.load, found.load_indexes) == (0, 0)
    half = dry_run_cost(DESIGN, [USERS], BOOK, loaded={"Shop": 1_750_000})
    assert (half.load, half.load_indexes) == pytest.approx((1.75 * 0.625, 0.5 * 0.625))


def test_a_dry_run_says_that_provisioned_capacity_is_paid_otherwise() -> None:
    table = replace(DESIGN.tables[0], billing="provisioned", capacity=Capacity(read_units=5, write_units=5))
    assert any(
        "Shop: provisioned" in line for line in dry_run_cost(replace(DESIGN, tables=(table,)), [USERS], BOOK).lines()
    )
