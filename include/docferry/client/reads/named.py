"""The access patterns of the migration file, asked of DynamoDB by name. Written once, for both kinds of application.

What an index names is read from the table, and checked against the question: an index lags, a document does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from docferry.client.context import DYNAMODB, ClientContext, timed
from docferry.client.items.reader import DocumentReader, StoredDocument
from docferry.client.items.scan import affordable
from docferry.client.reads.entries import PatternEntries
from docferry.client.transport.metered import MeasuredCalls
from docferry.client.transport.spending import spending
from docferry.core.access.page_tokens import decode_token, encode_token, question_id
from docferry.core.access.parameters import typed
from docferry.core.access.patterns import Pattern, PatternQuery, compile_pattern
from docferry.core.access.read_plan import nested
from docferry.core.mapping.items import Document, ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.filters import Filter, compile_filter
from docferry.errors import CallRefused, DocumentError


class Ended(StrEnum):
    """Why a scan ended where it did."""

    END = "end"  # the table has been read to its end
    LIMIT = "limit"  # as many documents were found as were asked for
    CAPACITY = "capacity"  # the read units were used up


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Documents, and the token to go on from, which may lead to nothing more; None: these are the last."""

    documents: list[Document] = field(repr=False)
    next: str | None = None


P = TypeVar("P", bound=Page)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPage(Page):
    """`read_units` is what DynamoDB says that this page has cost."""

    ended: Ended
    read_units: float


class NamedReads:
    """The reads of one client. `cached`: they may be a moment old."""

    def __init__(self, parts: ClientContext, *, cached: bool = False) -> None:
        self._parts, self._cached = parts, cached
        self._calls = (parts.cached or parts.calls) if cached else parts.calls
        self._settings = {one.name: one for one in parts.patterns}
        self._compiled: dict[str, Pattern] = {}

    def __repr__(self) -> str:
        return f"NamedReads({', '.join(self._settings)})"

    # --- what there is -----------------------------------------------------------------------------------------------

    def pattern(self, name: str) -> Pattern:
        """Raises CallRefused, naming the patterns there are."""
        found = self._compiled.get(name)
        if found is None:
            if name not in self._settings:
                known = ", ".join(sorted(self._settings)) or "none"
                raise CallRefused(what=f"the file has no access pattern {name}", suggestion=f"there are {known}")
            settings = self._settings[name]
            found = self._compiled[name] = compile_pattern(self.mapping(settings.collection), settings)
        return found

    def mapping(self, collection: str) -> DocumentMapping:
        """Raises CallRefused, naming the collections there are."""
        found = self._parts.mapping(collection)
        if found is None:
            known = ", ".join(sorted(self._parts.mappings))
            raise CallRefused(what=f"the file has no collection {collection}", suggestion=f"there are {known}")
        return found

    def one(self, name: str, method: str, parameters: Mapping[str, Any]) -> tuple[Pattern, PatternQuery]:
        """A pattern that leads to one document. Raises CallRefused."""
        pattern = self.pattern(name)
        if not pattern.names_one:
            raise CallRefused(what=f"{method} by {name}, which leads to many documents", suggestion="use query")
        return pattern, pattern.bind(self._parts.border.to_internal(parameters))

    def _reader(self, mapping: DocumentMapping) -> DocumentReader:
        return DocumentReader(mapping, self._calls, consistent=not self._cached)

    def _spending(self, method: str, name: str) -> spending:
        return spending(self._parts.membership.tally, lambda way: f"DynamoDBClient.{method}({name})")

    # --- one, some, many ---------------------------------------------------------------------------------------------

    async def get(self, name: str, parameters: Mapping[str, Any]) -> Document | None:
        self._parts.membership.join()
        pattern, asked = self.one(name, "get", parameters)
        with self._spending("get", name), timed(self._parts.metrics, DYNAMODB, "get"):
            if not asked.index:
                reader = self._reader(pattern.mapping)
                found = reader.document(await reader.place(asked.key)) if asked.key else None
            else:
                page = await self._page(pattern, asked, backwards=False, limit=1, start=None)
                found = page.documents[0] if page.documents else None
        return self._parts.border.to_application(found)

    async def query(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        since: Any = None,
        until: Any = None,
        backwards: bool = False,
        limit: int | None = None,
        start: str | None = None,
    ) -> Page:
        self._parts.membership.join()
        _at_least_one("limit", limit)
        pattern = self.pattern(name)
        asked = pattern.bind(self._parts.border.to_internal(parameters), since, until)
        with self._spending("query", name), timed(self._parts.metrics, DYNAMODB, "query"):
            if asked.key is not None:
                reader = self._reader(pattern.mapping)
                document = reader.document(await reader.place(asked.key))
                page = Page(documents=[document] if document is not None else [])
            else:
                page = await self._page(pattern, asked, backwards=backwards, limit=limit, start=start)
        return self._given(page)

    async def batch_get(self, collection: str, keys: Sequence[Any]) -> list[Document | None]:
        self._parts.membership.join()
        mapping = self.mapping(collection)
        border = self._parts.border
        wanted = [_root_key(mapping, border.to_internal(key)) for key in keys]
        reader = self._reader(mapping)
        with self._spending("batch_get", collection), timed(self._parts.metrics, DYNAMODB, "batch_get"):
            places = await reader.places([key for key in dict.fromkeys(wanted) if key is not None])
        found = {place.key: place for place in places}
        return [border.to_application(reader.document(found[key])) if key is not None else None for key in wanted]

    async def scan(
        self,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        limit: int,
        max_read_units: float,
        start: str | None = None,
    ) -> ScanPage:
        self._parts.membership.join()
        _at_least_one("limit", limit)
        if not max_read_units > 0:
            raise CallRefused(what=f"a scan for {max_read_units} read units", suggestion="allow it more than none")
        with self._spending("scan", collection), timed(self._parts.metrics, DYNAMODB, "scan"):
            asked = self._parts.border.to_internal(filter or {})
            scan = _Scan(self._parts, self.mapping(collection), asked, not self._cached)
            page = await scan.page(limit, max_read_units, start)
        return self._given(page)

    def _given(self, page: P) -> P:
        """A page to the application."""
        border = self._parts.border
        return page if border.open else replace(page, documents=[border.to_application(one) for one in page.documents])

    async def where(self, pattern: Pattern, asked: PatternQuery) -> ItemKey | None:
        """The root key of the document that an index names: of the first that is as it is asked for."""
        reader, matches = self._parts.reader(pattern.mapping), filter_of(pattern, asked).matches
        async for entries in self._entries(pattern, asked).pages(None, None):
            for entry in entries:
                document = reader.document(await reader.place(entry.root))
                if document is not None and matches(document):
                    return entry.root
        return None

    # --- lists -------------------------------------------------------------------------------------------------------

    async def _page(
        self, pattern: Pattern, asked: PatternQuery, *, backwards: bool, limit: int | None, start: str | None
    ) -> Page:
        question = question_id(pattern.name, asked.partition, asked.low, asked.high, backwards)
        listed = self._entries(pattern, asked, backwards=backwards)
        place = decode_token(start, question, listed.place_texts) if start is not None else None
        reader, matches = self._reader(pattern.mapping), filter_of(pattern, asked).matches
        documents: list[Document] = []
        seen: set[ItemKey] = set()
        async for entries in listed.pages(limit, place):
            fresh = [one for one in dict.fromkeys(entry.root for entry in entries) if one not in seen]
            seen.update(fresh)
            found = {one.key: reader.document(one) for one in await reader.places(fresh)}
            for entry in entries:
                document = found.pop(entry.root, None)
                if document is None or not matches(document):
                    continue
                documents.append(document)
                if len(documents) == limit:
                    return Page(documents=documents, next=None if entry.last else encode_token(question, entry.place))
        return Page(documents=documents)

    def _entries(self, pattern: Pattern, asked: PatternQuery, *, backwards: bool = False) -> PatternEntries:
        return PatternEntries(self._calls, pattern, asked, backwards=backwards, consistent=not self._cached)


def filter_of(pattern: Pattern, asked: PatternQuery) -> Filter:
    """What a document must meet to be what a pattern asks for."""
    return compile_filter(asked.query, ordered=pattern.mapping.keeps_order)


class _Scan:
    """One page of a scan: all of a table's items pass by, and those of other collections cost as much."""

    FIRST_ITEMS = 25

    def __init__(
        self, parts: ClientContext, mapping: DocumentMapping, filter: Mapping[str, Any], consistent: bool
    ) -> None:
        self._mapping, self._consistent = mapping, consistent
        self._matches = compile_filter(filter, ordered=mapping.keeps_order).matches
        self._calls = MeasuredCalls(parts.calls)
        self._reader = DocumentReader(mapping, self._calls, consistent=consistent)
        self._question = question_id("scan", mapping.collection)
        self._items = 0

    async def page(self, limit: int, max_read_units: float, start: str | None) -> ScanPage:
        place = decode_token(start, self._question, 2) if start is not None else None
        documents: list[Document] = []
        layout = self._mapping.layout
        moved = False  # a page never ends where it began: the next page always goes further
        while True:
            reply = await self._calls.call("Scan", self._request(max_read_units, place))
            self._items += reply["ScannedCount"]
            for item in reply["Items"]:
                if moved and self._calls.read_units >= max_read_units:
                    return self._ended(documents, Ended.CAPACITY, place)
                found: StoredDocument = await self._reader.whole(layout.read(item))
                document = self._reader.document(found)
                place, moved = list(layout.key_of(item)), True
                if document is not None and self._matches(document):
                    documents.append(document)
                if len(documents) == limit:
                    return self._ended(documents, Ended.LIMIT, place)
            if "LastEvaluatedKey" not in reply:
                return self._ended(documents, Ended.END, None)
            place, moved = list(layout.key_of(reply["LastEvaluatedKey"])), True
            if self._calls.read_units >= max_read_units:
                return self._ended(documents, Ended.CAPACITY, place)

    def _ended(self, documents: list[Document], ended: Ended, place: Sequence[str] | None) -> ScanPage:
        token = encode_token(self._question, place) if place is not None else None
        return ScanPage(documents=documents, next=token, ended=ended, read_units=self._calls.read_units)

    def _request(self, max_read_units: float, place: Sequence[str] | None) -> dict[str, Any]:
        """For as many items as what is left will pay for, by what they have cost so far."""
        items = affordable(max_read_units, self._calls.read_units, self._items, self.FIRST_ITEMS)
        request: dict[str, Any] = {
            "TableName": self._mapping.table,
            "ConsistentRead": self._consistent,
            "FilterExpression": "entityType = :e",
            "ExpressionAttributeValues": {":e": {"S": self._mapping.root.entity}},
            "Limit": items,
        }
        if place is not None:
            request["ExclusiveStartKey"] = self._mapping.layout.wire_key((place[0], place[1]))
        return request


def _root_key(mapping: DocumentMapping, key: Any) -> ItemKey | None:
    """The table key by its fields, or by the value of the only one; None: no document has such a key."""
    fields = sorted(mapping.root.pk.fields | mapping.root.sk.fields)
    given = key if isinstance(key, Mapping) else {fields[0]: key} if len(fields) == 1 else {}
    if sorted(given) != fields:
        raise CallRefused(
            what=f"a key of {mapping.collection} has the fields {', '.join(fields)}",
            suggestion="give each key as {field: value}, or as the value if it has one field",
        )
    try:
        return mapping.root_key(nested({path: typed(mapping.root, path, value) for path, value in given.items()}))
    except DocumentError:
        return None


def _at_least_one(name: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise CallRefused(what=f"{name}={number}", suggestion=f"let {name} be 1 or more, or leave it out")
