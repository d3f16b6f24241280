"""A page of documents on its way: encoded in parts, each with its items, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from docferry.core.mapping.items import Item, ItemKey, is_guard, key_of
from docferry.errors import DocumentError, KeyCollision
from docferry.ports.flows import Packed, Written

PART_DOCUMENTS = 250
"""Encoded at a time: small enough that the items are still in the processor's cache when they are made into bytes."""


@dataclass(slots=True)
class LoadPart:
    """Some documents of a page, encoded: their items, and which document of the page each item is of."""

    items: list[Packed] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    made: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class LoadPage:
    """A page on its way: where the checkpoint may move when all its parts are acknowledged, and what cannot be stored."""

    raw: list[bytes]
    version: int
    last: bytes
    parts: list[LoadPart] = field(default_factory=list)
    writes: list[asyncio.Task[Written]] = field(default_factory=list)
    errors: dict[int, DocumentError] = field(default_factory=dict)
    outside: int = 0
    keys: set[ItemKey] = field(default_factory=set)

    def is_written(self) -> bool:
        """Every document was encoded, and every write has come to an end without an error."""
        encoded = len(self.parts) * PART_DOCUMENTS >= len(self.raw)
        return encoded and all(not write.cancelled() and write.exception() is None for write in self.writes)


def superseded(page: LoadPage, written: Sequence[Written], dead: Mapping[int, DocumentError]) -> int:
    """Documents of which all items are newer in DynamoDB."""
    fresh = {
        owner
        for part, one in zip(page.parts, written, strict=True)
        for place, owner in enumerate(part.owners)
        if place not in one.superseded
    }
    return len({owner for part in page.parts for owner in part.owners} - fresh - set(dead))


def without_taken(items: Sequence[Item], keys: set[ItemKey]) -> list[Item]:
    """Without guards that another document of the page has: a request may not name an item twice. MongoDB's index allows no such
    two; where there are (it is younger than the documents, or another), a validation finds the one that is not there."""
    return [item for item in items if not (is_guard(item) and key_of(item) in keys)]


def refuse_shared_keys(items: Sequence[Packed], keys: set[ItemKey], collection: str) -> None:
    """Two documents of a page with one key: the second would silently replace the first."""
    for item in items:
        if item.key in keys:
            pk, sk = item.key
            raise KeyCollision(f"another document of {collection} has the same key", path=f"{pk} / {sk}")
    keys.update([item.key for item in items])
