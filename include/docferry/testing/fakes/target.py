"""DynamoDB's data plane in memory."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from docferry.core.bson_codec.plain import AttributeValue, plain_number
from docferry.core.cost.units import READ_UNIT_BYTES
from docferry.core.limits import (
    BATCH_GET_KEYS,
    BATCH_ITEMS,
    NUMBER_DIGITS,
    NUMBER_MAX_ADJUSTED,
    NUMBER_MIN_ADJUSTED,
    item_bytes,
    item_write_units,
    write_units,
)
from docferry.core.mapping.items import Item, ItemKey, check_size, key_of
from docferry.core.mapping.table_layout import PLAIN, TableLayout
from docferry.errors import (
    DocumentError,
    RefusedByStore,
    RequestRefused,
    TableMissing,
)
from docferry.ports.flows import (
    Budget,
    Grave,
    Guard,
    ItemPart,
    Packed,
    PartsPage,
    SpentUnits,
    TargetPage,
    Unanswered,
    Written,
)
from docferry.testing.fakes.faults import Faults

NESTING_OF_ATTRIBUTES = 32


@dataclass
class FakeTarget:
    """DynamoDB's data plane in memory.

    Numbers come back in DynamoDB's spelling; items that it would refuse are refused (size, nesting, numbers, keys).
    `refuses` says which others are; `unprocessed` is the share of a batch that comes back to be sent again;
    `hang` keeps every request waiting until `resume`; `faults` makes requests raise. `requests` counts them by name.
    """

    tables: dict[str, dict[ItemKey, Item]] = field(default_factory=dict)
    refuses: Callable[[Item], bool] = lambda item: False
    unprocessed: float = 0.0
    page_items: int = 100
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    layouts: Mapping[str, TableLayout] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    spent: SpentUnits = field(default_factory=SpentUnits)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 - repeatable, not secret
        self._reads: Budget | None = None
        self._running = asyncio.Event()
        self._running.set()

    def limit_reads(self, budget: Budget) -> None:
        self._reads = budget

    async def _took(self, consumed: float) -> None:
        """So many read units."""
        if self._reads is not None:
            await self._reads.take(1.0)
            self._reads.settle(1.0, consumed)
        self.spent.read_units += consumed

    def create_table(self, name: str) -> None:
        self.tables.setdefault(name, {})

    def hang(self) -> None:
        """From now on no request is answered."""
        self._running.clear()

    def resume(self) -> None:
        """Answer again, those that wait included."""
        self._running.set()

    def pack(self, items: Sequence[Item], table: str = "") -> list[Packed]:
        layout = self.layouts.get(table, PLAIN)
        try:
            stored = [layout.stored(item) for item in items]
            packed = [
                Packed(key_of(item), json.dumps(one, ensure_ascii=False).encode())
                for item, one in zip(items, stored, strict=True)
            ]
            for item, one in zip(items, stored, strict=True):
                check_size(layout.cut(one)[0], item["SK"]["S"])
            return packed
        except (TypeError, UnicodeEncodeError) as error:
            raise RefusedByStore("cannot be written as JSON", path=items[0]["SK"]["S"]) from error

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        read = self.layouts.get(table, PLAIN).read
        return await self._put_all(table, [read(json.loads(item.json)) for item in items], budget, guard, unanswered)

    async def _put_all(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, unanswered: Unanswered | None
    ) -> Written:
        refused: dict[int, DocumentError] = {}
        left = list(range(len(items)))
        self._random.shuffle(left)
        units = 0.0
        while left:
            batch, left = left[:BATCH_ITEMS], left[BATCH_ITEMS:]
            await budget.take(estimate := sum(item_write_units(items[position]) for position in batch))
            guard()
            ticket = unanswered.sent(time.time_ns() // 1_000_000) if unanswered is not None else 0
            stored = await self._request("BatchWriteItem", table)
            for position in batch:
                if self._random.random() < self.unprocessed:
                    left.append(position)
                    estimate -= item_write_units(items[position])
                elif (error := self._reason(items[position])) is not None:
                    refused[position] = error
                else:
                    stored[key_of(items[position])] = _normalised(items[position])
            units += estimate
            self.spent.write_units += estimate
            budget.settle(estimate, estimate)
            self.faults.after()
            if unanswered is not None:
                unanswered.answered(ticket)
        return Written(refused, frozenset(), units)

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        layout = self.layouts.get(table, PLAIN)
        refused = _too_large(layout.cut(layout.fitted(item))[0] for item in items)
        superseded: set[int] = set()
        units = 0.0
        for position, item in enumerate(items):
            if position in refused:
                continue
            await budget.take(estimate := float(item_write_units(item)))
            guard()
            stored = await self._request("PutItem", table)
            error = self._reason(item)
            if error is not None:
                refused[position] = error
                continue
            if _is_newer(item, stored.get(key_of(item)), or_same):
                stored[key_of(item)] = _normalised(item)
            else:
                superseded.add(position)
                estimate = float(write_units(item_bytes(item)))  # indexes are not touched
            units += estimate
            self.spent.write_units += estimate
            self.faults.after()
        return Written(refused, frozenset(superseded), units)

    async def parts(self, table: str, segment: int, segments: int, start: Item | None) -> PartsPage:
        """It keeps items whole, and so has none."""
        return PartsPage([], 0, None)

    async def delete_parts(self, table: str, parts: Sequence[ItemPart], budget: Budget, guard: Guard) -> float:
        return 0.0

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        superseded: set[int] = set()
        for position, grave in enumerate(graves):
            await budget.take(1.0)
            guard()
            stored = await self._request("DeleteItem", table)
            there = stored.get(grave.key, {})
            if there.get("_deleted") == {"BOOL": True} and there.get("_v") == {"S": grave.version}:
                del stored[grave.key]
                budget.settle(1.0, 1.0)
            else:
                superseded.add(position)
            self.spent.write_units += 1.0
            self.faults.after()
        return Written({}, frozenset(superseded), float(len(graves)))

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        found: dict[ItemKey, Item] = {}
        for start in range(0, len(keys), BATCH_GET_KEYS):
            batch = keys[start : start + BATCH_GET_KEYS]
            stored = await self._request("BatchGetItem", table)
            if len(set(batch)) != len(batch):
                text = "BatchGetItem: the keys contain duplicates"
                raise RequestRefused(text, operation="BatchGetItem", code="ValidationException")
            found.update({key: _normalised(stored[key]) for key in batch if key in stored})
            await self._took(sum(_read_units([stored[key]] if key in stored else []) for key in batch))
        return found

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        stored = await self._request("Scan", table)
        keys = sorted((key for key in stored if _hash(key) % segments == segment), key=_scan_order)
        begin = 0 if start is None else bisect_left(keys, _scan_order(key_of(start)), key=_scan_order)
        begin += start is not None and begin < len(keys) and keys[begin] == key_of(start)
        page = keys[begin : begin + self.page_items]
        items = [_normalised(stored[key]) for key in page]
        await self._took(_read_units(items))
        if attributes:
            items = [{name: value for name, value in item.items() if name in attributes} for item in items]
        more = begin + len(page) < len(keys)
        return TargetPage(items, {"PK": {"S": page[-1][0]}, "SK": {"S": page[-1][1]}} if more else None)

    async def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        stored = await self._request("Query", table)
        keys = sorted((key for key in stored if key[0] == partition_key), key=lambda key: key[1].encode())
        await self._took(_read_units([stored[key] for key in keys]))
        for key in keys:
            yield _normalised(stored[key])

    async def close(self) -> None:
        """Nothing to give back."""

    async def _request(self, operation: str, table: str) -> dict[ItemKey, Item]:
        self.requests[operation] = self.requests.get(operation, 0) + 1
        await self._running.wait()
        self.faults.before()
        if table not in self.tables:
            raise TableMissing(f"{operation}: no table {table}", operation=operation, code="ResourceNotFoundException")
        return self.tables[table]

    def _reason(self, item: Item) -> DocumentError | None:
        path = item["SK"]["S"]
        if self.refuses(item):
            return RefusedByStore("the test refuses this item", path=path)
        if not item["PK"]["S"] or not (item["SK"]["S"] or self.layouts):
            return RefusedByStore("DynamoDB refused the item: an empty key", path=path)
        if not all(_is_valid(value, NESTING_OF_ATTRIBUTES) for value in item.values()):
            return RefusedByStore("DynamoDB refused the item: a number or the nesting", path=path)
        return None


def _read_units(items: Sequence[Item]) -> float:
    """Of one consistent read of all of them."""
    return max(1.0, -(-sum(map(item_bytes, items)) // READ_UNIT_BYTES))


def _too_large(items: Iterable[Item]) -> dict[int, DocumentError]:
    refused: dict[int, DocumentError] = {}
    for position, item in enumerate(items):
        try:
            check_size(item)
        except DocumentError as error:
            refused[position] = error
    return refused


def _is_newer(item: Item, stored: Item | None, or_same: bool) -> bool:
    if stored is None or "_v" not in stored:
        return True
    return bool(stored["_v"]["S"] < item["_v"]["S"] or (or_same and stored["_v"]["S"] == item["_v"]["S"]))


def _normalised(item: Item) -> Item:
    return {name: _normalised_value(value) for name, value in item.items()}


def _normalised_value(value: AttributeValue) -> AttributeValue:
    ((tag, content),) = value.items()
    if tag == "N":
        return {"N": plain_number(Decimal(content))}
    if tag == "M":
        return {"M": _normalised(content)}
    return {"L": [_normalised_value(inner) for inner in content]} if tag == "L" else {tag: content}


def _is_valid(value: AttributeValue, levels: int) -> bool:
    ((tag, content),) = value.items()
    if tag == "N":
        number = Decimal(content)
        digits = len("".join(map(str, number.as_tuple().digits)).strip("0"))
        return not number or (
            NUMBER_MIN_ADJUSTED <= number.adjusted() <= NUMBER_MAX_ADJUSTED and digits <= NUMBER_DIGITS
        )
    if tag in ("M", "L"):
        inner = content.values() if tag == "M" else content
        return levels > 1 and all(_is_valid(one, levels - 1) for one in inner)
    return True


def _hash(key: ItemKey) -> int:
    return zlib.crc32(key[0].encode())


def _scan_order(key: ItemKey) -> tuple[int, bytes, bytes]:
    return _hash(key), key[0].encode(), key[1].encode()
