"""What the migration itself costs, once. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from docferry.core.cost.monthly import index_put_units, index_units, stored_gb, table_put_units, table_read_units
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.units import READ_UNIT_BYTES, read_units
from docferry.core.cost.workload import GB, CostLine, EstateLoad, TableLoad, cost_line

WEEK_S = 168 * 3600
WEEKS_A_MONTH = 730.0 / 168
GET_RECORDS_S = 2.0
"""Of a shard: reverse replication asks an idle one twice a second."""
LOOKS_S, RENEWALS_S = 2.0 + 0.4, 0.8
"""Read and write units a second by which one process of the application follows the mode: four looks of half a unit, one in
2.5 s that is consistent, and a lease that is renewed every 2.5 s, a record of about two units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlan:
    """How long each phase is expected to take, one after the other. `follow_weeks`: after the load DynamoDB follows MongoDB,
    before the application writes to both. `validations`: full runs. `compared`: of the reads, how many are also made on DynamoDB
    during dual writes. While DynamoDB leads and a way back is open, a write costs `journal_units` more and is read again by
    reverse replication, from `shards` of each table's stream. `processes` of the application follow the mode. `backups` of
    each table are kept to the end. `team_weeks` at `team_week_usd`: only if the team gives them.
    """

    follow_weeks: float = 0.0
    dual_write_weeks: float = 2.0
    validations: int = 14
    compared: float = 0.0
    way_back_weeks: float = 1.0
    journal_units: float = 2.0
    shards: int = 4
    processes: int = 0
    backups: int = 0
    team_weeks: float = 0.0
    team_week_usd: float = 0.0
    by_import: bool = False

    @property
    def weeks(self) -> float:
        return self.follow_weeks + self.dual_write_weeks + self.way_back_weeks


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationCost:
    """The lines add up to `usd`."""

    lines: Sequence[CostLine]

    @property
    def usd(self) -> float:
        return math.fsum(line.usd for line in self.lines)


def migration_cost(load: EstateLoad, book: PriceBook, plan: MigrationPlan) -> MigrationCost:
    """What is paid once: the load, replication, dual writes, validation, the open way back, the ledger, and the team's time."""
    lines = [line for table in load.tables for line in _of_table(table, book, plan)]
    lines += [*_around(load, book, plan), cost_line("the team's time", plan.team_weeks, "weeks", plan.team_week_usd)]
    return MigrationCost(lines=tuple(line for line in lines if line.quantity))


def load_units(table: TableLoad) -> float:
    """Write units of one load of a table by batch puts, indexes included."""
    return table.items * table_put_units(table) + sum(index_load_units(table).values())


def index_load_units(table: TableLoad) -> dict[str, float]:
    """Write units that each index adds to one load."""
    return {one.name: table.items * one.share * index_put_units(one) for one in table.indexes}


def validation_units(table: TableLoad) -> float:
    """Read units of one full validation: each item is got by its key, and the table is scanned, both consistently."""
    get = table.get_units or read_units(table.item_bytes, "strong")
    return table.items * (get + table.item_bytes / READ_UNIT_BYTES)


def _of_table(table: TableLoad, book: PriceBook, plan: MigrationPlan) -> Iterator[CostLine]:
    yield from _load(table, book, plan)
    name, in_indexes = table.name, sum(index_units(table, one) for one in table.indexes)
    put = table.writes * (table.follow_units or table_put_units(table))
    yield _writes(
        f"{name}: replication before dual writes", plan.follow_weeks / WEEKS_A_MONTH * (put + in_indexes), table, book
    )
    # A dual put of several items is a transaction, which replication's plain puts are not.
    months = plan.dual_write_weeks / WEEKS_A_MONTH
    dual = table.writes * (table.dual_units or table_put_units(table) * (1 + table.transactional))
    yield _writes(f"{name}: dual writes", months * (dual + in_indexes), table, book)
    note = "it finds what the dual write has put: a refused conditional put is paid for, but touches no index"
    yield _writes(f"{name}: replication beside dual writes", months * put, table, book, note)
    compared = months * plan.compared * (table_read_units(table) - table.writes * table.reads_a_write)
    yield _reads(f"{name}: reads that are compared", compared, table, book)
    runs = plan.validations
    yield _reads(f"{name}: {runs} validations", runs * validation_units(table), table, book)
    back = plan.way_back_weeks / WEEKS_A_MONTH * table.writes
    # The journal is a table of its own, of the class Standard.
    yield cost_line(
        f"{name}: journal while a way back is open",
        back * plan.journal_units / 1e6,
        "million units",
        book.write_request_million,
    )
    read = table.reads_a_write or read_units(table.read_bytes or table.item_bytes, "strong")
    again = 2 * back * read if plan.journal_units else back * read
    note = "a document is read when it is applied, and when its entry in the journal is proved" * bool(
        plan.journal_units
    )
    yield _reads(f"{name}: reverse replication", again, table, book, note)


def _load(table: TableLoad, book: PriceBook, plan: MigrationPlan) -> Iterator[CostLine]:
    name = table.name
    if plan.by_import:
        yield cost_line(f"{name}: import from S3", table.items * table.item_bytes / GB, "GB", book.import_gb)
        return
    yield _writes(f"{name}: load", table.items * table_put_units(table), table, book)
    for index, units in index_load_units(table).items():
        yield _writes(f"{name}: load, index {index}", units, table, book)


def _writes(what: str, units: float, table: TableLoad, book: PriceBook, note: str = "") -> CostLine:
    price = book.infrequent_write_million if table.infrequent else book.write_request_million
    return cost_line(what, units / 1e6, "million units", price, note)


def _reads(what: str, units: float, table: TableLoad, book: PriceBook, note: str = "") -> CostLine:
    price = book.infrequent_read_million if table.infrequent else book.read_request_million
    return cost_line(what, units / 1e6, "million units", price, note)


def _around(load: EstateLoad, book: PriceBook, plan: MigrationPlan) -> Iterator[CostLine]:
    seconds = plan.way_back_weeks * WEEK_S
    calls = len(load.tables) * plan.shards * GET_RECORDS_S * seconds
    free = book.free_stream_reads_million * 1e6 * plan.way_back_weeks / WEEKS_A_MONTH
    yield cost_line(
        "reverse replication: GetRecords", max(0.0, calls - free) / 1e5, "100,000 calls", book.stream_read_100k
    )
    followed = plan.processes * plan.weeks * WEEK_S
    note = f"{plan.processes} processes follow the mode for {plan.weeks:g} weeks"
    yield cost_line("ledger: reads", followed * LOOKS_S / 1e6, "million units", book.read_request_million, note)
    yield cost_line("ledger: writes", followed * RENEWALS_S / 1e6, "million units", book.write_request_million, note)
    stored = sum(stored_gb(table) for table in load.tables)
    kept = plan.backups * stored * plan.weeks / WEEKS_A_MONTH
    yield cost_line("backups until the end", kept, "GB months", book.backup_warm_gb_month)
    yield cost_line("replicas: first copy", load.replicas * stored, "GB", book.restore_gb)
    yield cost_line("replicas: transfer of the first copy", load.replicas * stored, "GB", book.replica_transfer_gb)
