"""The playbook's table in docs/cost.md is what the model computes."""

from __future__ import annotations

import math
from dataclasses import replace

from docferry.config.price_book import load_price_book
from docferry.core.cost.monthly import monthly_cost
from docferry.core.cost.workload import HOURS_A_MONTH, EstateLoad, IndexLoad, TableLoad
from support.place import ROOT

PAGE = (ROOT / "docs" / "cost.md").read_text()
BOOK = load_price_book()
TABLE = TableLoad(
    name="Shop",
    items=1e8,
    item_bytes=900,
    writes=2e6,
    reads=10e6,
    indexes=tuple(IndexLoad(name=name, bytes_in=400) for name in ("GSI1", "GSI2")),
)
ESTATE = EstateLoad(tables=(TABLE,), dax_node="dax.r5.large", dax_nodes=3, backup_gb=150, transfer_out_gb=278)
ROWS = {
    "10 M reads": ("Shop: reads",),
    "2 M writes": ("Shop: writes",),
    "100 GB": ("Shop: storage",),
    "indexes, requests": ("Shop: index GSI1, writes", "Shop: index GSI2, writes"),
    "indexes, storage": ("Shop: index GSI1, storage", "Shop: index GSI2, storage"),
    "DAX, 3 nodes": ("DAX: 3 x dax.r5.large",),
    "backups": ("backups",),
    "transfer": ("transfer out",),
    "point-in-time recovery": ("Shop: point-in-time recovery",),
}


def cell(row: str, place: int) -> float:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {row} |"))
    return float(line.split("|")[place].strip().strip("*").replace(",", ""))


def test_each_line_of_the_playbooks_table_is_what_the_model_computes() -> None:
    lines = {line.what: line.usd for line in monthly_cost(ESTATE, BOOK, "on_demand").lines}
    computed = {row: math.fsum(lines.pop(what) for what in parts) for row, parts in ROWS.items()}
    assert {row: cell(row, 3) for row in ROWS} == {row: round(usd + 1e-9, 2) for row, usd in computed.items()}
    assert lines == {}, "a line of the model is in no row of the page"


def test_sums_are_those_of_the_lines() -> None:
    month = monthly_cost(ESTATE, BOOK, "on_demand").usd
    assert cell("**a month**", 3) == round(month, 2)
    assert cell("**a month**", 2) == sum(cell(row, 2) for row in ROWS)
    assert f"{month - 3 * BOOK.dax_node_hour['dax.r5.large'] * HOURS_A_MONTH:.2f}" in PAGE


def test_mongodbs_side_is_by_the_same_book() -> None:
    hour = BOOK.instance_hour
    servers = [hour["r5.2xlarge"], 2 * hour["r5.xlarge"], hour["t3.small"]]
    parts = [one * HOURS_A_MONTH for one in servers] + [3_000 * BOOK.block_storage_gb_month, 280]
    for usd in parts[:4]:
        assert f"{usd:.2f}" in PAGE
    assert f"{sum(parts):,.2f}" in PAGE


def test_a_thousand_times_the_requests_costs_more_than_the_playbooks_mongodb() -> None:
    busy = replace(ESTATE, tables=(replace(TABLE, reads=10e9, writes=2e9),))
    assert monthly_cost(busy, BOOK, "on_demand").usd > 1_230
