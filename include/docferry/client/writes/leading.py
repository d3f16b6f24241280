"""Writes of one collection while DynamoDB leads: read, change, write if no other process has written in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from bson.objectid import ObjectId

from docferry.client.context import ClientContext, Plan, Sort, now
from docferry.client.items.reader import StoredDocument
from docferry.core.access.calls import unmapped
from docferry.core.backoff import Backoff
from docferry.core.compare.diff import compare_values
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document, ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.expressions import variables_of
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.projection import sort_documents
from docferry.core.mql.updates import Changed, Updating, check_insert
from docferry.errors import ConditionFailed, KeyTaken, RetryExhausted, Unavailable, UpdateRefused

T = TypeVar("T")

BACKOFF = Backoff(for_s=10.0, first_s=0.01, cap_s=0.25)
"""Of a write that another process is quicker to write each time."""

Change = Callable[[Document], Changed]


@dataclass(frozen=True, slots=True)
class LeadingChange:
    """What a write did. `before` None: nothing matched; `after` None: nothing is there now, `before` itself: nothing changed.

    `modified`: MongoDB would count it, which it does of some that leave everything as it was, too.
    """

    before: Document | None = field(repr=False)
    after: Document | None = field(repr=False)
    modified: bool


async def until_taken(
    parts: ClientContext, name: str, attempt: Callable[[], Awaitable[T]], backoff: Backoff = BACKOFF
) -> T:
    """Read, change, write, and once more if another process has written in between. `name` is what is written to.

    Many processes that change one document must not meet again and again: each waits for a random time (full jitter).

    Raises: what pymongo raises for a taken key and for a refused update; Unavailable.
    """
    attempts = backoff.attempts(name)
    while True:
        try:
            return await attempt()
        except ConditionFailed as error:
            parts.metrics.count("lock.missed")
            try:
                wait_s = attempts.failed(error)
            except RetryExhausted as last:
                what = f"the document was changed by others {last.attempts} times in a row, for {last.elapsed_s:.0f} s"
                raise Unavailable(f"{name}: {what}", operation="write") from error
            await parts.calls.sleep(wait_s)
        except KeyTaken as error:
            raise parts.mongo.duplicate_key(error) from error
        except UpdateRefused as error:
            raise parts.mongo.write_error(error.code, str(error)) from error


def is_change(mapping: DocumentMapping, before: Document, after: Document) -> bool:
    """Whether there is anything to write."""
    return any(compare_values(before, after, "", ordered=mapping.keeps_order))


def _changed(mapping: DocumentMapping, before: Document, change: Change | None) -> LeadingChange:
    """What is to be done with a document that was found."""
    if change is None:
        return LeadingChange(before, None, modified=True)
    made = change(before)
    if is_change(mapping, before, made.document):
        return LeadingChange(before, made.document, modified=True)
    return LeadingChange(before, before, modified=made.counted)


def updating(
    query: Mapping[str, Any], update: Mapping[str, Any], options: Mapping[str, Any], *, ordered: bool = False
) -> Updating:
    """An update as of now; `ordered`: of a collection that keeps the order of fields.

    Raises: CallRefused, for a query that DynamoDB does not answer.
    """
    at, let, filters = now(), options.get("let"), options.get("array_filters")
    known = compile_filter(query, variables_of(let, now=at), ordered=ordered)
    return Updating(query=known, update=update, now=at, array_filters=filters, let=let, ordered=ordered)


class LeadingWrites:
    """Writes of one collection to DynamoDB alone. Raises what pymongo would, where MongoDB would have refused."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._parts, self._name = parts, name
        self._mapping = parts.mapping(name)

    def __repr__(self) -> str:
        return f"LeadingWrites({self._name!r})"

    def _require_mapping(self) -> DocumentMapping:
        if self._mapping is None:
            raise unmapped(self._name)
        return self._mapping

    @property
    def keeps_order(self) -> bool:
        return self._mapping is not None and self._mapping.keeps_order

    def require_storable(self, document: Document) -> None:
        """Raises DocumentError for what DynamoDB cannot hold; CallRefused."""
        self._parts.putter(self._require_mapping()).items(document, 0)

    async def insert(self, state: ModeState, document: Document) -> None:
        """`document` has an `_id`, and BSON's types."""
        mapping = self._require_mapping()
        reader, putter = self._parts.reader(mapping), self._parts.putter(mapping)

        async def attempt() -> None:
            stored = check_insert(document)
            place = await reader.place(putter.root_key(stored))
            if place.live:
                raise KeyTaken(self._name, mapping.key_values(stored))
            await putter.replace(place, stored, state.floor)

        await until_taken(self._parts, self._name, attempt)

    async def change(
        self,
        state: ModeState,
        query: Mapping[str, Any],
        change: Change | None,
        otherwise: Callable[[], Document] | None,
        sort: Sort = (),
        known: Mapping[str, Any] | None = None,
    ) -> LeadingChange:
        """Change the first document that matches (`change` None removes it), or insert what `otherwise` makes.

        `known` are the variables of the query.
        """
        mapping = self._require_mapping()
        plan = self._parts.plan(mapping, query, sort, known)
        putter = self._parts.putter(mapping)

        async def attempt() -> LeadingChange:
            found, before = await self._first(mapping, plan, sort)
            if found is None or before is None:
                if otherwise is None:
                    return LeadingChange(None, None, modified=False)
                made = otherwise()
                made.setdefault("_id", ObjectId())
                await self.insert(state, made)
                return LeadingChange(None, made, modified=False)
            done = _changed(mapping, before, change)
            if done.after is not before:
                await putter.replace(found, done.after, state.floor)
            return done

        return await until_taken(self._parts, self._name, attempt)

    async def change_and_give(
        self,
        state: ModeState,
        query: Mapping[str, Any],
        change: Change | None,
        otherwise: Callable[[], Document] | None,
        sort: Sort = (),
        known: Mapping[str, Any] | None = None,
    ) -> LeadingChange:
        """As `change`, for calls that give back a document: of these pymongo raises MongoDB's refusals as those of a command."""
        try:
            return await self.change(state, query, change, otherwise, sort, known)
        except Exception as error:
            told = self._parts.mongo.of_command(error)
            if told is error:
                raise
            raise told from error

    async def insert_made(self, state: ModeState, make: Callable[[], Document]) -> Document:
        """Insert what `make` makes. Raises as `insert`."""
        try:
            made = make()
        except UpdateRefused as error:
            raise self._parts.mongo.write_error(error.code, str(error)) from error
        made.setdefault("_id", ObjectId())
        await self.insert(state, made)
        return made

    def require_plan(self, query: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> Plan:
        """How the documents are found. Raises: CallRefused."""
        return self._parts.plan(self._require_mapping(), query, (), known)

    async def change_all(
        self, state: ModeState, query: Mapping[str, Any], change: Change | None, known: Mapping[str, Any] | None = None
    ) -> tuple[int, int]:
        """Change all documents that match (`change` None removes them), each by itself: how many matched, how many were changed.

        Raises as `change`, with a note of how many were changed before.
        """
        mapping, plan = self._require_mapping(), self.require_plan(query, known)
        reader = self._parts.reader(mapping)
        keys: dict[ItemKey, None] = {}
        async for found in reader.find(plan.where):
            document = reader.document(found)
            if document is not None and plan.filter.matches(document):
                keys[found.key] = None
        matched = modified = 0
        for key in keys:
            try:
                done = await until_taken(self._parts, self._name, partial(self._change_at, state, key, plan, change))
            except Exception as error:
                error.add_note(f"{self._name}: {modified} document(s) of {len(keys)} had been changed")
                raise
            matched += done.before is not None
            modified += done.modified
        return matched, modified

    async def _change_at(self, state: ModeState, key: ItemKey, plan: Plan, change: Change | None) -> LeadingChange:
        """The document under one key, if it still matches."""
        mapping = self._require_mapping()
        reader = self._parts.reader(mapping)
        found = await reader.place(key)
        before = reader.document(found)
        if before is None or not plan.filter.matches(before):
            return LeadingChange(None, None, modified=False)
        done = _changed(mapping, before, change)
        if done.after is not before:
            await self._parts.putter(mapping).replace(found, done.after, state.floor)
        return done

    async def _first(
        self, mapping: DocumentMapping, plan: Plan, sort: Sort
    ) -> tuple[StoredDocument | None, Document | None]:
        reader = self._parts.reader(mapping)
        matching: list[tuple[StoredDocument, Document]] = []
        async for found in reader.find(plan.where):
            document = reader.document(found)
            if document is not None and plan.filter.matches(document):
                matching.append((found, document))
                if not sort:
                    break
        if not matching:
            return None, None
        first = sort_documents([document for _, document in matching], sort)[0] if sort else matching[0][1]
        return next((found, document) for found, document in matching if document is first)
