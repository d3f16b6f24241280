"""What the looks of a validation share: its job, reading documents by id, and whose an item is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, item_id
from docferry.errors import DocumentError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying

PAGE_DOCUMENTS = 500


def read_ids(job: Job, collection: str, ids: Sequence[bytes], at: Timestamp | None = None) -> list[bytes]:
    """Documents by id, at `at` or now; tried again while that may help."""

    def once() -> list[bytes]:
        return job.source.read_ids(collection, ids, at or job.source.cluster_time())

    return retrying(f"read documents of {collection}", once, job.stop)


def keys_accounted_for(job: Job, table: str, items: Sequence[Item], at: Timestamp | None = None) -> set[ItemKey]:
    """The keys of the documents that these items name, in whichever collection of the table they are. At `at`, or now."""
    ids = sorted({data for item in items if (data := item_id(item)) is not None})
    mappings = [mapping for mapping in job.migration.mappings.values() if mapping.table == table and ids]
    return {
        key
        for mapping in mappings
        for data in read_ids(job, mapping.collection, ids, at)
        for key in keys_of(mapping, data)
    }


def keys_of(mapping: DocumentMapping, data: bytes) -> frozenset[ItemKey]:
    """The keys a document accounts for: none if it cannot be stored."""
    try:
        return frozenset(key_of(item) for item in encode_raw(mapping, data, 0))
    except DocumentError:
        return frozenset()


def owner_of(item: Item, entities: Mapping[str, DocumentMapping]) -> DocumentMapping | None:
    """Which collection an item says it is of; None for an item that docferry cannot have written."""
    if "_id" not in item or "_v" not in item:
        return None
    return entities.get(item.get("entityType", {}).get("S", ""))


def is_of(item: Item, id_value: Any) -> bool:
    """Alive, and this document's: where two documents would share a key, it is the other one's."""
    return not is_tombstone(item) and item.get("_id", id_value) == id_value


def mark_of(data: bytes, stored: Iterable[Item | None]) -> bytes:
    """What a look saw, for telling whether the next one sees the same: a digest of the document and its items."""
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(json.dumps(list(stored), sort_keys=True).encode())
    return digest.digest()
