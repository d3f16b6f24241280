"""A forecast as tables: for a terminal, as Markdown, as one HTML page, and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from docferry.core.cost.forecast import Forecast
from docferry.core.cost.monthly import MonthlyCost
from docferry.core.cost.workload import SECONDS_A_MONTH, CostLine
from docferry.core.pages import Table, html_page, markdown_page, month_bars

SCHEMA = 1
REPORT = "cost.html"


def first_lines(found: Forecast) -> list[str]:
    """What to read first."""
    billing = "on demand" if found.billing == "on_demand" else "provisioned"
    other = min(found.on_demand, found.provisioned, key=lambda cost: cost.usd)
    way = "on demand" if other.billing == "on_demand" else "provisioned with autoscaling"
    lines = [
        found.comparison.sentence,
        f"As the file bills it ({billing}): {found.as_designed.usd:,.2f} USD a month; on demand {found.on_demand.usd:,.2f}, "
        f"provisioned with autoscaling {found.provisioned.usd:,.2f}. The migration, once: {found.once.usd:,.2f}.",
        f"Prices: {found.book}.",
    ]
    if other.billing != found.billing:
        less = found.as_designed.usd - other.usd
        lines.append(f"Requests {way} would cost {less:,.2f} USD a month less than as the file has it.")
    lines += [
        f"{table} in the class Standard-IA would cost {now - other:,.2f} USD a month less."
        for table, now, other in found.classes
        if other < now - 0.005 and not next(one for one in found.load.tables if one.name == table).infrequent
    ]
    return lines + [f"Guessed: {one}." for one in found.guessed]


def tables_of(found: Forecast) -> Iterator[Table]:
    """Everything that a forecast says, table by table."""
    yield _collections(found)
    yield _month("A month, requests on demand", found.on_demand)
    yield _month("A month, requests provisioned with autoscaling", found.provisioned)
    yield lines_table("The migration, once", found.once.lines, found.once.usd)
    bill = found.bill
    yield Table(
        title="MongoDB's month" + (" (an estimate)" if bill.estimated else ""),
        head=("what", "USD"),
        rows=[*((what, f"{usd:,.2f}") for what, usd in bill.parts.items()), ("altogether", f"{bill.usd:,.2f}")],
        numbers=frozenset({1}),
    )
    yield Table(
        title="If it were otherwise",
        head=("a month with", "USD"),
        rows=[(one.what, f"{one.usd:,.2f}") for one in found.comparison.variations],
        note="MongoDB's bill is for what it holds today.",
        numbers=frozenset({1}),
    )


def lines_table(title: str, lines: Sequence[CostLine], usd: float) -> Table:
    """Lines of cost with how each comes about; those of less than half a cent are left out, and counted."""
    rows = [
        (
            f"{one.what} ({one.note})" if one.note else one.what,
            f"{one.quantity:,.3f}",
            one.unit,
            f"{one.price:g}",
            f"{one.usd:,.2f}",
        )
        for one in lines
        if one.usd >= 0.005
    ]
    return Table(
        title=title,
        head=("what", "quantity", "unit", "price", "USD"),
        rows=[*rows, ("altogether", "", "", "", f"{usd:,.2f}")],
        numbers=frozenset({1, 3, 4}),
    )


def _month(title: str, cost: MonthlyCost) -> Table:
    return lines_table(title, cost.lines, cost.usd)


def _collections(found: Forecast) -> Table:
    return Table(
        title="What the documents take",
        head=(
            "collection", "documents", "looked at", "items each", "bytes an item", "WRU of a load", "reads/s", "writes/s",
            "RRU a month", "WRU a month",
        ),
        rows=[
            (
                one.sizes.collection, f"{one.sizes.documents:,.0f}", f"{one.sizes.sampled:,}", f"{one.sizes.items:.2f}",
                f"{one.sizes.item_bytes:,.0f}",
                f"{one.sizes.stored * (one.sizes.put_units + sum(i.entries * i.put_units for i in one.sizes.indexes)):,.0f}",
                f"{one.rates.reads:,.2f}", f"{one.rates.writes:,.2f}",
                f"{one.units.all_reads * SECONDS_A_MONTH:,.0f}", f"{one.units.all_writes * SECONDS_A_MONTH:,.0f}",
            )
            for one in found.collections
        ],
        note="Units are those of requests, with indexes, while DynamoDB leads.",
        numbers=frozenset(range(1, 10)),
    )  # fmt: skip


def to_dict(found: Forecast) -> dict[str, Any]:
    """Plain values for JSON, with a schema number."""
    return {"schema": SCHEMA, **asdict(found)} | {
        "on_demand": _lines_dict(found.on_demand.lines, found.on_demand.usd),
        "provisioned": _lines_dict(found.provisioned.lines, found.provisioned.usd),
        "once": _lines_dict(found.once.lines, found.once.usd),
        "as_designed_usd": found.as_designed.usd,
    }


def _lines_dict(lines: Sequence[CostLine], usd: float) -> dict[str, Any]:
    return {"usd": usd, "lines": [asdict(one) for one in lines]}


def summary(found: Forecast) -> dict[str, Any]:
    """A few figures: for XCom, where a table does not belong."""
    return {
        "book": found.book,
        "month_usd": round(found.as_designed.usd, 2),
        "on_demand_usd": round(found.on_demand.usd, 2),
        "provisioned_usd": round(found.provisioned.usd, 2),
        "once_usd": round(found.once.usd, 2),
        "mongodb_usd": round(found.bill.usd, 2),
        "mongodb_estimated": found.bill.estimated,
        "break_even_months": found.comparison.break_even_months,
        "sentence": found.comparison.sentence,
        "guessed": list(found.guessed),
    }


# --- as text ---------------------------------------------------------------------------------------------------------


def markdown(found: Forecast) -> str:
    """The forecast as Markdown."""
    return markdown_page(f"What {found.migration} costs", first_lines(found), tables_of(found))


def page(found: Forecast) -> str:
    """The forecast as one HTML page: no script, no request to anywhere; light, dark, and for print."""
    title = f"What {found.migration} costs"
    return html_page(title, "", first_lines(found), tables_of(found), _bars(found))


def report_files(found: Forecast) -> dict[str, str]:
    """The report in its three forms, by the names of its files."""
    return {
        REPORT: page(found),
        "cost.md": markdown(found),
        "cost.json": json.dumps(to_dict(found), indent=1, default=str),
    }


def _bars(found: Forecast) -> str:
    """The months side by side."""
    months = [
        ("MongoDB" + (" (estimated)" if found.bill.estimated else ""), found.bill.usd),
        ("DynamoDB, on demand", found.on_demand.usd),
        ("DynamoDB, provisioned", found.provisioned.usd),
    ]
    return month_bars([(name, usd, f"{usd:,.2f} USD") for name, usd in months])
