"""A forecast as tables: for a terminal, as Markdown, as one HTML page, and as JSON. Pure."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from docferry.core.cost.forecast import Forecast
from docferry.core.cost.monthly import MonthlyCost
from docferry.core.cost.workload import SECONDS_A_MONTH, CostLine

SCHEMA = 1
REPORT = "cost.html"
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """`numbers`: the columns that are set to the right."""

    title: str
    head: Row
    rows: Sequence[Row]
    note: str = ""
    numbers: frozenset[int] = frozenset()


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


def tables_of(found: Forecast) -> Iterator[CostTable]:
    """Everything that a forecast says, table by table."""
    yield _collections(found)
    yield _month("A month, requests on demand", found.on_demand)
    yield _month("A month, requests provisioned with autoscaling", found.provisioned)
    yield lines_table("The migration, once", found.once.lines, found.once.usd)
    bill = found.bill
    yield CostTable(
        title="MongoDB's month" + (" (an estimate)" if bill.estimated else ""),
        head=("what", "USD"),
        rows=[*((what, f"{usd:,.2f}") for what, usd in bill.parts.items()), ("altogether", f"{bill.usd:,.2f}")],
        numbers=frozenset({1}),
    )
    yield CostTable(
        title="If it were otherwise",
        head=("a month with", "USD"),
        rows=[(one.what, f"{one.usd:,.2f}") for one in found.comparison.variations],
        note="MongoDB's bill is for what it holds today.",
        numbers=frozenset({1}),
    )


def lines_table(title: str, lines: Sequence[CostLine], usd: float) -> CostTable:
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
    return CostTable(
        title=title,
        head=("what", "quantity", "unit", "price", "USD"),
        rows=[*rows, ("altogether", "", "", "", f"{usd:,.2f}")],
        numbers=frozenset({1, 3, 4}),
    )


def _month(title: str, cost: MonthlyCost) -> CostTable:
    return lines_table(title, cost.lines, cost.usd)


def _collections(found: Forecast) -> CostTable:
    return CostTable(
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
    lines = [f"# What {_m(found.migration)} costs", "", *[f"- {_m(one)}" for one in first_lines(found)], ""]
    for table in tables_of(found):
        lines += [f"## {_m(table.title)}", ""]
        lines += [_m(table.note), ""] if table.note else []
        lines.append("| " + " | ".join(map(_m, table.head)) + " |")
        lines.append("|" + "|".join(" ---: " if n in table.numbers else " --- " for n in range(len(table.head))) + "|")
        lines += ["| " + " | ".join(map(_m, row)) + " |" for row in table.rows]
        lines.append("")
    return "\n".join(lines)


def page(found: Forecast) -> str:
    """The forecast as one HTML page: no script, no request to anywhere; light, dark, and for print."""
    parts = [f"<h1>What {_e(found.migration)} costs</h1>"]
    parts += [f"<p>{_e(one)}</p>" for one in first_lines(found)]
    parts.append(_bars(found))
    parts += [_html(table) for table in tables_of(found)]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>docferry cost: {_e(found.migration)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def report_files(found: Forecast) -> dict[str, str]:
    """The report in its three forms, by the names of its files."""
    return {
        REPORT: page(found),
        "cost.md": markdown(found),
        "cost.json": json.dumps(to_dict(found), indent=1, default=str),
    }


def _html(table: CostTable) -> str:
    def cell(place: int, text: str, tag: str) -> str:
        return f"<{tag}{' class=n' if place in table.numbers else ''}>{_e(text)}</{tag}>"

    head = "".join(cell(place, text, "th") for place, text in enumerate(table.head))
    rows = "".join(
        f"<tr>{''.join(cell(place, text, 'td') for place, text in enumerate(row))}</tr>" for row in table.rows
    )
    note = f"<p class=sub>{_e(table.note)}</p>" if table.note else ""
    return (
        f"<section><h2>{_e(table.title)}</h2>{note}<div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _bars(found: Forecast) -> str:
    """The months side by side, as inline SVG."""
    months = [
        ("MongoDB" + (" (estimated)" if found.bill.estimated else ""), found.bill.usd),
        ("DynamoDB, on demand", found.on_demand.usd),
        ("DynamoDB, provisioned", found.provisioned.usd),
    ]
    most = max(usd for _, usd in months) or 1.0
    rows = "".join(
        f'<text x="0" y="{18 + 28 * n}">{_e(name)}</text>'
        f'<rect x="190" y="{5 + 28 * n}" height="18" width="{max(1.0, 300 * usd / most):.1f}"/>'
        f'<text x="{196 + max(1.0, 300 * usd / most):.1f}" y="{18 + 28 * n}">{usd:,.2f} USD</text>'
        for n, (name, usd) in enumerate(months)
    )
    return f'<svg viewBox="0 0 620 90" role="img" aria-label="A month of each, in USD">{rows}</svg>'


def _e(text: str) -> str:
    """Text for HTML; what cannot be printed is shown as a question mark."""
    return html.escape("".join(one if one.isprintable() else "?" for one in text), quote=True)


def _m(text: str) -> str:
    """Text for Markdown: nothing in it is markup."""
    plain = "".join(one if one.isprintable() else "?" for one in text)
    for mark in "\\`*_[]<>#|":
        plain = plain.replace(mark, "\\" + mark)
    return plain


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--paper:#fff;--bar:#2f6feb}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--paper:#0d1117;--bar:#6ea8fe}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:auto;padding:24px 16px}
h1{font-size:24px}h2{font-size:17px;margin:28px 0 6px}
.sub{color:var(--soft);margin:4px 0}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{border-bottom:1px solid var(--line);padding:4px 10px 4px 0;text-align:left;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
svg{width:100%;max-width:620px;margin-top:8px}svg text{fill:var(--ink);font-size:13px}svg rect{fill:var(--bar)}
@media print{main{max-width:none;padding:0}section{break-inside:avoid}}
""".replace("\n", "")
