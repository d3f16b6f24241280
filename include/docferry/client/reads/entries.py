"""The items that an access pattern leads to, in its order: of one partition, or of all partitions of a sharded key at once.

The partitions of a sharded key are read side by side, and merged by the sort key; among equal ones the lower shard comes first.
So a place in such a list is an item and its shard. Behind it comes of that shard what follows the item, of higher shards what has
its sort key or a later one, of lower shards what has a later one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from docferry.client.items.reader import INDEX_PAGE
from docferry.core.access.conditions import key_condition
from docferry.core.access.patterns import Pattern, PatternQuery
from docferry.core.mapping.items import KIND, Item, ItemKey, key_of
from docferry.ports.client import DynamoCalls


@dataclass(frozen=True, slots=True)
class ListEntry:
    """Where a list stands: an item that a pattern leads to, by its keys as ExclusiveStartKey takes them, and its shard.

    `last`: nothing comes behind it.
    """

    root: ItemKey
    place: tuple[str, ...]
    last: bool = False


class PatternEntries:
    """Of one question. `consistent` is for what the table itself holds: an index lags."""

    def __init__(
        self, calls: DynamoCalls, pattern: Pattern, asked: PatternQuery, *, backwards: bool, consistent: bool
    ) -> None:
        self._calls, self._pattern, self._asked = calls, pattern, asked
        self._backwards, self._consistent = backwards, consistent
        self._layout = pattern.mapping.layout
        self._sort_key = f"{asked.index}SK"

    @property
    def place_texts(self) -> int:
        """Of how many texts a place is."""
        return 2 + bool(self._asked.index) + bool(self._asked.others)

    async def pages(self, limit: int | None, place: Sequence[str] | None) -> AsyncIterator[list[ListEntry]]:
        """A page at a time. `limit`: so many are enough, and one more that tells whether there is more."""
        if self._asked.partition is None:
            return
        at_once = min(INDEX_PAGE, limit + 1 if limit else INDEX_PAGE)
        pages = self._merged(at_once, place) if self._asked.others else self._partition(self._asked, at_once, place)
        async for page in pages:
            yield page

    # --- one partition -----------------------------------------------------------------------------------------------

    async def _partition(
        self, asked: PatternQuery, at_once: int, place: Sequence[str] | None, shard: tuple[str, ...] = ()
    ) -> AsyncIterator[list[ListEntry]]:
        request = self._request(asked) | {"Limit": at_once}
        if place is not None:
            assert asked.partition is not None
            keys = {"PK": place[0], "SK": place[1]}
            keys |= {f"{asked.index}PK": asked.partition, self._sort_key: place[2]} if asked.index else {}
            request["ExclusiveStartKey"] = self._layout.stored({name: {"S": text} for name, text in keys.items()})
        entity = {"S": self._pattern.plan.entity}
        while True:
            reply = await self._calls.call("Query", request)
            items = map(self._layout.read, reply["Items"])
            ours = [item for item in items if not self._told or item.get(KIND) == entity]
            ended = "LastEvaluatedKey" not in reply
            yield [
                ListEntry(
                    self._pattern.root_key(key_of(item)), (*self._place_of(item), *shard), ended and item is ours[-1]
                )
                for item in ours
            ]
            if ended:
                return
            request["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    @property
    def _told(self) -> bool:
        """Whether the index says what an item is."""
        return self._asked.index not in self._pattern.mapping.settings.without_kind

    def _place_of(self, item: Item) -> tuple[str, ...]:
        return (*key_of(item), item[self._sort_key]["S"]) if self._asked.index else key_of(item)

    def _request(self, asked: PatternQuery) -> dict[str, Any]:
        """Of each item its keys, and what it is, where the index says so."""
        assert asked.partition is not None
        own = [f"{asked.index}PK", self._sort_key] if asked.index else []
        wanted = ["PK", "SK", *own, *([KIND] if self._told else ())]
        found = [name for one in wanted if (name := self._layout.name_of(one)) is not None]
        names = {f"#n{place}": name for place, name in enumerate(found)}
        condition = key_condition(self._layout, asked.partition, asked)
        request: dict[str, Any] = {
            "TableName": self._pattern.mapping.table,
            "ProjectionExpression": ", ".join(names),
            "ScanIndexForward": not self._backwards,
            **condition,
            "ExpressionAttributeNames": {**condition["ExpressionAttributeNames"], **names},
        }
        return request | ({"IndexName": asked.index} if asked.index else {"ConsistentRead": self._consistent})

    # --- all shards --------------------------------------------------------------------------------------------------

    async def _merged(self, at_once: int, place: Sequence[str] | None) -> AsyncIterator[list[ListEntry]]:
        assert self._asked.partition is not None
        partitions = (self._asked.partition, *self._asked.others)
        open_ones = [_Shard(self._shard(number, one, at_once, place)) for number, one in enumerate(partitions)]
        page: list[ListEntry] = []
        choose = max if self._backwards else min
        open_ones = [one for one in open_ones if await one.next()]
        while open_ones:
            first = choose(open_ones, key=lambda one: self._order(one.head))  # of equal ones that of the lowest shard
            entry = first.head
            if not await first.next():
                open_ones.remove(first)
            page.append(replace(entry, last=not open_ones))
            if len(page) == at_once:
                yield page
                page = []
        yield page

    async def _shard(
        self, number: int, partition: str, at_once: int, place: Sequence[str] | None
    ) -> AsyncIterator[list[ListEntry]]:
        """What comes behind `place` in one shard."""
        asked, shard = replace(self._asked, partition=partition), (str(number),)
        if place is None or int(place[3]) == number:
            async for page in self._partition(asked, at_once, place, shard):
                yield page
            return
        behind_it = number > int(place[3])
        if not behind_it and self._layout.name_of(self._sort_key) is None:
            return  # without a sort key all of it came before
        edge = self._layout.order(self._sort_key, place[2])
        asked = replace(asked, high=place[2]) if self._backwards else replace(asked, low=place[2])
        async for page in self._partition(asked, at_once, None, shard):
            yield [one for one in page if behind_it or self._order(one) != edge]

    def _order(self, entry: ListEntry) -> Any:
        return self._layout.order(self._sort_key, entry.place[2])


class _Shard:
    """One shard's entries, one by one."""

    head: ListEntry

    def __init__(self, pages: AsyncIterator[list[ListEntry]]) -> None:
        self._pages = pages
        self._page: list[ListEntry] = []
        self._at = 0

    async def next(self) -> bool:
        """Whether there is one more, which is `head` then."""
        while self._at == len(self._page):
            page = await anext(self._pages, None)
            if page is None:
                return False
            self._page, self._at = page, 0
        self.head = self._page[self._at]
        self._at += 1
        return True
