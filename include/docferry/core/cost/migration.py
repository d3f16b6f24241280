"""What the migration itself costs, once. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from docferry.core.cost.monthly import index_units, stored_gb, table_write_units
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.units import READ_UNIT_BYTES, index_write_units, write_units
from docferry.core.cost.workload import GB, CostLine, EstateLoad, TableLoad, cost_line

WEEKS_A_MONTH = 730.0 / 168


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlan:
    """How long each phase is expected to take. `validations`: full runs. `journal_units`: write units that one write costs
    more while DynamoDB leads and a way back is open. `team_weeks` at `team_week_usd`: only if the team gives them.
    """

    dual_write_weeks: float = 2.0
    validations: int = 14
    way_back_weeks: float = 1.0
    journal_units: float = 0.0
    team_weeks: float = 0.0
    team_week_usd: float = 0.0
    by_import: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationCost:
    """The lines add up to `usd`."""

    lines: Sequence[CostLine]

    @property
    def usd(self) -> float:
        return math.fsum(line.usd for line in self.lines)


def migration_cost(load: EstateLoad, book: PriceBook, plan: MigrationPlan) -> MigrationCost:
    """What is paid once: the load, dual writes, validation, the open way back, and the team's time if it is given."""
    return MigrationCost(lines=tuple(line for line in _lines(load, book, plan) if line.quantity))


def load_units(table: TableLoad) -> float:
    """Write units of one load of a table by batch puts, indexes included."""
    own = table.items * write_units(table.item_bytes)
    return own + sum(table.items * one.share * index_write_units(one.bytes_in) for one in table.indexes)


def _lines(load: EstateLoad, book: PriceBook, plan: MigrationPlan) -> Iterator[CostLine]:
    for table in load.tables:
        if plan.by_import:
            yield cost_line(f"{table.name}: import from S3", table.items * table.item_bytes / GB, "GB", book.import_gb)
        else:
            yield cost_line(f"{table.name}: load", load_units(table) / 1e6, "million units", book.write_request_million)
        written = table_write_units(table) + sum(index_units(table, one) for one in table.indexes)
        months = plan.dual_write_weeks / WEEKS_A_MONTH
        # Replication finds what a dual write has put, and its refused conditional put is paid for as well.
        note = "each change twice: the dual write, and replication, whose refused put is paid for, too"
        yield cost_line(
            f"{table.name}: dual writes", 2 * months * written / 1e6, "million units", book.write_request_million, note
        )
        scanned = stored_gb(table) * GB / READ_UNIT_BYTES
        yield cost_line(
            f"{table.name}: {plan.validations} validations",
            plan.validations * scanned / 1e6,
            "million units",
            book.read_request_million,
        )
        back = plan.way_back_weeks / WEEKS_A_MONTH * table.writes * plan.journal_units
        yield cost_line(
            f"{table.name}: journal while a way back is open", back / 1e6, "million units", book.write_request_million
        )
    yield from _replicas(load, book)
    yield cost_line("the team's time", plan.team_weeks, "weeks", plan.team_week_usd)


def _replicas(load: EstateLoad, book: PriceBook) -> Iterator[CostLine]:
    size = load.replicas * sum(stored_gb(table) for table in load.tables)
    yield cost_line("replicas: first copy", size, "GB", book.restore_gb)
    yield cost_line("replicas: transfer of the first copy", size, "GB", book.replica_transfer_gb)
