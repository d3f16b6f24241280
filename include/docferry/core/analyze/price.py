"""From what was found and what is proposed to what it costs: the load of the tables, and the bill. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from docferry.core.analyze.design import CollectionDesign, Design
from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts
from docferry.core.cost.migration import MigrationCost, MigrationPlan, migration_cost
from docferry.core.cost.monthly import MonthlyCost, monthly_cost
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.roi import Comparison, MongoBill, compare, estimated_bill
from docferry.core.cost.workload import GB, SECONDS_A_MONTH, EstateLoad, IndexLoad, TableLoad

ESTIMATED_MEMBERS = 3
MEMORY_GB = {"t3.small": 2, "m5.large": 8, "r5.large": 16, "r5.xlarge": 32, "r5.2xlarge": 64}
"""Instances that an estimate takes for a replica set: the smallest whose memory holds the data and its indexes."""
VERSION_BYTES = 120
"""What `_v`, `_t`, the keys and `entityType` add to an item, about."""


GUARD_BYTES = 250
"""Of an item that keeps a value unique, about: its key, twice in words, and the document's `_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The bill of a proposal. `guessed`: what had to be assumed, in words."""

    book: str
    book_date: str
    load: EstateLoad
    on_demand: MonthlyCost
    provisioned: MonthlyCost
    once: MigrationCost
    comparison: Comparison
    guessed: tuple[str, ...]


def price_of(
    facts: DatabaseFacts,
    design: Design,
    book: PriceBook,
    bill: MongoBill | None = None,
    plan: MigrationPlan | None = None,
) -> Price:
    """What the design costs a month, and the migration once."""
    guessed: list[str] = []
    tables = [_table(one, facts.collection(one.name), guessed) for one in design.collections]
    tables += [_guards(one, facts.collection(one.name), guessed) for one in design.collections if one.guarded]
    load = EstateLoad(tables=tuple(table for table in tables if table is not None))
    once = migration_cost(load, book, plan or MigrationPlan())
    if bill is None:
        size = sum(one.documents * one.average_bytes + one.index_bytes for one in facts.collections) / GB
        instance = next((name for name, memory in MEMORY_GB.items() if memory >= size + 1), "r5.2xlarge")
        bill = estimated_bill(instance, ESTIMATED_MEMBERS, max(size, 20.0), book)
        guessed.append(
            f"MongoDB's bill: {ESTIMATED_MEMBERS} x {instance} and its disks; give the real one with --mongodb-bill"
        )
    return Price(
        book=book.name,
        book_date=book.date,
        load=load,
        on_demand=monthly_cost(load, book, "on_demand"),
        provisioned=monthly_cost(load, book, "provisioned"),
        once=once,
        comparison=compare(load, book, bill, once),
        guessed=tuple(guessed),
    )


def _table(design: CollectionDesign, facts: CollectionFacts | None, guessed: list[str]) -> TableLoad | None:
    if facts is None:
        return None
    if facts.reads_s is None or facts.writes_s is None:
        guessed.append(f"{facts.name}: no traffic is known: counted as none")
    per_document = 1.0
    for child in design.children:
        path = facts.path(child.path)
        per_document += path.present * path.lengths.p50 if path is not None and path.lengths is not None else 0.0
    size = max(facts.item_bytes.p50 or facts.average_bytes, 1.0)
    return TableLoad(
        name=design.name,
        items=facts.documents * per_document,
        item_bytes=size / per_document + VERSION_BYTES,
        writes=(facts.writes_s or 0.0) * SECONDS_A_MONTH * per_document,
        reads=(facts.reads_s or 0.0) * SECONDS_A_MONTH,
        read_bytes=size + VERSION_BYTES * per_document,
        indexes=tuple(
            IndexLoad(
                name=one.index,
                bytes_in=size / per_document + VERSION_BYTES,
                share=_share(facts, one.fields[0]) / per_document,
            )
            for one in design.indexes
        ),
    )


def _guards(design: CollectionDesign, facts: CollectionFacts | None, guessed: list[str]) -> TableLoad | None:
    """An item for each value of a unique index: loaded and stored. Which of the writes touch one MongoDB does not count."""
    if facts is None:
        return None
    guessed.append(
        f"{facts.name}: guards cost nothing by writes, of which it is not known how many insert, delete or change a unique "
        "value (docferry cost --workload)"
    )
    values = sum(_share(facts, one.fields[0]) for one in design.guarded)
    name = f"{design.name}, guards of unique indexes"
    return TableLoad(name=name, items=facts.documents * values, item_bytes=GUARD_BYTES, writes=0.0, reads=0.0)


def _share(facts: CollectionFacts, field: str) -> float:
    path = facts.path(field)
    return path.present * (1 - path.null) if path is not None else 1.0
