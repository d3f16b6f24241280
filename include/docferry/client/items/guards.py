"""What a write of a leading DynamoDB does to guards: the values of unique indexes that its documents gain and give up.

They are written in the documents' own transaction, each as it was read. What a document gains is another's if its guard is live,
unless that one gives it up in the same transaction: then one item is put for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.order import same
from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.guards import Guard
from docferry.core.mapping.items import Document, Item, ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import item_id
from docferry.errors import ConditionFailed, KeyTaken


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardChanges:
    """The guards that one document's change gains and gives up, by their keys."""

    gained: dict[ItemKey, Guard] = field(default_factory=dict)
    given: dict[ItemKey, Guard] = field(default_factory=dict)

    @property
    def keys(self) -> list[ItemKey]:
        return [*self.given, *self.gained]


def guard_changes(mapping: DocumentMapping, before: Document | None, after: Document | None) -> GuardChanges:
    """Raises DocumentError."""
    if not mapping.unique:
        return GuardChanges()
    old = mapping.guards(before) if before is not None else {}
    new = mapping.guards(after) if after is not None else {}
    return GuardChanges(
        gained={key: one for key, one in new.items() if key not in old},
        given={key: one for key, one in old.items() if key not in new},
    )


def is_anothers(guard: Item | None, document: Document | None) -> bool:
    """Whether a guard is live, and not this document's: one that does not exist yet has none."""
    return guard is not None and not is_tombstone(guard) and not is_own(guard, document)


def is_own(guard: Item | None, document: Document | None) -> bool:
    """Whether a guard is live, and this document's."""
    if guard is None or document is None or is_tombstone(guard):
        return False
    owner = item_id(guard)
    return owner is not None and same(bson.decode(owner, BSON_OPTIONS)[""], document["_id"])


def taken(collection: str, guard: Guard) -> KeyTaken:
    """What a document's change is refused with, whose value is another's."""
    settings = guard.plan.settings
    return KeyTaken(collection, guard.values, index=settings.name, pattern=settings.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedGuard:
    """One guard of a transaction. `put` is its request, `version` what was read there; `gained`: it is to be live.

    `error`: it is another document's, which must give it up in the same transaction.
    """

    table: str
    key: ItemKey = field(repr=False)
    put: dict[str, Any] = field(repr=False)
    version: str
    gained: KeyTaken | None
    error: KeyTaken | None = None


def netted(guards: Sequence[PreparedGuard]) -> Iterator[dict[str, Any]]:
    """The requests of a transaction's guards, one for each.

    Raises: KeyTaken, if two documents gain one value, or one that neither has; ConditionFailed, if a guard was read in two ways.
    """
    by_key: dict[tuple[str, ItemKey], list[PreparedGuard]] = {}
    for one in guards:
        by_key.setdefault((one.table, one.key), []).append(one)
    for found in by_key.values():
        gains = [one for one in found if one.gained is not None]
        if len({one.version for one in found}) > 1:
            raise ConditionFailed("a guard was written while it was read")
        if len(gains) > 1 and gains[-1].gained is not None:
            raise gains[-1].gained
        if len(gains) == len(found) and gains[0].error is not None:
            raise gains[0].error
        yield (gains or found)[0].put
