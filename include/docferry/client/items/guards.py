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
    held: frozenset[ItemKey] = frozenset()
    """All that it held before."""

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
        held=frozenset(old),
    )


def is_anothers(guard: Item | None, document: Document | None) -> bool:
    """Whether a guard is live, and not this document's: one that does not exist yet has none."""
    return guard is not None and not is_tombstone(guard) and not is_own(guard, document)


def is_own(guard: Item | None, document: Document | None) -> bool:
    """Whether a guard is live, and this document's."""
    if guard is None or document is None or is_tombstone(guard):
        return False
    return is_id(guard, document["_id"])


def is_id(guard: Item, document_id: Any) -> bool:
    owner = item_id(guard)
    return owner is not None and same(bson.decode(owner, BSON_OPTIONS)[""], document_id)


def taken(collection: str, guard: Guard) -> KeyTaken:
    """What a document's change is refused with, whose value is another's."""
    settings = guard.plan.settings
    return KeyTaken(collection, guard.values, index=settings.name, pattern=settings.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedGuard:
    """One guard of a transaction. `put` is its request, `there` what was read there; `gained`: it is to be live.

    `error`: it is another document's, which must give it up in the same transaction. `put` None: it was to be given up, and is
    not the document's own: it is left, as long as all documents of the transaction have read it so.
    """

    table: str
    key: ItemKey = field(repr=False)
    put: dict[str, Any] | None = field(repr=False)
    there: Item | None = field(repr=False)
    gained: KeyTaken | None = None
    error: KeyTaken | None = None

    @property
    def version(self) -> str:
        return self.there["_v"]["S"] if self.there is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueHolder:
    """A document of a transaction: the guards that it held when it was read."""

    collection: str
    id: Any = field(repr=False)
    held: frozenset[ItemKey] = field(repr=False)

    def has_changed(self, guard: PreparedGuard) -> bool:
        """Whether a guard is this document's that was none of its when it was read."""
        there = guard.there
        mine = there is not None and guard.error is not None and guard.error.collection == self.collection
        return mine and guard.key not in self.held and is_id(there or {}, self.id)


def netted(guards: Sequence[PreparedGuard], holders: Sequence[ValueHolder]) -> Iterator[dict[str, Any]]:
    """The requests of a transaction's guards, one for each; `holders` are its documents.

    Raises: KeyTaken, if two documents gain one value, or one that neither has; ConditionFailed, if a guard was read in two ways.
    """
    by_key: dict[tuple[str, ItemKey], list[PreparedGuard]] = {}
    for one in guards:
        by_key.setdefault((one.table, one.key), []).append(one)
    for named in by_key.values():
        if len({one.version for one in named}) > 1:
            raise ConditionFailed("a guard was written while it was read")
        found = [one for one in named if one.put is not None]
        gains = [one for one in found if one.gained is not None]
        if len(gains) > 1 and gains[-1].gained is not None:
            raise gains[-1].gained
        if gains and len(gains) == len(found) and gains[0].error is not None:
            if any(one.has_changed(gains[0]) for one in holders):
                raise ConditionFailed("a document of the transaction has changed since it was read")
            raise gains[0].error
        yield from (one.put for one in (gains or found)[:1] if one.put is not None)
