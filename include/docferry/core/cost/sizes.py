"""What documents take in DynamoDB, as measured on a sample of their items. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.cost.units import read_units, write_units
from docferry.core.limits import item_bytes

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSizes:
    """One index, as documents of one collection are in it: entries of one document (`of_roots`: how many are its root's), the
    mean bytes of an entry, and the mean write units of putting one. `versioned`: it holds `_v`, so each write of an item
    writes its entry, too; an index that projects less is written when its keys change."""

    name: str
    entries: float
    of_roots: float
    bytes_in: float
    put_units: float
    versioned: bool = True


Held = Callable[[str, Item], Item]
"""What an index, by its name, holds of an item that is in it."""


def whole(index: str, item: Item) -> Item:
    """An index that projects everything."""
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSizes:
    """One collection: means over a sample of `sampled` of its `documents`; `refused` of the sample cannot be stored.

    `items` of a document, and their mean bytes; write units of plain puts of all of them (`put_units`), of the root alone
    (`root_units`); read units of one consistent read of a document (`read_units`), of each of its items apart (`get_units`).
    `transactional`: of the documents, how many have several items. `sampled` 0: nothing is known, all means are 0.
    `guards` of the items keep values unique: they are loaded, followed and validated as the others, and neither read with their
    document nor put by a dual write.
    """

    collection: str
    table: str
    documents: float
    sampled: int
    refused: int = 0
    items: float = 0.0
    item_bytes: float = 0.0
    put_units: float = 0.0
    dual_units: float = 0.0
    root_units: float = 0.0
    read_units: float = 0.0
    get_units: float = 0.0
    guards: float = 0.0
    indexes: Sequence[IndexSizes] = ()

    @property
    def stored(self) -> float:
        """Documents that are stored: those that cannot be are dead letters."""
        return self.documents * (1 - self.refused / self.sampled) if self.sampled else self.documents


def measure(
    collection: str,
    table: str,
    documents: float,
    sample: Sequence[Sequence[Item]],
    indexes: Iterable[str],
    refused: int,
    held: Held = whole,
    is_guard: Callable[[Item], bool] = lambda item: False,
) -> CollectionSizes:
    """`sample`: the items of each document, in wire form, the root first; without those of `refused` documents. `held`: what
    indexes project."""
    if not sample:
        return CollectionSizes(
            collection=collection, table=table, documents=documents, sampled=refused, refused=refused
        )
    count = len(sample)
    sizes = [[item_bytes(dict(item)) for item in one] for one in sample]
    own = [[item_bytes(dict(item)) for item in one if not is_guard(item)] for one in sample]
    puts = [sum(map(write_units, one)) for one in sizes]
    total = sum(map(len, sizes))
    return CollectionSizes(
        collection=collection,
        table=table,
        documents=documents,
        sampled=count + refused,
        refused=refused,
        items=total / count,
        item_bytes=sum(map(sum, sizes)) / total,
        put_units=sum(puts) / count,
        # Several items are put in one transaction, which costs twice as much; one is put alone.
        dual_units=sum(sum(map(write_units, one)) * (2 if len(one) > 1 else 1) for one in own) / count,
        root_units=sum(write_units(one[0]) for one in sizes) / count,
        read_units=sum(read_units(sum(one), "strong") for one in own) / count,
        get_units=sum(read_units(size, "strong") for one in sizes for size in one) / count,
        guards=(total - sum(map(len, own))) / count,
        indexes=tuple(filter(None, (_index(name, sample, held) for name in indexes))),
    )


def _index(name: str, sample: Sequence[Sequence[Item]], held: Held) -> IndexSizes | None:
    """None if no item of the sample is in it."""
    entries = [
        (held(name, item), place == 0) for one in sample for place, item in enumerate(one) if f"{name}PK" in item
    ]
    if not entries:
        return None
    sizes = [item_bytes(dict(entry)) for entry, _ in entries]
    return IndexSizes(
        name=name,
        entries=len(entries) / len(sample),
        of_roots=sum(root for _, root in entries) / len(sample),
        bytes_in=sum(sizes) / len(entries),
        put_units=sum(map(write_units, sizes)) / len(entries),
        versioned=any("_v" in entry for entry, _ in entries),
    )
