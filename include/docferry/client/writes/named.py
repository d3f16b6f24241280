"""Writes by the access patterns of the migration file, while DynamoDB leads. Written once, for both kinds of application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson.objectid import ObjectId

from docferry.client.context import DYNAMODB, ClientContext, timed
from docferry.client.items.putter import PreparedItems, Putter, requests_of
from docferry.client.items.reader import DocumentReader, StoredDocument
from docferry.client.reads.named import NamedReads, filter_of
from docferry.client.ticket import Writing
from docferry.client.transport.spending import spending
from docferry.client.writes.leading import Change, is_change, until_taken
from docferry.core.access.patterns import Pattern, PatternQuery
from docferry.core.bson_codec.order import same
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.filters import Filter, compile_filter
from docferry.core.mql.updates import Updating, check_insert
from docferry.errors import CallRefused, DocumentNotFound, InstanceStruck, KeyTaken, NotAsExpected

T = TypeVar("T")
Query = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A document as it shall be: a new one, or in place of the one with its key and its `_id`."""

    collection: str
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of the document that a pattern names, by MongoDB's update operators, if it is as `expect` says."""

    pattern: str
    change: Mapping[str, Any] = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    expect: Query | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """The document that a pattern names is to go, if it is as `expect` says."""

    pattern: str
    parameters: Mapping[str, Any] = field(repr=False)
    expect: Query | None = field(default=None, repr=False)


Write = Put | Update | Delete


@dataclass(frozen=True, slots=True)
class _Step:
    """One document of a transaction as it is found now, and as it shall be."""

    mapping: DocumentMapping
    before: StoredDocument
    after: Document | None = field(repr=False)
    changes: bool = True


class NamedWrites:
    """The writes of one client."""

    def __init__(self, parts: ClientContext, reads: NamedReads) -> None:
        self._parts, self._reads = parts, reads

    def __repr__(self) -> str:
        return f"NamedWrites({self._reads!r})"

    async def update(
        self, name: str, change: Mapping[str, Any], parameters: Mapping[str, Any], expect: Query | None
    ) -> Document:
        write = Update(pattern=name, change=change, parameters=parameters, expect=expect)
        (step,) = await self._carry_out("update", [write])
        assert step.after is not None
        return self._parts.border.to_application(step.after)

    async def transact(self, writes: Sequence[Write]) -> None:
        if not writes:
            raise CallRefused(what="a transaction of nothing", suggestion="name what it shall write")
        await self._carry_out("transact", writes)

    async def _carry_out(self, method: str, writes: Sequence[Write]) -> list[_Step]:
        plans = [self._plan(method, one, datetime.now(UTC)) for one in writes]

        async def attempt(state: ModeState) -> list[_Step]:
            steps = [await plan() for plan in plans]
            await self._commit(steps, state.floor)
            return steps

        name = " and ".join(sorted({_named(one) for one in writes}))
        with spending(self._parts.membership.tally, lambda way: f"DynamoDBClient.{method}({name})"):
            return await self._while_it_leads(
                method, lambda state: until_taken(self._parts, name, lambda: attempt(state))
            )

    async def _while_it_leads(self, method: str, write: Callable[[ModeState], Awaitable[T]]) -> T:
        """Raises CallRefused while MongoDB leads; WritesHeld, LeaderUnknown as `Membership.begin` does."""
        members = self._parts.membership
        while True:
            begun = await members.begin(self._parts.calls)
            with (
                Writing(begun, members.ended) as state,
                suppress(InstanceStruck),
            ):  # nothing was written: once more as another
                if not state.mode.dynamodb_leads:
                    raise CallRefused(
                        what=f"DynamoDBClient.{method} in {state}: MongoDB leads",
                        suggestion="write through DualWriteManager, which writes where the mode says",
                    )
                with timed(self._parts.metrics, DYNAMODB, method):
                    return await write(state)

    async def _commit(self, steps: Sequence[_Step], floor: int) -> None:
        """All or none. In a transaction, what changes nothing is written, too: it must still be as it was found."""
        prepared: list[PreparedItems] = []
        putter: Putter | None = None
        for step in steps:
            if step.changes or len(steps) > 1:
                putter = self._parts.putter(step.mapping)
                prepared.append(await putter.prepare(step.before, step.after, floor))
        keys = [(put["TableName"], key) for one in prepared for put, key in zip(one.puts, one.keys, strict=True)]
        if len(set(keys)) < len(keys):
            raise CallRefused(what="a transaction that writes a document twice", suggestion="put both into one change")
        if putter is None:
            return
        if (number := len(requests_of(prepared))) > putter.most_items:
            raise CallRefused(
                what=f"these documents change {number} items, and a transaction takes {putter.most_items}",
                suggestion="split them where they need not appear together",
            )
        await putter.commit(prepared)

    # --- what a write asks for ---------------------------------------------------------------------------------------

    def _plan(self, method: str, write: Write, now: datetime) -> Callable[[], Awaitable[_Step]]:
        """How to find what it changes: asked anew at every attempt. Raises CallRefused."""
        border = self._parts.border
        if isinstance(write, Put):
            mapping, document = self._reads.mapping(write.collection), write.document
            document.setdefault("_id", ObjectId())
            stored = border.stored(document)
            return lambda: self._put(mapping, check_insert(stored))
        pattern, asked = self._reads.one(write.pattern, method, write.parameters)
        ordered = pattern.mapping.keeps_order
        expected = compile_filter(border.to_internal(write.expect), ordered=ordered) if write.expect else None
        if isinstance(write, Delete):
            return lambda: self._change(pattern, asked, expected, None)
        change = border.to_internal(write.change)
        moment = now.replace(tzinfo=None, microsecond=now.microsecond // 1000 * 1000)
        by = Updating(query=filter_of(pattern, asked), update=change, now=moment, ordered=ordered)
        return lambda: self._change(pattern, asked, expected, by.apply)

    async def _put(self, mapping: DocumentMapping, document: Document) -> _Step:
        reader = self._parts.reader(mapping)
        place = await reader.place(mapping.root_key(document))
        there = reader.document(place)
        if there is not None and not same(there["_id"], document["_id"]):
            raise KeyTaken(mapping.collection, mapping.key_values(document))
        return _Step(mapping, place, document)

    async def _change(
        self,
        pattern: Pattern,
        asked: PatternQuery,
        expected: Filter | None,
        change: Change | None,
    ) -> _Step:
        mapping, reader = pattern.mapping, self._parts.reader(pattern.mapping)
        place, before = await self._find(pattern, asked, reader)
        if place is None or before is None:
            raise DocumentNotFound(
                f"{pattern.name}: no document of {mapping.collection} has this key; nothing was written"
            )
        if expected is not None and not expected.matches(before):
            raise NotAsExpected(f"{pattern.name}: the document is not as the write expects it; nothing was written")
        after = change(before).document if change is not None else None
        return _Step(mapping, place, after, after is None or is_change(mapping, before, after))

    async def _find(
        self, pattern: Pattern, asked: PatternQuery, reader: DocumentReader
    ) -> tuple[StoredDocument | None, Document | None]:
        """The document now, from the table: an index only says where."""
        key = await self._reads.where(pattern, asked) if asked.index else asked.key
        if key is None:
            return None, None
        place = await reader.place(key)
        document = reader.document(place)
        matches = document is not None and filter_of(pattern, asked).matches(document)
        return (place, document) if matches else (None, None)


def _named(write: Write) -> str:
    return write.collection if isinstance(write, Put) else write.pattern
