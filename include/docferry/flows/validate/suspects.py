"""What looked different, until it is proved to be, or not to be. A bounded number, and packed for the ledger."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson

from docferry.core.compare.diff import Difference
from docferry.core.mapping.items import ItemKey
from docferry.flows.ledger.dead_letters import fits_record

MAX_SUSPECTS = 20_000
PART_BYTES = 300_000
KEPT_KEYS = 100
"""Of a suspect whose keys alone would not fit into a part."""


@dataclass(slots=True, kw_only=True)
class Suspect:
    """A document that differed from its items, or (with a `key`) an item that no document accounted for.

    `collection` is "" for an item that names no collection of the migration. `keys` are those of a document's items when
    it was last seen, `mark` is what that look saw, `proved_ms` since when it has been proved different (0: it is not),
    `found` what was found then, by item, and `wrong_keys` in which items. Times are ms since 1970. `led`: what DynamoDB holds
    there was written, or deleted, while it led, so it may be the only copy of that.
    """

    table: str
    collection: str
    id: bytes = field(default=b"", repr=False)
    key: ItemKey | None = field(default=None, repr=False)
    keys: tuple[ItemKey, ...] = field(default=(), repr=False)
    first_seen_ms: int
    mark: bytes = b""
    proved_ms: int = 0
    found: list[list[Difference]] = field(default_factory=list, repr=False)
    wrong_keys: tuple[ItemKey, ...] = field(default=(), repr=False)
    led: bool = False

    @property
    def name(self) -> tuple[Any, ...]:
        return (self.table, *self.key) if self.key is not None else (self.collection, self.id)


@dataclass(slots=True)
class Suspects:
    """At most MAX_SUSPECTS suspects; of those beyond only the number is kept. `fresh` are not in the ledger yet."""

    by_name: dict[tuple[Any, ...], Suspect] = field(default_factory=dict, repr=False)
    fresh: list[Suspect] = field(default_factory=list, repr=False)
    overflow: int = 0

    @property
    def too_long(self) -> int:
        """Those that no record holds: who goes on later knows only how many there were."""
        return sum(not fits_record(one.id) for one in self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[Suspect]:
        return iter(list(self.by_name.values()))

    def documents(self, size: int) -> Iterator[tuple[str, list[Suspect]]]:
        """Pages of at most `size` documents, each of one collection, as they are now."""
        return _pages(((one.collection, one) for one in self if one.key is None), size)

    def items(self, size: int) -> Iterator[tuple[str, list[Suspect]]]:
        """Pages of at most `size` items, each of one table, as they are now."""
        return _pages(((one.table, one) for one in self if one.key is not None), size)

    def add(self, suspect: Suspect) -> None:
        """Keep it, unless it is known."""
        if suspect.name in self.by_name:
            return
        if len(self.by_name) >= MAX_SUSPECTS:
            self.overflow += 1
            return
        self.by_name[suspect.name] = suspect
        self.fresh.append(suspect)

    def drop(self, suspect: Suspect) -> None:
        """It is none."""
        del self.by_name[suspect.name]


def _pages(named: Iterable[tuple[str, Suspect]], size: int) -> Iterator[tuple[str, list[Suspect]]]:
    groups: dict[str, list[Suspect]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    for name, found in groups.items():
        for start in range(0, len(found), size):
            yield name, found[start : start + size]


def encode_suspects(suspects: Sequence[Suspect]) -> list[bytes]:
    """In parts that each fit into a record of the ledger."""
    suspects = [one for one in suspects if fits_record(one.id)]
    if not suspects:
        return []
    rows: list[list[Any]] = [
        [one.table, one.collection, one.id, list(one.key or ()), [list(key) for key in one.keys], one.first_seen_ms, one.mark]
        for one in suspects
    ]  # fmt: skip
    packed = zlib.compress(bson.encode({"rows": rows}))
    if len(packed) <= PART_BYTES:
        return [packed]
    if len(suspects) == 1:
        rows[0][4] = rows[0][4][:KEPT_KEYS]
        return [zlib.compress(bson.encode({"rows": rows}))]
    half = len(suspects) // 2
    return encode_suspects(suspects[:half]) + encode_suspects(suspects[half:])


def decode_suspects(part: bytes) -> list[Suspect]:
    """The inverse of `encode_suspects`, for one part; what was proved must be proved again."""
    return [
        Suspect(
            table=table,
            collection=collection,
            id=bytes(id_data),
            key=(key[0], key[1]) if key else None,
            keys=tuple((pk, sk) for pk, sk in keys),
            first_seen_ms=first_seen_ms,
            mark=bytes(mark),
        )
        for table, collection, id_data, key, keys, first_seen_ms, mark in bson.decode(zlib.decompress(part))["rows"]
    ]
