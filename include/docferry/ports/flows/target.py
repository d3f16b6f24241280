"""DynamoDB's data plane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

from docferry.core.mapping.items import Item, ItemKey
from docferry.errors import DocumentError


class Budget(Protocol):
    """A share of the one rate that all tasks of a migration keep to."""

    async def take(self, units: float) -> None:
        """Wait until this many units may be spent."""

    def settle(self, estimated: float, consumed: float) -> None:
        """Tell what a request really cost."""


Guard = Callable[[], None]
"""Called right before each request is signed; raises LeaseLost or Stopped when writing must end."""


class Unanswered:
    """Unconditional writes that were sent, and whose answer has not come, or never will: a connection broke, time ran out, a
    server was in trouble. Each may still be carried out, over whatever is there by then, until its signature has expired.
    """

    def __init__(self) -> None:
        self._tickets = count()
        self._signed_ms: dict[int, int] = {}

    def sent(self, signed_ms: int) -> int:
        """A request goes out, signed at that time (ms since the epoch); returns its ticket."""
        ticket = next(self._tickets)
        self._signed_ms[ticket] = signed_ms
        return ticket

    def answered(self, ticket: int) -> None:
        """Its fate is known."""
        del self._signed_ms[ticket]

    @property
    def requests(self) -> int:
        """How many, with those that are on their way."""
        return len(self._signed_ms)

    @property
    def last_signed_ms(self) -> int:
        """When the last of them was signed, 0 if there is none."""
        return max(self._signed_ms.values(), default=0)


@dataclass(slots=True)
class SpentUnits:
    """Capacity that requests have consumed, in read and write units, as DynamoDB says; `untold`: requests of which it did not."""

    read_units: float = 0.0
    write_units: float = 0.0
    untold: int = 0

    def __add__(self, other: SpentUnits) -> SpentUnits:
        return SpentUnits(
            self.read_units + other.read_units, self.write_units + other.write_units, self.untold + other.untold
        )

    def __sub__(self, other: SpentUnits) -> SpentUnits:
        return SpentUnits(
            self.read_units - other.read_units, self.write_units - other.write_units, self.untold - other.untold
        )


class Packed(NamedTuple):
    """An item ready to be sent: its key, and itself as JSON; `parts` are sent before it."""

    key: ItemKey
    json: bytes
    parts: tuple[tuple[ItemKey, bytes], ...] = ()


class Grave(NamedTuple):
    """A tombstone: its key, and its version as stored."""

    key: ItemKey
    version: str


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a list of items, by their position in it. `units` is the consumed capacity, indexes included."""

    refused: Mapping[int, DocumentError]
    superseded: frozenset[int]
    units: float


@dataclass(frozen=True, slots=True)
class TargetPage:
    """Some items and where to go on; `next` is None at the end."""

    items: list[Item]
    next: Item | None


class ItemPart(NamedTuple):
    """A part of an item that was too large (`core.mapping.large.parts`): its key, the version of the item that it was
    written for, and whether nothing can come to name it, by what its item is now."""

    key: ItemKey
    version: str
    overtaken: bool


@dataclass(frozen=True, slots=True)
class PartsPage:
    """`unnamed` are those whose items, read after them, do not name them; `looked_at` how many items there were."""

    unnamed: list[ItemPart]
    parts: int
    next: Item | None


class Target(Protocol):
    """DynamoDB's data plane. Raises StoreError or RetryExhausted; what a single item did is in `Written`.

    Items have our own form here, whatever their table calls its keys (`core.mapping.table_layout`); `Packed.json` the table's.
    """

    @property
    def spent(self) -> SpentUnits:
        """What all requests have consumed so far."""

    def limit_reads(self, budget: Budget) -> None:
        """From now on each read waits until its units may be spent."""

    def pack(self, items: Sequence[Item], table: str = "") -> list[Packed]:
        """A document's items, ready to be sent to a table: done at once, while they are in the processor's cache.

        Raises: DocumentError if one of them cannot be sent; then none of them may be.
        """

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        """Write all items unconditionally (BatchWriteItem), in any order. Returns when each is acknowledged or refused.

        `unanswered` keeps the requests whose fate is not known, even if this raises or is cancelled.
        """

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        """Write each item if none is stored under its key or the stored `_v` is smaller; with `or_same`, or the same."""

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        """Delete each of these tombstones if it is still the one named; anything else there is `superseded`, and stays."""

    async def parts(self, table: str, segment: int, segments: int, start: Item | None) -> PartsPage:
        """One page of a segment (consistent): the parts of items among what is there, without their content."""

    async def delete_parts(self, table: str, parts: Sequence[ItemPart], budget: Budget, guard: Guard) -> float:
        """Delete parts that no item names, nor can come to name; the write units."""

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """The items that exist under these keys (consistent reads)."""

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        """One page of a segment (consistent), all attributes or only some."""

    def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        """All items of one partition (consistent)."""

    async def close(self) -> None: ...
