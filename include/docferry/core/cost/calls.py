"""What one call of the application takes in DynamoDB through docferry's client, and what all of them take. Pure.

While DynamoDB leads, a write reads its document consistently and writes it in a transaction; each root that is written takes its
entry in every index with it, because `_v` changes. A read by an index reads keys there, and then the documents, consistently.
An insert and a delete read and write a guard for each unique value, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from docferry.core.cost.sizes import CollectionSizes, IndexSizes
from docferry.core.cost.units import read_units

Kind = Literal["by_key", "by_index", "insert", "update", "delete"]
WRITES: tuple[Kind, ...] = ("insert", "update", "delete")
NOTHING_THERE = 1.0
"""Read units of a consistent read that finds nothing: of an insert, which looks first."""
TRANSACTION = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReads:
    """Reads through one index: `calls` a second, and the documents that one returns."""

    calls: float
    results: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRates:
    """Calls on one collection, a second, as a mean over the day. `moved`: of the updates, how many change the key of an index."""

    by_key: float = 0.0
    by_index: Mapping[str, IndexReads] = field(default_factory=dict)
    insert: float = 0.0
    update: float = 0.0
    delete: float = 0.0
    moved: Mapping[str, float] = field(default_factory=dict)

    @property
    def writes(self) -> float:
        return self.insert + self.update + self.delete

    @property
    def reads(self) -> float:
        return self.by_key + sum(one.calls for one in self.by_index.values())


ONLY_COUNTED = "each read is taken for one by key, each write for an update: no more is counted (--workload says more)"


def only_counted(reads_s: float, writes_s: float) -> CallRates:
    """Where reads and writes are all that is counted: see ONLY_COUNTED."""
    return CallRates(by_key=reads_s, update=writes_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Capacity by where it is used: read units of the table by reads, and by writes, which read first; write units of the
    table; both by index. `dual`: write units of the table by a dual put while MongoDB leads; `follow`: by replication's puts of
    the same change."""

    reads: float = 0.0
    write_reads: float = 0.0
    writes: float = 0.0
    index_reads: Mapping[str, float] = field(default_factory=dict)
    index_writes: Mapping[str, float] = field(default_factory=dict)
    dual: float = 0.0
    follow: float = 0.0

    @property
    def all_reads(self) -> float:
        return self.reads + self.write_reads + sum(self.index_reads.values())

    @property
    def all_writes(self) -> float:
        return self.writes + sum(self.index_writes.values())

    def times(self, number: float) -> Units:
        return Units(
            reads=self.reads * number,
            write_reads=self.write_reads * number,
            writes=self.writes * number,
            index_reads={name: units * number for name, units in self.index_reads.items()},
            index_writes={name: units * number for name, units in self.index_writes.items()},
            dual=self.dual * number,
            follow=self.follow * number,
        )


def added(parts: Iterable[Units]) -> Units:
    """The sum."""
    plain = ("reads", "write_reads", "writes", "dual", "follow")
    parts = [*parts]
    index_reads: dict[str, float] = {}
    index_writes: dict[str, float] = {}
    for one in parts:
        for total, more in ((index_reads, one.index_reads), (index_writes, one.index_writes)):
            for name, units in more.items():
                total[name] = total.get(name, 0.0) + units
    totals = {name: sum(getattr(one, name) for one in parts) for name in plain}
    return Units(**totals, index_reads=index_reads, index_writes=index_writes)


def read_by_key(sizes: CollectionSizes) -> Units:
    """One document by its key."""
    return Units(reads=sizes.read_units)


def read_by_index(sizes: CollectionSizes, index: str, results: float) -> Units:
    """So many documents by an index: at least one page of it, eventually consistent, and each document."""
    entry = _of(sizes, index)
    read = read_units(results * entry.bytes_in if entry else 0.0)
    return Units(index_reads={index: read}, reads=results * sizes.read_units)


def compared(sizes: CollectionSizes, rates: CallRates) -> Units:
    """The comparisons of these reads while MongoDB leads: each document that MongoDB gives is read by its key."""
    documents = rates.by_key + sum(one.calls * one.results for one in rates.by_index.values())
    return Units(reads=sizes.read_units).times(documents)


def insert(sizes: CollectionSizes) -> Units:
    """One new document."""
    return Units(
        write_reads=NOTHING_THERE + sizes.guards,
        writes=TRANSACTION * sizes.put_units,
        index_writes={one.name: one.entries * one.put_units for one in sizes.indexes},
        dual=sizes.dual_units,
        follow=sizes.put_units,
    )


def update(sizes: CollectionSizes, moved: Mapping[str, float] | None = None) -> Units:
    """One document of which the root changes, no child and no unique value. A key that moves is deleted and put in its index."""
    moved = moved or {}
    return Units(
        write_reads=sizes.read_units,
        writes=TRANSACTION * sizes.root_units,
        index_writes={one.name: _rewritten(one, moved.get(one.name, 0.0)) for one in sizes.indexes},
        dual=sizes.dual_units,
        follow=sizes.root_units,
    )


def _rewritten(index: IndexSizes, moved: float) -> float:
    """Write units of one index by one write of a root, of which so many change its key."""
    return index.of_roots * index.put_units * ((1 - moved) * index.versioned + 2 * moved)


def delete(sizes: CollectionSizes) -> Units:
    """One document, whose items become tombstones, which are in no index."""
    return Units(
        write_reads=sizes.read_units + sizes.guards,
        writes=TRANSACTION * sizes.put_units,
        index_writes={one.name: one.entries * one.put_units for one in sizes.indexes},
        dual=sizes.dual_units,
        follow=sizes.put_units,
    )


def of_all(sizes: CollectionSizes, rates: CallRates) -> Units:
    """Units a second."""
    parts = [
        read_by_key(sizes).times(rates.by_key),
        insert(sizes).times(rates.insert),
        update(sizes, rates.moved).times(rates.update),
        delete(sizes).times(rates.delete),
    ]
    parts += [read_by_index(sizes, name, one.results).times(one.calls) for name, one in rates.by_index.items()]
    return added(parts)


def _of(sizes: CollectionSizes, index: str) -> IndexSizes | None:
    return next((one for one in sizes.indexes if one.name == index), None)
