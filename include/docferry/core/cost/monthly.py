"""What an estate costs a month: on demand, or provisioned with autoscaling, each part with how it comes about. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    Scaling,
    TableLoad,
    cost_line,
)
from docferry.errors import ConfigError, Problem

Billing = Literal["on_demand", "provisioned"]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demand:
    """Requests of one table or index in a month. `writes`: write units, else read units; `first`: of the table itself."""

    what: str
    units: float
    writes: bool
    first: bool = False


def table_put_units(table: TableLoad) -> float:
    """Write units of one plain put of one item, without indexes."""
    return table.put_units or write_units(table.item_bytes)


def table_write_units(table: TableLoad) -> float:
    """Write units of a month, without indexes."""
    each = table.write_units or write_units(table.item_bytes) * (1 + table.transactional)
    return table.writes * each


def index_put_units(index: IndexLoad) -> float:
    """Write units of one put into an index."""
    return index.put_units or index_write_units(index.bytes_in)


def index_units(table: TableLoad, index: IndexLoad) -> float:
    """Write units of a month for one index."""
    return table.writes * index.share * (index.changed + index.moved) * index_put_units(index)


def table_read_units(table: TableLoad) -> float:
    """Read units of a month."""
    by_writes = table.writes * table.reads_a_write
    if table.read_units:
        return table.reads * table.read_units + by_writes
    size = table.read_bytes or table.item_bytes
    strong, eventual = read_units(size, "strong"), read_units(size, "eventual")
    return table.reads * (table.strong * strong + (1 - table.strong) * eventual) + by_writes


def stored_gb(table: TableLoad) -> float:
    """Billed storage of a table without its indexes: each item with its overhead."""
    return table.items * (table.item_bytes + ITEM_OVERHEAD_BYTES) / GB


def index_gb(table: TableLoad, index: IndexLoad) -> float:
    """Billed storage of one index."""
    return table.items * index.share * (index.bytes_in + ITEM_OVERHEAD_BYTES) / GB


def monthly_cost(load: EstateLoad, book: PriceBook, billing: Billing) -> MonthlyCost:
    """What the estate costs a month.

    Raises: ConfigError if the book has no price for the DAX node, or for capacity of the class, that is asked for.
    """
    lines = [*_requests(load, book, billing), *_storage(load, book), *_around(load, book)]
    return MonthlyCost(billing=billing, lines=tuple(lines))


def cheaper(load: EstateLoad, book: PriceBook) -> MonthlyCost:
    """The cheaper of the two ways to pay for requests."""
    both = (monthly_cost(load, book, "on_demand"), monthly_cost(load, book, "provisioned"))
    return min(both, key=lambda cost: cost.usd)


def in_other_class(load: EstateLoad, book: PriceBook, billing: Billing) -> Sequence[tuple[str, float, float]]:
    """Of each table: its name, what the month costs as it is, and with this table in the other class (Standard, Standard-IA)."""
    now = monthly_cost(load, book, billing).usd
    found = []
    for place, table in enumerate(load.tables):
        tables = [*load.tables]
        tables[place] = replace(table, infrequent=not table.infrequent)
        found.append((table.name, now, monthly_cost(replace(load, tables=tuple(tables)), book, billing).usd))
    return tuple(found)


# --- requests --------------------------------------------------------------------------------------------------------


def _demands(table: TableLoad) -> Iterator[_Demand]:
    name = table.name
    yield _Demand(what=f"{name}: writes", units=table_write_units(table), writes=True, first=True)
    yield _Demand(what=f"{name}: reads", units=table_read_units(table), writes=False)
    for one in table.indexes:
        yield _Demand(what=f"{name}: index {one.name}, writes", units=index_units(table, one), writes=True)
        if one.read_units:
            yield _Demand(what=f"{name}: index {one.name}, reads", units=one.read_units, writes=False)


def _requests(load: EstateLoad, book: PriceBook, billing: Billing) -> Iterator[CostLine]:
    for table in load.tables:
        for demand in _demands(table):
            yield _paid(demand, table, book, billing)
            if demand.writes and load.replicas:
                yield _replicated(demand, table, load.replicas, book, billing)


def _paid(demand: _Demand, table: TableLoad, book: PriceBook, billing: Billing) -> CostLine:
    if billing == "on_demand":
        return cost_line(
            demand.what, demand.units / 1e6, "million units", _request_price(book, demand.writes, table.infrequent)
        )
    hours, note = _capacity(demand, table)
    return cost_line(demand.what, hours, "unit hours", _capacity_price(book, demand.writes, table.infrequent), note)


def _replicated(demand: _Demand, table: TableLoad, replicas: int, book: PriceBook, billing: Billing) -> CostLine:
    """The same writes in each other region. Of the table they are replicated units, of an index ordinary ones.

    Source: AWS, "Understanding your AWS billing and usage reports in DynamoDB", read 2026-11-29.
    """
    what = demand.what.replace("writes", "replicated writes")
    one = _paid(replace(demand, what=what), table, book, billing)
    price = book.replicated_write_million if billing == "on_demand" and demand.first else one.price
    if table.infrequent:
        price = one.price
    return cost_line(what, replicas * one.quantity, one.unit, price, one.note)


def _request_price(book: PriceBook, writes: bool, infrequent: bool) -> float:
    if infrequent:
        return book.infrequent_write_million if writes else book.infrequent_read_million
    return book.write_request_million if writes else book.read_request_million


def _capacity_price(book: PriceBook, writes: bool, infrequent: bool) -> float:
    if not infrequent:
        return book.write_capacity_hour if writes else book.read_capacity_hour
    price = book.infrequent_write_capacity_hour if writes else book.infrequent_read_capacity_hour
    if price is None:
        where = f"infrequent_{'write' if writes else 'read'}_capacity_hour"
        what = "has no price for provisioned capacity of the class Standard-IA"
        raise ConfigError(book.name, [Problem(where=where, what=what, suggestion="add it to the price book")])
    return price


def _capacity(demand: _Demand, table: TableLoad) -> tuple[float, str]:
    """Unit hours of a month, and a note. Capacity follows the day: each hour's mean, with room for its peak, at the target
    utilization, within what the file allows; at least one unit."""
    scaling, place = table.scaling or Scaling(), int(demand.writes)
    mean_s, shape = demand.units / SECONDS_A_MONTH, sum(table.day) / len(table.day) or 1.0
    wanted = [max(1.0, mean_s * one / shape * PEAK_WITHIN_HOUR / scaling.target) for one in table.day]
    most = max(1.0, scaling.most[place])
    hours = [min(most, max(scaling.least[place], math.ceil(one))) for one in wanted]
    # What is needed at the target is room; what is needed at all would be refused.
    short = sum(one * scaling.target > most for one in wanted)
    note = (
        f"in {short} of {len(hours)} hours more is asked for than the file allows: it would be throttled"
        if short
        else ""
    )
    return sum(hours) / len(hours) * HOURS_A_MONTH, note


# --- what is there ---------------------------------------------------------------------------------------------------


def _storage(load: EstateLoad, book: PriceBook) -> Iterator[CostLine]:
    free = book.free_storage_gb
    for table in load.tables:
        price = book.infrequent_storage_gb_month if table.infrequent else book.storage_gb_month
        for what, size in [
            (f"{table.name}: storage", stored_gb(table)),
            *((f"{table.name}: index {one.name}, storage", index_gb(table, one)) for one in table.indexes),
        ]:
            paid = size if table.infrequent else max(0.0, size - free)
            free -= size - paid
            yield cost_line(what, paid, "GB", price, f"{size - paid:.1f} GB are free" if size > paid else "")
            if load.replicas:
                yield cost_line(f"{what} of replicas", load.replicas * size, "GB", price)
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
    if load.backup_cold_gb:
        yield cost_line("backups, cold", load.backup_cold_gb, "GB", book.backup_cold_gb_month)
    if load.transfer_out_gb:
        yield cost_line("transfer out", load.transfer_out_gb, "GB", book.transfer_out_gb)
    if load.replicas:
        written = sum(table.writes * table.item_bytes for table in load.tables) / GB
        yield cost_line("transfer to replicas", load.replicas * written, "GB", book.replica_transfer_gb)
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
