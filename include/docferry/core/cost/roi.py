"""DynamoDB's price beside MongoDB's: when the migration has paid for itself, and what the answer depends on. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from docferry.core.cost.migration import MigrationCost
from docferry.core.cost.monthly import cheaper
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.workload import HOURS_A_MONTH, EstateLoad


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


def compare(load: EstateLoad, book: PriceBook, bill: MongoBill, once: MigrationCost) -> Comparison:
    """MongoDB's month beside DynamoDB's (the cheaper way to pay for requests)."""
    after = cheaper(load, book).usd
    saving = bill.usd - after
    months = once.usd / saving if saving > 0 and not bill.estimated else None
    return Comparison(
        mongodb_usd=bill.usd,
        dynamodb_usd=after,
        once_usd=once.usd,
        saving_usd=saving,
        break_even_months=months,
        sentence=_sentence(bill, after, once.usd, months),
        variations=tuple(_variations(load, book)),
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
    tables = [
        replace(one, reads=one.reads * reads, writes=one.writes * writes, items=one.items * items)
        for one in load.tables
    ]
    return replace(load, tables=tuple(tables))


def _variations(load: EstateLoad, book: PriceBook) -> list[Variation]:
    cases = {
        "half the reads": scaled(load, reads=0.5),
        "twice the reads": scaled(load, reads=2),
        "twice the writes": scaled(load, writes=2),
        "a year's growth of 50 %": scaled(load, reads=1.5, writes=1.5, items=1.5),
        "ten times of everything": scaled(load, reads=10, writes=10, items=10),
    }
    return [Variation(what=what, usd=cheaper(case, book).usd) for what, case in cases.items()]


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
