"""What each shape of the application's calls costs a month, by what DynamoDB said that it has consumed, and what to do about it.
Pure.

shape_costs(instances, mappings, book) -> [ShapeCost, ...]      the dearest first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from docferry.core.access.advice import advice_on
from docferry.core.access.read_plan import BY
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.workload import SECONDS_A_MONTH
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.spent_shapes import SpentBy, added
from docferry.core.mapping.mapping import DocumentMapping

LEAST_S: Final = 60.0
"""From so long on a rate is told."""
MANY_UNITS: Final = 20.0
"""Read units of one call: 80 KB, read consistently. From so many on there is advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeCost:
    """`read_units` and `write_units` of a call, on the average; `usd_month` if it is called on as it was, None if that is not
    known yet; `advice` is empty where there is none."""

    shape: str
    calls: int
    read_units: float
    write_units: float
    usd_month: float | None
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        money = "" if self.usd_month is None else f", {self.usd_month:,.2f} USD a month at this rate"
        units = f"{_units(self.read_units)} read and {_units(self.write_units)} write units"
        return f"{self.shape}: {self.calls:,} call(s) of {units}{money}"


def shape_costs(
    instances: Sequence[Instance], mappings: Mapping[str, DocumentMapping], book: PriceBook
) -> list[ShapeCost]:
    """Of all processes, those that have ended, too, since the first of them asked DynamoDB; on demand, at the book's prices."""
    telling = [one for one in instances if one.spent_since_ms]
    spent = added(one.spent for one in telling)
    since_ms = min((one.spent_since_ms for one in telling), default=0)
    seconds = (max((one.beat_ms for one in telling), default=0) - since_ms) / 1000
    times = SECONDS_A_MONTH / seconds if seconds >= LEAST_S else None
    found = [_cost(shape, one, mappings, book, times) for shape, one in spent.items()]
    return sorted(found, key=lambda one: -_usd(spent[one.shape], book))


def _cost(
    shape: str, spent: SpentBy, mappings: Mapping[str, DocumentMapping], book: PriceBook, times: float | None
) -> ShapeCost:
    reads = spent.read_units / spent.calls
    return ShapeCost(
        shape=shape,
        calls=spent.calls,
        read_units=reads,
        write_units=spent.write_units / spent.calls,
        usd_month=None if times is None else _usd(spent, book) * times,
        advice=advice_on_cost(shape, reads, mappings),
    )


def _usd(spent: SpentBy, book: PriceBook) -> float:
    return (spent.read_units * book.read_request_million + spent.write_units * book.write_request_million) / 1e6


def advice_on_cost(shape: str, read_units: float, mappings: Mapping[str, DocumentMapping]) -> str:
    """What makes calls of a shape cheaper that read so many units each; "" for nothing."""
    asked, found, way = shape.rpartition(f" {BY}")
    if way == "a scan" and ".aggregate(" in asked:
        return "each call reads the whole table: let the first $match pin a key, or the fields of an index"
    if way == "a scan":
        return f"each call reads the whole table: {advice_on(asked, mappings)}"
    if read_units < MANY_UNITS or not found:
        return ""
    if way == "the table key":
        return (
            "the documents are large, and are read whole: keep what is large and seldom read in documents of their own"
        )
    return (
        "each call reads much of a partition: bound it by a range on the sort key's field, give it a limit, or keep what is "
        "counted or added up in a document of its own"
    )


def _units(units: float) -> str:
    return f"{units:,.1f}".removesuffix(".0")
