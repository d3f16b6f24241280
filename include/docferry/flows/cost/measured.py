"""What the documents of a migration take, measured on samples through its own mapping; and what is asked of them, as MongoDB
counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from docferry.config import Migration
from docferry.core.cost.calls import CallRates, only_counted
from docferry.core.cost.sizes import CollectionSizes, measure
from docferry.core.cost.sizes import Item as CostItem
from docferry.core.mapping.items import Item, is_guard
from docferry.core.mapping.raw import encode_raw
from docferry.core.settings import CollectionSettings, TableSettings
from docferry.errors import AccessDenied, DocumentError, RequestRefused
from docferry.flows.kernel.migrated import count_migrated, sample_migrated
from docferry.ports.analyze import AnalysisSource
from docferry.ports.flows import Source

SAMPLE = 1_000


def measure_collections(migration: Migration, source: Source, sample: int = SAMPLE) -> list[CollectionSizes]:
    """Of every collection, at most so many documents. Reads only. Raises StoreError."""
    return [_measured(migration, one, source, sample) for one in migration.collections]


def _measured(migration: Migration, settings: CollectionSettings, source: Source, sample: int) -> CollectionSizes:
    facts = source.collection_facts(settings.name)
    mapping = migration.mapping(settings.name)
    documents = count_migrated(source, mapping, facts.documents)
    raw = sample_migrated(source, mapping, sample) if documents else []
    stored: list[Sequence[Item]] = []
    refused = 0
    for data in raw:
        try:
            items = mapping.fitted(encode_raw(mapping, data, 1))
        except DocumentError:
            refused += 1
            continue
        stored.append(items)
    table = migration.table(settings.table)
    return measure(
        settings.name, settings.table, documents, stored, table.indexes, refused, partial(_projected, table),
        is_guard=lambda item: is_guard(dict(item)),
    )  # fmt: skip


def _projected(table: TableSettings, index: str, item: CostItem) -> CostItem:
    """What an index holds of an item: everything, or the keys of table and index, and what the file includes."""
    design = table.design(index)
    if design.projection == "ALL":
        return item
    kept = {"PK", "SK", f"{index}PK", f"{index}SK", *(design.include if design.projection == "INCLUDE" else ())}
    return {name: value for name, value in item.items() if name in kept}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCounts:
    """Reads and writes a second, as MongoDB has counted them since it started. `missing`: why it does not say."""

    rates: dict[str, CallRates] = field(default_factory=dict)
    missing: str = ""


def count_calls(migration: Migration, source: AnalysisSource) -> CallCounts:
    """By `$collStats`. A user without the rights for it gets no rates, and the reason. Raises StoreError."""
    try:
        uptime, there = source.uptime_s(), {one["name"] for one in source.collections()}
        rates = {
            one.name: _rates(source, one.name, uptime) for one in migration.collections if uptime and one.name in there
        }
    except (AccessDenied, RequestRefused) as error:
        why = "no permission" if isinstance(error, AccessDenied) else f"refused ({error.code})"
        grant = "db.grantRolesToUser('<user>', [{role: 'clusterMonitor', db: 'admin'}])"
        return CallCounts(missing=f"MongoDB does not say how many calls there are: {why}; grant it with {grant}")
    return CallCounts(rates=rates)


def _rates(source: AnalysisSource, collection: str, uptime_s: float) -> CallRates:
    counted = source.latencies(collection)
    (reads, _), (writes, _) = counted.get("reads", (0, 0.0)), counted.get("writes", (0, 0.0))
    return only_counted(reads / uptime_s, writes / uptime_s)
