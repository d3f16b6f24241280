"""From a design, the sizes of its documents and the calls on it to what it costs: a month, and the migration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from docferry.core.cost.calls import CallRates, Units, added, of_all
from docferry.core.cost.migration import MigrationCost, MigrationPlan, migration_cost
from docferry.core.cost.monthly import (
    Billing,
    MonthlyCost,
    in_other_class,
    monthly_cost,
    stored_gb,
)
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.roi import GROWTH_A_YEAR, Comparison, MongoBill, compare, estimated_bill
from docferry.core.cost.sizes import CollectionSizes
from docferry.core.cost.workload import (
    FLAT_DAY,
    GB,
    SECONDS_A_MONTH,
    EstateLoad,
    IndexLoad,
    Scaling,
    TableLoad,
)
from docferry.core.settings import DaxSettings, TableSettings

MEMBERS = 3
MEMORY_GB = {"t3.small": 2, "m5.large": 8, "r5.large": 16, "r5.xlarge": 32, "r5.2xlarge": 64}
"""Instances that an estimate takes for a replica set: the smallest whose memory holds the data and its indexes."""
JOURNAL_UNITS = 2.0
"""An entry of the journal, under 1 KB, in a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedDesign:
    """What of a migration file decides about money."""

    migration: str
    region: str
    tables: Sequence[TableSettings]
    replicas: int = 0
    dax: DaxSettings | None = None
    journal: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of the collections, and what is planned. `day`: the traffic of each of 24 hours, in any unit, beginning
    at midnight. `growth` of everything in a year. `backups` of each table kept warm, `cold_backups` cold. `infrequent`:
    tables of the class Standard-IA. `notes`: what had to be guessed, in words.
    """

    rates: Mapping[str, CallRates] = field(default_factory=dict)
    day: Sequence[float] = FLAT_DAY
    growth: float = GROWTH_A_YEAR
    backups: float = 0.0
    cold_backups: float = 0.0
    transfer_out_gb: float = 0.0
    infrequent: frozenset[str] = frozenset()
    plan: MigrationPlan = field(default_factory=MigrationPlan)
    notes: Sequence[str] = ()

    def with_rates(self, rates: Mapping[str, CallRates], notes: Sequence[str]) -> Workload:
        """The same plan with these calls, and notes on where they come from."""
        return replace(self, rates=rates, notes=(*self.notes, *notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionForecast:
    """One collection: its documents, and capacity a second while DynamoDB leads."""

    sizes: CollectionSizes
    rates: CallRates
    units: Units


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a migration costs. `billing` is how its tables are paid as the file says; `classes`: of each table, the month as it
    is and in the other class; `guessed`: what had to be assumed, in words."""

    migration: str
    region: str
    book: str
    billing: Billing
    collections: Sequence[CollectionForecast]
    load: EstateLoad
    on_demand: MonthlyCost
    provisioned: MonthlyCost
    once: MigrationCost
    bill: MongoBill
    comparison: Comparison
    classes: Sequence[tuple[str, float, float]]
    guessed: Sequence[str]

    @property
    def as_designed(self) -> MonthlyCost:
        return self.on_demand if self.billing == "on_demand" else self.provisioned


def forecast(
    design: PricedDesign,
    sizes: Sequence[CollectionSizes],
    workload: Workload,
    book: PriceBook,
    bill: MongoBill | None = None,
) -> Forecast:
    """What the design costs a month and the migration once. Without a `bill` MongoDB's is estimated, and said to be.

    Raises: ConfigError if the book lacks a price that the design needs.
    """
    guessed = [*workload.notes, *_not_known(sizes, workload.rates)]
    if book.region != design.region:
        guessed.append(f"the prices are those of {book.region}, the tables will be in {design.region}")
    if guarded := [one.collection for one in sizes if one.guards]:
        guessed.append(
            f"{', '.join(guarded)}: no update changes a unique value; one that does costs 4 write and 2 read units more for each"
        )
    collections = [_collection(one, workload.rates) for one in sizes]
    load = estate_load(design, collections, workload)
    plan = workload.plan if design.journal else replace(workload.plan, journal_units=0.0)
    once = migration_cost(load, book, plan)
    billing: Billing = "provisioned" if any(one.billing == "provisioned" for one in design.tables) else "on_demand"
    if bill is None:
        bill = _estimated(sizes, book)
        guessed.append(f"MongoDB's bill: {', '.join(bill.parts)}; give the real one with --mongodb-bill")
    return Forecast(
        migration=design.migration,
        region=design.region,
        book=book.title,
        billing=billing,
        collections=tuple(collections),
        load=load,
        on_demand=monthly_cost(load, book, "on_demand"),
        provisioned=monthly_cost(load, book, "provisioned"),
        once=once,
        bill=bill,
        comparison=compare(load, book, bill, once, workload.growth, billing),
        classes=in_other_class(load, book, "on_demand"),
        guessed=tuple(guessed),
    )


def estate_load(design: PricedDesign, collections: Sequence[CollectionForecast], workload: Workload) -> EstateLoad:
    """What is asked of all tables in a month."""
    tables = tuple(
        _table(one, [each for each in collections if each.sizes.table == one.name], workload) for one in design.tables
    )
    stored = sum(stored_gb(one) for one in tables)
    return EstateLoad(
        tables=tables,
        replicas=design.replicas,
        dax_node=design.dax.node_type if design.dax else "",
        dax_nodes=design.dax.nodes if design.dax else 0,
        backup_gb=workload.backups * stored,
        backup_cold_gb=workload.cold_backups * stored,
        transfer_out_gb=workload.transfer_out_gb,
    )


def _collection(sizes: CollectionSizes, rates: Mapping[str, CallRates]) -> CollectionForecast:
    asked = rates.get(sizes.collection, CallRates())
    return CollectionForecast(sizes=sizes, rates=asked, units=of_all(sizes, asked))


def _table(design: TableSettings, collections: Sequence[CollectionForecast], workload: Workload) -> TableLoad:
    """The collections of one table added up: sizes as means over all items, requests as totals of the month."""
    items = sum(one.sizes.stored * one.sizes.items for one in collections)
    writes, reads = (sum(getattr(one.rates, name) for one in collections) for name in ("writes", "reads"))
    units = added(one.units for one in collections)

    def mean(total: float, over: float) -> float:
        return total / over if over else 0.0

    return TableLoad(
        name=design.name,
        items=items,
        item_bytes=mean(sum(one.sizes.stored * one.sizes.items * one.sizes.item_bytes for one in collections), items),
        put_units=mean(sum(one.sizes.stored * one.sizes.put_units for one in collections), items),
        get_units=mean(sum(one.sizes.stored * one.sizes.get_units for one in collections), items),
        writes=writes * SECONDS_A_MONTH,
        reads=reads * SECONDS_A_MONTH,
        read_units=mean(units.reads, reads),
        reads_a_write=mean(units.write_reads, writes),
        write_units=mean(units.writes, writes),
        dual_units=mean(units.dual, writes),
        follow_units=mean(units.follow, writes),
        indexes=tuple(_index(name, collections, items, writes, units) for name in design.indexes),
        day=workload.day,
        pitr=design.pitr,
        infrequent=design.name in workload.infrequent,
        scaling=_scaling(design),
    )


def _index(
    name: str, collections: Sequence[CollectionForecast], items: float, writes: float, units: Units
) -> IndexLoad:
    """`changed` is such that writes, share and units of a put give the units that were computed call by call."""
    found = [(one.sizes.stored, each) for one in collections for each in one.sizes.indexes if each.name == name]
    entries = sum(stored * each.entries for stored, each in found)
    put = sum(stored * each.entries * each.put_units for stored, each in found) / entries if entries else 0.0
    held = sum(stored * each.entries * each.bytes_in for stored, each in found) / entries if entries else 0.0
    share = entries / items if items else 0.0
    once = writes * share * put
    return IndexLoad(
        name=name,
        bytes_in=held,
        share=share,
        changed=units.index_writes.get(name, 0.0) / once if once else 0.0,
        put_units=put,
        read_units=units.index_reads.get(name, 0.0) * SECONDS_A_MONTH,
    )


def _scaling(design: TableSettings) -> Scaling | None:
    """None: the file does not provision this table; what provisioning would cost is computed as if it scaled freely."""
    capacity = design.capacity
    if design.billing != "provisioned" or capacity is None:
        return None
    least = float(capacity.read_units), float(capacity.write_units)
    most = float(capacity.max_read_units or least[0]), float(capacity.max_write_units or least[1])
    return Scaling(least=least, most=most, target=capacity.target_percent / 100)


def _not_known(sizes: Sequence[CollectionSizes], rates: Mapping[str, CallRates]) -> list[str]:
    empty = [one.collection for one in sizes if not one.sampled and one.documents]
    still = [one.collection for one in sizes if one.collection not in rates]
    notes = [f"no document of {', '.join(empty)} was looked at: counted as nothing"] if empty else []
    return notes + ([f"no traffic of {', '.join(still)} is known: counted as none"] if still else [])


def _estimated(sizes: Sequence[CollectionSizes], book: PriceBook) -> MongoBill:
    """By the size of the items, which is about that of the documents in memory."""
    size = sum(one.stored * one.items * one.item_bytes for one in sizes) / GB
    instance = next((name for name, memory in MEMORY_GB.items() if memory >= size + 1), "r5.2xlarge")
    return estimated_bill(instance, MEMBERS, max(size, 20.0), book)
