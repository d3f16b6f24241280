"""What an estate costs a month: on demand, or provisioned with autoscaling, each part with how it comes about. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from docferry.core.cost.prices import PriceBook
from docferry.core.cost.units import index_write_units, read_units, write_units
from docferry.core.cost.workload import (
    GB,
    HOURS_A_MONTH,
    ITEM_OVERHEAD_BYTES,
    SECONDS_A_MONTH,
    CostLine,
    EstateLoad,
    IndexLoad,
    TableLoad,
    cost_line,
)
from docferry.errors import ConfigError, Problem

Billing = Literal["on_demand", "provisioned"]
TARGET = 0.7
"""Autoscaling's target utilization: the rest is room for what comes before it has scaled."""
PEAK_WITHIN_HOUR = 1.5
"""How far the busiest minute of an hour lies above the hour's mean, where nothing finer was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyCost:
    """The lines add up to `usd`. `billing` is how requests are paid."""

    billing: Billing
    lines: Sequence[CostLine]

    @property
    def usd(self) -> float:
        return math.fsum(line.usd for line in self.lines)


def table_write_units(table: TableLoad) -> float:
    """Write units of a month, without indexes."""
    plain = write_units(table.item_bytes)
    return table.writes * plain * (1 + table.transactional)


def index_units(table: TableLoad, index: IndexLoad) -> float:
    """Write units of a month for one index."""
    once = index_write_units(index.bytes_in)
    return table.writes * index.share * (index.changed + index.moved) * once


def table_read_units(table: TableLoad) -> float:
    """Read units of a month."""
    size = table.read_bytes or table.item_bytes
    strong, eventual = read_units(size, "strong"), read_units(size, "eventual")
    return table.reads * (table.strong * strong + (1 - table.strong) * eventual)


def stored_gb(table: TableLoad) -> float:
    """Billed storage of a table without its indexes: each item with its overhead."""
    return table.items * (table.item_bytes + ITEM_OVERHEAD_BYTES) / GB


def index_gb(table: TableLoad, index: IndexLoad) -> float:
    """Billed storage of one index."""
    return table.items * index.share * (index.bytes_in + ITEM_OVERHEAD_BYTES) / GB


def monthly_cost(load: EstateLoad, book: PriceBook, billing: Billing) -> MonthlyCost:
    """What the estate costs a month.

    Raises: ConfigError if the book has no price for the DAX node that is asked for.
    """
    lines = [*_requests(load, book, billing), *_storage(load, book), *_around(load, book)]
    return MonthlyCost(billing=billing, lines=tuple(lines))


def cheaper(load: EstateLoad, book: PriceBook) -> MonthlyCost:
    """The cheaper of the two ways to pay for requests."""
    both = (monthly_cost(load, book, "on_demand"), monthly_cost(load, book, "provisioned"))
    return min(both, key=lambda cost: cost.usd)


def _requests(load: EstateLoad, book: PriceBook, billing: Billing) -> Iterator[CostLine]:
    for table in load.tables:
        name = table.name
        parts = [
            (f"{name}: writes", table_write_units(table), True),
            (f"{name}: reads", table_read_units(table), False),
        ]
        parts += [(f"{name}: index {one.name}, writes", index_units(table, one), True) for one in table.indexes]
        for what, units, writes in parts:
            yield (
                _on_demand(what, units, writes, book)
                if billing == "on_demand"
                else _provisioned(what, units, table.day, writes, book)
            )
        if load.replicas:
            written = table_write_units(table) + sum(index_units(table, one) for one in table.indexes)
            yield cost_line(
                f"{name}: replicated writes",
                load.replicas * written / 1e6,
                "million units",
                book.replicated_write_million,
            )


def _on_demand(what: str, units: float, writes: bool, book: PriceBook) -> CostLine:
    price = book.write_request_million if writes else book.read_request_million
    return cost_line(what, units / 1e6, "million units", price)


def _provisioned(what: str, units: float, day: Sequence[float], writes: bool, book: PriceBook) -> CostLine:
    """Capacity follows the day: each hour's mean, with room for its peak, at the target utilization; at least one unit."""
    mean_s, shape = units / SECONDS_A_MONTH, sum(day) / len(day) or 1.0
    hours = [max(1, math.ceil(mean_s * one / shape * PEAK_WITHIN_HOUR / TARGET)) for one in day]
    price = book.write_capacity_hour if writes else book.read_capacity_hour
    return cost_line(what, sum(hours) / len(day) * HOURS_A_MONTH, "unit hours", price)


def _storage(load: EstateLoad, book: PriceBook) -> Iterator[CostLine]:
    free = book.free_storage_gb
    for table in load.tables:
        for what, size in [
            (f"{table.name}: storage", stored_gb(table)),
            *((f"{table.name}: index {one.name}, storage", index_gb(table, one)) for one in table.indexes),
        ]:
            paid = max(0.0, size - free)
            free -= size - paid
            yield cost_line(
                what, paid, "GB", book.storage_gb_month, f"{size - paid:.1f} GB are free" if size > paid else ""
            )
            if load.replicas:
                yield cost_line(f"{what} of replicas", load.replicas * size, "GB", book.storage_gb_month)
        if table.pitr:
            copies = 1 + load.replicas
            yield cost_line(
                f"{table.name}: point-in-time recovery", copies * stored_gb(table), "GB", book.pitr_gb_month
            )


def _around(load: EstateLoad, book: PriceBook) -> Iterator[CostLine]:
    asked = sum(table.stream_reads for table in load.tables)
    paid = max(0.0, asked - book.free_stream_reads_million * 1e6)
    if asked:
        yield cost_line("streams: GetRecords", paid / 1e5, "100,000 calls", book.stream_read_100k)
    if load.backup_gb:
        yield cost_line("backups", load.backup_gb, "GB", book.backup_warm_gb_month)
    if load.transfer_out_gb:
        yield cost_line("transfer out", load.transfer_out_gb, "GB", book.transfer_out_gb)
    if load.dax_nodes:
        if load.dax_node not in book.dax_node_hour:
            what = f"has no price for {load.dax_node}; it has {', '.join(sorted(book.dax_node_hour)) or 'none'}"
            raise ConfigError(
                book.name, [Problem(where="dax_node_hour", what=what, suggestion="add it to the price book")]
            )
        hours = load.dax_nodes * HOURS_A_MONTH
        yield cost_line(
            f"DAX: {load.dax_nodes} x {load.dax_node}", hours, "node hours", book.dax_node_hour[load.dax_node]
        )
