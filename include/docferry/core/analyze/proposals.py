"""What is proposed beside keys and indexes: how unique indexes are kept, and which collections are small enough to scan. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from docferry.core.analyze.facts import CollectionFacts, IndexFacts
from docferry.core.cost.units import READ_UNIT_BYTES
from docferry.core.mapping.guards import guard_name_problem
from docferry.core.mql.index_entries import compile_index
from docferry.core.settings import UniqueSettings
from docferry.errors import CallRefused

SCAN_MOST = 500
"""Read units of one scan: what the file allows if it says no number."""
GROWTH = 2
"""A bound is proposed with so much room for the collection to grow."""
LEAST_BOUND = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueDesign:
    """One unique index of MongoDB: by the table's key, by guards (`settings`), or waived; and why so."""

    name: str
    fields: tuple[str, ...]
    settings: UniqueSettings | None = None
    waived: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanDesign:
    """A collection that is small enough: `units` a scan of it reads now, in read units, `table_units` one of the table that it
    shares; `most` is the bound that is proposed."""

    units: int
    most: int
    table_units: int

    @property
    def alone(self) -> bool:
        """Whether it needs a table of its own for that."""
        return self.table_units * GROWTH > SCAN_MOST

    @property
    def said(self) -> str:
        return f"{{allowed: true, most_read_units: {self.most}}}"


GUARD_COST = (
    "a guard item each: 1 write unit at the load; once DynamoDB leads 2 write and 1 read unit more for an insert or a delete, 4 "
    "and 2 for a change of the value, nothing for other updates"
)


def uniques_of(facts: CollectionFacts, key: str) -> list[UniqueDesign]:
    """How each is kept once DynamoDB leads. `_id` needs a guard where another is kept by one, and the key is not made of it."""
    found = [_unique(facts, one, key) for one in facts.indexes if one.unique and one.name != "_id_"]
    if key != "_id" and any(one.settings for one in found):
        by_id = UniqueSettings(name="_id_", key={"_id": 1})
        why = f"the table's key is made of {key}: two documents could have one _id; {GUARD_COST}"
        found.insert(0, UniqueDesign(name="_id_", fields=("_id",), settings=by_id, why=why))
    return found


def _unique(facts: CollectionFacts, index: IndexFacts, key: str) -> UniqueDesign:
    if key in index.fields:
        why = f"the table's key is made of {key} alone, and that is stricter"
        return UniqueDesign(
            name=index.name, fields=index.fields, why=why if index.fields != (key,) else "it is the key"
        )
    try:
        settings = _settings(facts.name, index)
    except (ValueError, CallRefused) as error:
        what = error.what if isinstance(error, CallRefused) else str(error)
        why = f"no guard can keep it: {what}. Nothing enforces it once DynamoDB leads"
        return UniqueDesign(name=index.name, fields=index.fields, waived=True, why=why)
    return UniqueDesign(name=index.name, fields=index.fields, settings=settings, why=f"MongoDB keeps it; {GUARD_COST}")


def _settings(collection: str, index: IndexFacts) -> UniqueSettings:
    """Raises: ValueError, CallRefused, with what no guard can keep."""
    if not index.plain:
        raise ValueError("it is of another kind")
    if index.collation:
        raise ValueError("it compares by a collation, and guards compare bytes")
    if index.partial and not index.partial_filter:
        raise ValueError("its filter is not known")
    if wrong := guard_name_problem(collection, index.name):
        raise ValueError(wrong)
    partial: Mapping[str, Any] | None = json.loads(index.partial_filter) if index.partial_filter else None
    ways = {name: -1 if way == "-1" else 1 for name, way in index.keys}
    settings = UniqueSettings(name=index.name, key=ways, sparse=index.sparse, partial=partial)
    compile_index(settings)
    return settings


def scans_of(wanted: Sequence[CollectionFacts]) -> dict[str, ScanDesign]:
    """The collections that are small enough, by name; all share one table."""
    units = {one.name: _scan_units(one) for one in wanted}
    whole = sum(units.values())
    return {name: _scan(one, whole) for name, one in units.items() if one * GROWTH <= SCAN_MOST}


def _scan(units: int, whole: int) -> ScanDesign:
    shared = whole * GROWTH <= SCAN_MOST
    return ScanDesign(units=units, most=max(LEAST_BOUND, GROWTH * (whole if shared else units)), table_units=whole)


def _scan_units(facts: CollectionFacts) -> int:
    """Consistent reads, as scans are once DynamoDB leads."""
    mean = max(facts.item_bytes.p50, facts.average_bytes)
    return max(1, ceil(facts.documents * mean / READ_UNIT_BYTES))


def scan_lines(name: str, one: ScanDesign, documents: int, table: str) -> Iterator[str]:
    """Why, and how to allow it, for a file's comment."""
    yield (
        f"scan: small enough. Its {documents:,} documents are about {one.units:,} read units a scan. Queries that no key leads "
        "to are refused once DynamoDB leads, unless this is allowed:"
    )
    if one.alone:
        yield (
            f"give {name} a table of its own (under tables, and in its line table), because a scan reads all of a table, and "
            f"{table} is about {one.table_units:,} read units; then"
        )
    yield f"scan: {one.said}"
