"""The application's calls by their shapes: those that DynamoDB cannot serve, and what those cost that it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.config import Migration
from docferry.config.price_book import load_price_book
from docferry.core.access.advice import advice_on
from docferry.core.access.read_plan import SCAN
from docferry.core.access.shape_costs import ShapeCost, shape_costs
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.units import READ_UNIT_BYTES
from docferry.core.cutover.instances import Instance, unserved_by
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.ports.flows import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedShape:
    """`instead` is the advice; `scan_read_units` what a scan would read each time, if one is the way: None: not known."""

    shape: str
    calls: int
    instead: str
    scan_read_units: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapesReport:
    """Of all processes, those that have ended, too: what is left to do before the flip; and costs, the dearest first."""

    unserved: Sequence[UnservedShape]
    costs: Sequence[ShapeCost]
    book: PriceBook

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        unserved = [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in self.unserved]
        return {"shapes": unserved, "costs": [one.to_dict() for one in self.costs]}

    def render(self) -> str:
        """For people."""
        lines = [line for one in self.unserved for line in self._lines_of(one)]
        lines = lines or ["no call was counted that DynamoDB could not serve"]
        if self.costs:
            lines.append(f"what DynamoDB has answered, the dearest first (on demand, {self.book.title}):")
            lines += [f"  {one.line()}" + (f"\n      {one.advice}" if one.advice else "") for one in self.costs]
        return "\n".join(lines)

    def _lines_of(self, one: UnservedShape) -> Iterator[str]:
        yield f"{one.shape}: called {one.calls:,} time(s)\n    {one.instead}"
        if one.scan_read_units is not None:
            usd = one.scan_read_units * self.book.read_request_million
            yield f"    a scan reads up to {one.scan_read_units:,.0f} units a call: {usd:,.2f} USD for a million calls"


def shapes_report(migration: Migration, ledger: Ledger, instances: Sequence[Instance]) -> ShapesReport:
    """Raises: StoreError."""
    book, scans = load_price_book(), _scans(migration, ledger)
    unserved: list[UnservedShape] = []
    for shape, calls in unserved_by(instances, ()).most_common():
        instead = advice_on(shape, migration.mappings)
        units = scans.get(shape.partition(".")[0]) if SCAN in instead else None
        unserved.append(UnservedShape(shape=shape, calls=calls, instead=instead, scan_read_units=units))
    return ShapesReport(unserved=unserved, costs=shape_costs(instances, migration.mappings, book), book=book)


def _scans(migration: Migration, ledger: Ledger) -> Mapping[str, float]:
    """Read units of a scan for each collection whose table is loaded, at most: it reads all of the table."""
    headers = {name: LoadHeaders(ledger).read(name) for name in migration.mappings}
    written: dict[str, float] = {}
    for name, header in headers.items():
        units = header.counts.units if header is not None and header.complete else float("inf")
        table = migration.mappings[name].table
        written[table] = written.get(table, 0.0) + units
    found = {name: written[one.table] * 1024 / READ_UNIT_BYTES for name, one in migration.mappings.items()}
    return {name: units for name, units in found.items() if units != float("inf")}
