"""What a dry run says of money: this load, and what lies there afterwards a month, whatever is asked of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.cost.calls import CallRates, Units
from docferry.core.cost.forecast import CollectionForecast, PricedDesign, Workload, estate_load
from docferry.core.cost.migration import index_load_units, load_units
from docferry.core.cost.monthly import monthly_cost, stored_gb
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.sizes import CollectionSizes
from docferry.core.cost.workload import GB, CostLine


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunCost:
    """USD. `load`: of this load by batch puts, indexes included; `load_indexes` and `load_guards`: what of it indexes, and the
    guards of unique values, take. `month`: storage,
    point-in-time recovery, DAX and replicas, line by line. `backup`: a month of one backup of each table. `images`: at most, of
    a month of MongoDB's images on each member; None: not known."""

    book: str
    load: float
    load_indexes: float
    load_guards: float
    month: Sequence[CostLine]
    backup: float
    images: float | None = None
    provisioned: Sequence[str] = ()

    @property
    def month_usd(self) -> float:
        return math.fsum(line.usd for line in self.month)

    @property
    def indexes_usd(self) -> float:
        """A month of what indexes store."""
        return math.fsum(line.usd for line in self.month if ": index " in line.what)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "book": self.book,
            "load_usd": round(self.load, 6),
            "load_indexes_usd": round(self.load_indexes, 6),
            "load_guards_usd": round(self.load_guards, 6),
            "month_usd": round(self.month_usd, 4),
            "indexes_month_usd": round(self.indexes_usd, 4),
            "backup_month_usd": round(self.backup, 4),
            "images_month_usd": None if self.images is None else round(self.images, 4),
        }

    def lines(self) -> list[str]:
        """For people."""
        guards = f" and guards {self.load_guards:,.2f}" if self.load_guards else ""
        told = [
            f"Money ({self.book}): this load {self.load:,.2f} USD, of which indexes {self.load_indexes:,.2f}{guards}; what lies "
            f"there then {self.month_usd:,.2f} USD a month without any request, of which indexes {self.indexes_usd:,.2f}; a "
            f"backup of each table {self.backup:,.2f} USD a month."
        ]
        told += [f"  {one.what}: {one.usd:,.2f} USD a month" for one in self.month if one.usd >= 0.005]
        if self.images is not None:
            told.append(f"  images: at most {self.images:,.2f} USD a month on the disks of each member of MongoDB")
        if self.provisioned:
            names = ", ".join(self.provisioned)
            told.append(
                f"  {names}: provisioned, so capacity is paid by the hour, and the load with it (docferry cost)"
            )
        return [*told, "  requests come on top: docferry cost"]


def dry_run_cost(
    design: PricedDesign,
    sizes: Sequence[CollectionSizes],
    book: PriceBook,
    *,
    loaded: Mapping[str, float] | None = None,
    image_bytes: float | None = None,
) -> DryRunCost:
    """`loaded`: of each table, the write units of this load, as its plan says; None: all that was measured.

    Raises: ConfigError, if the book lacks a price.
    """
    collections = [CollectionForecast(sizes=one, rates=CallRates(), units=Units()) for one in sizes]
    load = estate_load(design, collections, Workload())
    price = book.write_request_million / 1e6
    units, in_indexes, in_guards = 0.0, 0.0, 0.0
    for table in load.tables:
        all_of_it = load_units(table)
        share = sum(index_load_units(table).values()) / all_of_it if all_of_it else 0.0
        now = all_of_it if loaded is None else loaded.get(table.name, 0.0)
        units, in_indexes = units + now, in_indexes + now * share
        guards = sum(one.stored * one.guards for one in sizes if one.table == table.name)
        in_guards += now * guards / all_of_it if all_of_it else 0.0
    # On demand: where nothing is asked, nothing is paid for requests.
    month = [line for line in monthly_cost(load, book, "on_demand").lines if line.usd]
    return DryRunCost(
        book=book.title,
        load=units * price,
        load_indexes=in_indexes * price,
        load_guards=in_guards * price,
        month=tuple(month),
        backup=sum(map(stored_gb, load.tables)) * book.backup_warm_gb_month,
        images=None if image_bytes is None else image_bytes / GB * book.block_storage_gb_month,
        provisioned=tuple(one.name for one in design.tables if one.billing == "provisioned"),
    )
