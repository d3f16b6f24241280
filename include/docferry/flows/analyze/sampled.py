"""A bounded sample of each collection in the scratch tables: what is loaded, how large it is, where it gathers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from docferry.config import Migration
from docferry.core.access.patterns import Pattern
from docferry.core.analyze.proof import LoadedSample
from docferry.core.cost.sizes import CollectionSizes, measure
from docferry.core.mapping.item_plan import holds
from docferry.core.mapping.items import Item
from docferry.core.mapping.key_templates import lookup
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document
from docferry.errors import DocumentError, RefusedByStore
from docferry.ports.analyze import AnalysisSource
from docferry.ports.flows import Target

MOST_BYTES = 64_000_000
"""Of the documents of one collection that are held in memory."""
BATCH = 500
VERSION = 1


@dataclass(slots=True)
class SampledCollection:
    """One collection's sample. `partitions`: for the table ("") and each index, documents a partition key."""

    collection: str
    table: str
    total: int
    documents: list[Mapping[str, Any]] = field(default_factory=list, repr=False)
    refused: list[Any] = field(default_factory=list, repr=False)
    sizes: CollectionSizes | None = None
    items: int = 0
    partitions: dict[str, Counter[str]] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        return len(self.documents) + len(self.refused) >= self.total

    def told(self) -> LoadedSample:
        return LoadedSample(
            collection=self.collection,
            documents=len(self.documents),
            of=self.total,
            items=self.items,
            refused=len(self.refused),
            complete=self.complete,
        )


class NoBudget:
    """A sample is small: it takes what new tables give."""

    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


async def load_sample(
    migration: Migration,
    collection: str,
    source: AnalysisSource,
    target: Target,
    documents: int,
    guard: Callable[[], None],
) -> SampledCollection:
    """Read at most so many documents, and put their items into the migration's tables. Raises: StoreError, Stopped."""
    mapping = migration.mapping(collection)
    total = int(source.stats(collection).get("count", 0))
    found = SampledCollection(collection=collection, table=mapping.table, total=total)
    stored: list[list[Item]] = []
    size = 0
    for page in source.sample(collection, documents, total):
        guard()
        size += sum(map(len, page))
        batch = [one for raw in page if (one := _items(found, mapping, raw)) is not None]
        stored += batch
        await _put(migration, target, mapping.table, batch, guard)
        if len(found.documents) >= documents or size > MOST_BYTES:
            break
    indexes = migration.table(mapping.table).indexes
    found.items = sum(map(len, stored))
    found.sizes = measure(collection, mapping.table, total, stored, indexes, len(found.refused))
    found.partitions = _partitions(stored, indexes)
    return found


def _items(found: SampledCollection, mapping: DocumentMapping, raw: bytes) -> list[Item] | None:
    document: dict[str, Any] = {}
    try:
        document = decode_document(raw)
        items = mapping.fitted(mapping.encode(document, VERSION))
    except DocumentError:
        found.refused.append(document.get("_id"))
        return None
    found.documents.append(document)
    return items


async def _put(
    migration: Migration, target: Target, table: str, batch: Sequence[Sequence[Item]], guard: Callable[[], None]
) -> None:
    packed = [one for items in batch for one in target.pack(items, table)]
    for start in range(0, len(packed), BATCH):
        written = await target.put_all(table, packed[start : start + BATCH], NoBudget(), guard)
        if written.refused:
            error = next(iter(written.refused.values()))
            raise RefusedByStore(
                f"{migration.name}: DynamoDB refused {len(written.refused)} items of the sample: {type(error).__name__}"
            )


def _partitions(stored: Sequence[Sequence[Item]], indexes: Sequence[str]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {"": Counter(items[0]["PK"]["S"] for items in stored)}
    for name in indexes:
        counted = Counter(item[f"{name}PK"]["S"] for items in stored for item in items if f"{name}PK" in item)
        if counted:
            found[name] = counted
    return found


# --- what is asked ---------------------------------------------------------------------------------------------------


def parameters_of(pattern: Pattern, documents: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Values for a pattern from the documents of the sample: as often as documents have them, so a heavy value comes often."""
    random = Random(pattern.name)  # noqa: S311 - the same documents each time, no secret
    places = list(range(len(documents)))
    random.shuffle(places)
    found: list[dict[str, Any]] = []
    for place in places:
        for element in _elements(pattern, documents[place]):
            values = _values(pattern, element)
            if values is not None:
                found.append(values)
                break
        if len(found) >= most:
            break
    return found


def _elements(pattern: Pattern, document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if not pattern.plan.path:
        yield document
        return
    inner = at(document, ".".join(pattern.plan.path))
    for one in inner if isinstance(inner, list) else ():
        if isinstance(one, Mapping):
            yield one


def _values(pattern: Pattern, element: Mapping[str, Any]) -> dict[str, Any] | None:
    if not all(holds(lookup(element, path), wanted) for path, wanted in pattern.when):
        return None
    values: dict[str, Any] = {}
    for one in pattern.parameters:
        value = at(element, one.path)
        if value is None or value == "" or isinstance(value, list | Mapping):
            return None
        if one.name:
            values[one.name] = value
        elif str(value) != one.text:
            return None
    return values


def at(document: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path through documents; None if nothing does."""
    value: Any = document
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
