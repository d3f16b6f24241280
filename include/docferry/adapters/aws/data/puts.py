"""Items that are being put: as they are sent, in batches, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from docferry.core.limits import BATCH_BYTES, BATCH_ITEMS
from docferry.core.mapping.items import Item, ItemKey, check_size
from docferry.core.mapping.table_layout import PLAIN, TableLayout
from docferry.errors import DocumentError, RefusedByStore
from docferry.ports.flows import Packed, Unanswered, Written


def pack(item: Item, layout: TableLayout = PLAIN) -> Packed:
    """An item ready to be sent, with its parts. Raises DocumentError."""
    stored = item if layout.plain else layout.named(item)
    parts: tuple[tuple[ItemKey, bytes], ...] = ()
    try:
        body = orjson.dumps(stored)
        if len(body) > layout.most_bytes:  # JSON is never shorter than the item, so this is rarely needed
            stored, cut = layout.cut(layout.stored(item))
            check_size(stored, item["SK"]["S"])
            body = orjson.dumps(stored)
            parts = tuple((layout.key_of(part), orjson.dumps(part)) for part in cut)
    except (TypeError, UnicodeEncodeError) as error:
        raise RefusedByStore(f"cannot be written as JSON: {type(error).__name__}", path=item["SK"]["S"]) from error
    return Packed((item["PK"]["S"], item["SK"]["S"]), body, parts)


class Puts:
    """The items of one `put_all` or `put_newer`, and what became of each."""

    __slots__ = ("items", "longest_s", "refused", "replaced", "superseded", "unanswered", "units")

    def __init__(self, items: Sequence[Packed], unanswered: Unanswered | None = None) -> None:
        self.items, self.unanswered = items, unanswered
        self.refused: dict[int, DocumentError] = {}
        self.superseded: set[int] = set()
        self.replaced: dict[int, Item] = {}
        """What was stored in the place of an item, if that had parts."""
        self.units = 0.0
        self.longest_s = 0.0
        """Of the requests of this round, the one that took longest."""

    def batches(self, positions: Sequence[int]) -> Iterator[Sequence[int]]:
        """As many as a BatchWriteItem takes, by number, and halved until it takes them by bytes."""
        parts = [positions[start : start + BATCH_ITEMS] for start in range(0, len(positions), BATCH_ITEMS)]
        while parts:
            part = parts.pop()
            if len(part) > 1 and sum([len(self.items[position].json) for position in part]) > BATCH_BYTES:
                parts += part[: len(part) // 2], part[len(part) // 2 :]
            else:
                yield part

    def estimate(self, positions: Sequence[int]) -> float:
        """Write units of the table's own puts, from the JSON's length; what indexes add is learnt from the replies."""
        items = self.items
        return sum([1 + len(items[position].json) * 3 // 4096 for position in positions])

    def result(self) -> Written:
        return Written(self.refused, frozenset(self.superseded), self.units)
