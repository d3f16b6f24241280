"""How many of a collection's documents its filter takes, a sample of them, and the partition where most of their writes meet."""

from __future__ import annotations

from docferry.core.estate.partitions import HotPartition, hottest
from docferry.core.mapping.items import Item
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, is_outside
from docferry.errors import DocumentError, TimedOut
from docferry.ports.flows import Source

COUNT_S = 60.0
"""Without an index that serves the filter MongoDB reads all of the collection for this."""


def count_migrated(source: Source, mapping: DocumentMapping, documents: int) -> int:
    """Of a collection of so many documents. An estimate where MongoDB does not count them in time. Raises StoreError."""
    if mapping.filter is None or not documents:
        return documents
    counted = source.count(mapping.collection, mapping.filter.query, COUNT_S)
    if counted is not None:
        return counted
    sampled = source.sample_documents(mapping.collection, ESTIMATED_BY)
    return round(documents * sum(not is_outside(mapping, one) for one in sampled) / max(1, len(sampled)))


ESTIMATED_BY = 1_000


def sample_migrated(source: Source, mapping: DocumentMapping, size: int) -> list[bytes]:
    """Up to so many random documents that are migrated, or of which that cannot be told. Raises StoreError."""
    if mapping.filter is None:
        return source.sample_documents(mapping.collection, size)
    try:
        found = source.sample_documents(mapping.collection, size, mapping.filter.query)
    except TimedOut:
        found = source.sample_documents(mapping.collection, max(size, ESTIMATED_BY))
    return [one for one in found if not is_outside(mapping, one)][:size]


PARTITIONS_BY = 1_000


def hottest_of(source: Source, mapping: DocumentMapping) -> HotPartition | None:
    """The partition that most of a collection's writes would meet, by a sample. Raises StoreError."""
    documents: list[list[Item]] = []
    for raw in sample_migrated(source, mapping, PARTITIONS_BY):
        try:
            documents.append(mapping.fitted(encode_raw(mapping, raw, 0)))
        except DocumentError:
            continue  # a dead letter is not written
    return hottest(mapping.settings, documents)
