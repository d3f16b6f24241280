"""The report of an analysis: one HTML file that needs nothing else, the same as Markdown, and its facts as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from docferry.core.analyze.design import Design
from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, Risk, Spread
from docferry.core.analyze.price import Price
from docferry.core.cost.workload import CostLine
from docferry.core.pages import Row, Table, html_page, markdown_page, month_bars

SCHEMA = 1
PATHS_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report tells."""

    facts: DatabaseFacts
    risks: Sequence[Risk]
    design: Design
    price: Price
    first: Sequence[str] = ()
    """More lines of the first page."""
    tables: Sequence[Table] = ()
    """More tables, from elsewhere: the application's calls."""

    def counts(self) -> dict[str, int | float | str]:
        """What may stand in a log or a record: numbers, no names and no values."""
        return {
            "collections": len(self.facts.collections),
            "documents_read": self.facts.documents_read,
            "bytes_read": self.facts.bytes_read,
            "seconds": round(self.facts.seconds, 1),
            "yielded_s": round(self.facts.yielded_s, 1),
            "stopped_early": self.facts.stopped_early,
            "missing_facts": len(self.facts.missing),
            "blocks": sum(one.severity == "blocks" for one in self.risks),
            "decide": sum(one.severity == "decide" for one in self.risks),
            "usd_a_month": round(self.price.on_demand.usd, 2),
        }


def render_json(report: Report) -> str:
    """The facts, risks, design and price, as JSON with a schema number."""
    return json.dumps({"schema": SCHEMA, **asdict(report)}, indent=1, default=_told)


def _told(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def render_markdown(report: Report) -> str:
    """The report as Markdown."""
    first = [*_first_page(report), *report.first]
    return markdown_page(f"Analysis of {report.facts.database}", first, _tables(report))


def render_html(report: Report) -> str:
    """The report as one HTML page: no script, no request to anywhere."""
    first = [*_first_page(report), *report.first]
    name = report.facts.database
    return html_page(f"Analysis of {name}", _about(report.facts), first, _tables(report), _bars(report.price))


# --- what is told ----------------------------------------------------------------------------------------------------


def _about(facts: DatabaseFacts) -> str:
    counted = f", {facts.server_bytes / 1e6:,.0f} MB counted by the server" if facts.server_bytes else ""
    earlier = f"; {facts.earlier} collections by an earlier run that was cut short" if facts.earlier else ""
    return (
        f"{facts.server}; {len(facts.collections)} collections, {facts.documents_read:,} documents "
        f"({facts.bytes_read / 1e6:,.0f} MB) read{counted} in {facts.seconds:,.0f} s from {facts.began}{earlier}"
    )


def _first_page(report: Report) -> list[str]:
    price, risks = report.price, report.risks
    blocks = [one for one in risks if one.severity == "blocks"]
    decide = [one for one in risks if one.severity == "decide"]
    told = [
        f"Cost: {price.comparison.sentence}",
        f"Requests on demand: {price.on_demand.usd:,.2f} USD a month altogether; provisioned: {price.provisioned.usd:,.2f}. "
        f"Prices: {price.book}, of {price.book_date}.",
        f"What does not fit: {len(blocks)} finding(s)."
        if blocks
        else "What does not fit: nothing was found in the sample.",
        f"To decide: {len(decide)} question(s)." if decide else "To decide: nothing.",
    ]
    told += [f"Guessed: {one}." for one in price.guessed]
    if report.facts.yielded_s:
        told.append(
            f"The server was busy with others for {report.facts.yielded_s:,.0f} s, which the analysis has waited."
        )
    if report.facts.uncounted:
        told.append(f"Not counted whether they repeat, for the budget: {_some(report.facts.uncounted)}.")
    if report.facts.stopped_early:
        told.append(f"Not everything was read: {report.facts.stopped_early}. Run again with a larger budget to go on.")
    told += [f"Not known: {one.adds} ({one.source}: {one.reason}). {one.grant}" for one in report.facts.missing]
    return told


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _tables(report: Report) -> Iterator[Table]:
    yield Table(
        title="What does not fit, and what to decide",
        head=("weight", "collection", "where", "what", "evidence", "what to do"),
        rows=[(one.severity, one.collection, one.subject, one.what, one.evidence, one.advice) for one in report.risks],
        note="blocks: cannot be migrated so. decide: a choice of yours. know: good to know.",
    )
    yield Table(
        title="The proposal and its reasons",
        head=("collection", "choice", "chosen", "because", "not"),
        rows=[
            (one.collection or "(all)", one.topic, one.chosen, one.why, "; ".join(one.lost))
            for one in report.design.choices
        ],
    )
    yield from _cost_tables(report.price)
    yield _collections(report.facts)
    yield Table(
        title="References between collections",
        head=("field", "leads to", "hits", "documents a value (p50, p99, max)"),
        rows=[
            (
                f"{one.collection}.{one.path}",
                f"{one.target}.{one.target_path}",
                f"{one.hits:.0%} of {one.tried}",
                f"{one.fan_out.p50:,.0f}, {one.fan_out.p99:,.0f}, {one.fan_out.max:,.0f}",
            )
            for one in report.facts.references
        ],
        note="Tried on values of a sample: of these values, how many are there.",
    )
    yield Table(
        title="Calls of the application",
        head=("collection", "call", "equal", "range", "else", "sort", "calls", "ms", "from"),
        rows=[
            (
                shape.collection, shape.kind, ", ".join(shape.equality), ", ".join(shape.range), ", ".join(shape.other),
                ", ".join(name for name, _ in shape.sort), f"{shape.calls:,}", f"{shape.ms / shape.calls:.1f}", shape.source,
            )
            for facts in report.facts.collections
            for shape in facts.shapes[:30]
        ],
        note="Shapes only: no value of a query is kept. Empty where the profiler is off and no log was given.",
        numbers=frozenset({6, 7}),
    )  # fmt: skip
    yield from report.tables
    for facts in report.facts.collections:
        if facts.paths:
            yield _paths(facts)


def _cost_tables(price: Price) -> Iterator[Table]:
    head = ("what", "quantity", "unit", "price", "USD")
    numbers = frozenset({1, 3, 4})
    yield Table(title="A month, requests on demand", head=head, rows=_cost_rows(price.on_demand.lines), numbers=numbers)
    yield Table(
        title="A month, requests provisioned", head=head, rows=_cost_rows(price.provisioned.lines), numbers=numbers
    )
    yield Table(title="The migration, once", head=head, rows=_cost_rows(price.once.lines), numbers=numbers)
    yield Table(
        title="If it were otherwise",
        head=("a month with", "USD"),
        rows=[(one.what, f"{one.usd:,.2f}") for one in price.comparison.variations],
        numbers=frozenset({1}),
    )


def _cost_rows(lines: Sequence[CostLine]) -> list[Row]:
    rows = [
        (
            one.what + (f" ({one.note})" if one.note else ""),
            f"{one.quantity:,.3f}",
            one.unit,
            f"{one.price:g}",
            f"{one.usd:,.2f}",
        )
        for one in lines
        if one.usd >= 0.005
    ]
    return [*rows, ("altogether", "", "", "", f"{sum(one.usd for one in lines):,.2f}")]


def _collections(facts: DatabaseFacts) -> Table:
    return Table(
        title="Collections",
        head=("collection", "documents", "read", "average bytes", "item bytes (p50, p99, max)", "reads/s", "writes/s", "indexes"),
        rows=[
            (
                one.name if one.kind == "collection" else f"{one.name} ({one.kind})",
                f"{one.documents:,}", f"{one.sampled:,}" + (" (all)" if one.complete else ""), f"{one.average_bytes:,.0f}",
                _three(one.item_bytes), _rate(one.reads_s), _rate(one.writes_s),
                "; ".join(f"{index.name}{'' if index.uses is None else f' ({index.uses:,})'}" for index in one.indexes),
            )
            for one in facts.collections
        ],
        note="Item bytes: as DynamoDB counts a document that is kept whole. Behind an index: how often it was used.",
        numbers=frozenset({1, 2, 3, 4, 5, 6}),
    )  # fmt: skip


def _paths(facts: CollectionFacts) -> Table:
    left = f" {facts.paths_left_out:,} values under further paths are not shown." if facts.paths_left_out else ""
    return Table(
        title=f"Documents of {facts.name}",
        head=(
            "path",
            "there",
            "types",
            "different",
            "array length (p50, p99, max)",
            "heaviest value",
            "looks like",
            "examples, masked",
        ),
        rows=[
            (
                one.path,
                f"{one.present:.0%}",
                ", ".join(f"{name} {share:.0%}" if share < 1 else name for name, share in one.types.items()),
                f"{one.distinct:,}" if one.values else "",
                _three(one.lengths) + (" grows" if one.grows else "") if one.lengths else "",
                f"{one.heavy[0].shown}: {one.heavy[0].share:.0%}" if one.heavy else "",
                ", ".join(f"{look} {share:.0%}" for look, share in one.looks.items()),
                ", ".join(one.examples),
            )
            for one in facts.paths[:PATHS_SHOWN]
        ],
        note=f"{facts.sampled:,} of {facts.documents:,} documents.{left}",
        numbers=frozenset({1, 3}),
    )


def _three(one: Spread) -> str:
    return f"{one.p50:,.0f}, {one.p99:,.0f}, {one.max:,.0f}" if one.count else ""


def _rate(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.2f}"


def _bars(price: Price) -> str:
    """MongoDB's month beside DynamoDB's two."""
    values = [
        ("MongoDB", price.comparison.mongodb_usd),
        ("DynamoDB, on demand", price.on_demand.usd),
        ("DynamoDB, provisioned", price.provisioned.usd),
    ]
    return month_bars([(name, value, f"{value:,.0f} USD") for name, value in values])
