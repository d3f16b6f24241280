"""DynamoDB's price beside MongoDB's: when the migration has paid for itself, and what the answer depends on. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from docferry.core.cost.migration import MigrationCost
from docferry.core.cost.monthly import Billing, cheaper, monthly_cost
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.workload import HOURS_A_MONTH, EstateLoad, TableLoad

GROWTH_A_YEAR = 0.5
YEARS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoBill:
    """What MongoDB costs a month, part by part (USD). `estimated`: the bill was not given."""

    parts: Mapping[str, float]
    estimated: bool = False

    @property
    def usd(self) -> float:
        return math.fsum(self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """The month if one input were another."""

    what: str
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`saving_usd` a month; negative if DynamoDB costs more. `break_even_months`: None if there is no
    saving, or no bill to save on."""

    mongodb_usd: float
    dynamodb_usd: float
    once_usd: float
    saving_usd: float
    break_even_months: float | None
    sentence: str
    variations: Sequence[Variation]


def compare(
    load: EstateLoad,
    book: PriceBook,
    bill: MongoBill,
    once: MigrationCost,
    growth: float = GROWTH_A_YEAR,
    billing: Billing | None = None,
) -> Comparison:
    """MongoDB's month beside DynamoDB's, by the way to pay for requests that is named, else the cheaper one. `growth`: of
    everything, in a year."""
    after = _month(load, book, billing)
    saving = bill.usd - after
    months = once.usd / saving if saving > 0 and not bill.estimated else None
    return Comparison(
        mongodb_usd=bill.usd,
        dynamodb_usd=after,
        once_usd=once.usd,
        saving_usd=saving,
        break_even_months=months,
        sentence=_sentence(bill, after, once.usd, months),
        variations=tuple(_variations(load, book, growth, billing)),
    )


def estimated_bill(instance: str, members: int, storage_gb: float, book: PriceBook) -> MongoBill:
    """A replica set on EC2 without a licence, backups or people: a lower bound, and called an estimate."""
    hour = book.instance_hour.get(instance, 0.0)
    return MongoBill(
        parts={
            f"{members} x {instance}": members * hour * HOURS_A_MONTH,
            f"EBS, {members} x {storage_gb:.0f} GB": members * storage_gb * book.block_storage_gb_month,
        },
        estimated=True,
    )


def scaled(load: EstateLoad, *, reads: float = 1.0, writes: float = 1.0, items: float = 1.0) -> EstateLoad:
    """The same estate with more or less of everything in one direction."""
    return replace(load, tables=tuple(_scaled(one, reads, writes, items) for one in load.tables))


def _scaled(table: TableLoad, reads: float, writes: float, items: float) -> TableLoad:
    indexes = tuple(replace(one, read_units=one.read_units * reads) for one in table.indexes)
    return replace(
        table, reads=table.reads * reads, writes=table.writes * writes, items=table.items * items, indexes=indexes
    )


def shared_out(load: EstateLoad, reads_a_write: float) -> EstateLoad:
    """The same number of requests, with so many reads for each write."""
    reads, writes = (sum(getattr(one, name) for one in load.tables) for name in ("reads", "writes"))
    if not reads or not writes:
        return load
    total, of_writes = reads + writes, 1 / (1 + reads_a_write)
    return scaled(load, reads=total * (1 - of_writes) / reads, writes=total * of_writes / writes)


def _month(load: EstateLoad, book: PriceBook, billing: Billing | None) -> float:
    return cheaper(load, book).usd if billing is None else monthly_cost(load, book, billing).usd


def _variations(load: EstateLoad, book: PriceBook, growth: float, billing: Billing | None) -> Iterator[Variation]:
    cases = {
        "half the reads": scaled(load, reads=0.5),
        "twice the reads": scaled(load, reads=2),
        "twice the writes": scaled(load, writes=2),
    }
    if any(one.reads for one in load.tables) and any(one.writes for one in load.tables):
        for ratio in (1, 10, 100):
            cases[f"as many requests, {ratio} reads for each write"] = shared_out(load, ratio)
    for year in range(1, YEARS + 1):
        more = (1 + growth) ** year
        cases[f"{growth:.0%} growth a year, after {year}"] = scaled(load, reads=more, writes=more, items=more)
    cases["ten times of everything"] = scaled(load, reads=10, writes=10, items=10)
    return (Variation(what=what, usd=_month(case, book, billing)) for what, case in cases.items())


def _sentence(bill: MongoBill, after: float, once: float, months: float | None) -> str:
    if bill.estimated:
        return (
            f"DynamoDB costs {after:,.2f} USD a month, the migration {once:,.2f} USD once. MongoDB's bill was not given; "
            f"servers and disks for this data list at about {bill.usd:,.0f} USD a month: no saving is claimed from that."
        )
    if months is None:
        more = after - bill.usd
        return (
            f"DynamoDB costs {more:,.0f} USD a month more than MongoDB's bill ({after:,.0f} against {bill.usd:,.0f}): "
            "this migration does not pay for itself by the price of the databases."
        )
    return (
        f"DynamoDB costs {bill.usd - after:,.0f} USD a month less than MongoDB's bill ({after:,.0f} against {bill.usd:,.0f}); "
        f"the migration costs {once:,.0f} USD once and has paid for itself after {months:,.1f} months."
    )
