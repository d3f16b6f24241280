"""Collections as the application sees them: pymongo's method names, synchronous and asynchronous.

Both are the same calls; here the synchronous ones are run, and the asynchronous ones awaited. What is not written out here
is MongoDB's alone (`core.access.calls`), and pymongo does it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from docferry.client.api.arguments import named_options
from docferry.client.api.cursors import AsyncCursor, Cursor, by_id, query_of
from docferry.client.api.listed import AsyncListedCursor, ListedCursor
from docferry.client.context import sort_of
from docferry.client.reads.aggregate import Aggregation, Aggregations
from docferry.client.reads.route import Queries, Query
from docferry.client.transport.sync_driver import run
from docferry.client.writes.delegated import DelegatedCalls, Later
from docferry.client.writes.route import CollectionCalls
from docferry.core.access.calls import COLLECTION_CALLS, CURSOR_CALLS, SERVED_CALLS, has_writing_stage
from docferry.core.access.index_calls import (
    INDEX_CALLS,
    LISTING_CALLS,
    PASSED_OVER,
    index_information,
    indexes_asked,
    needed,
)
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document

if TYPE_CHECKING:
    from docferry.client.api.manager import _Manager


class _Named:
    """What both kinds of collection are: the same name of the same manager is the same collection."""

    def __init__(
        self,
        manager: _Manager,
        name: str,
        calls: CollectionCalls,
        queries: Queries,
        aggregations: Aggregations,
        delegated: DelegatedCalls,
    ) -> None:
        self.database, self.name = manager, name
        self._known = manager.parts.mongo.name_of(name)
        self._calls, self.queries, self._aggregations, self._delegated = calls, queries, aggregations, delegated

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """For those who ask whether it is pymongo's collection, as gridfs does: it is used as one."""
        return self.database.parts.mongo.collection_class

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return issubclass(type(other), _Named) and (self.database, self.name) == (other.database, other.name)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.database, self.name))

    def __bool__(self) -> bool:
        raise NotImplementedError(
            "Collection objects do not implement truth value testing or bool(): compare with None instead"
        )

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"'{self.name}' is a collection here, and cannot be called: there is no such method")

    __iter__ = None  # else Python would take its collections 0, 1, 2, ... for its elements

    def __getitem__(self, name: str) -> Any:
        return self.database[f"{self.name}.{name}"]

    def __getattr__(self, name: str) -> Any:
        """The collection below this one. AttributeError for what is private, so that copying and inspecting work as usual;
        pymongo's own cursors ask how to read."""
        if name.startswith("_read"):
            return getattr(self.queries.raw, name)
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    @property
    def full_name(self) -> str:
        return f"{self.database.name}.{self.name}"

    @property
    def codec_options(self) -> Any:
        return self.database.codec_options

    @property
    def read_preference(self) -> Any:
        return self.queries.raw.read_preference

    @property
    def write_concern(self) -> Any:
        return self.queries.raw.write_concern

    @property
    def read_concern(self) -> Any:
        return self.queries.raw.read_concern

    def with_options(self, *arguments: Any, **options: Any) -> Any:
        return self.database.with_options(*arguments, **options)[self.name]

    def find_raw_batches(self, *arguments: Any, **options: Any) -> Any:
        about = COLLECTION_CALLS["find_raw_batches"]
        return self._delegated.lazily(self._known, "find_raw_batches", about, arguments, options)

    def _asked(self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        if method in INDEX_CALLS:
            return self._index(method, arguments, options)
        if method in LISTING_CALLS:
            return self._list_indexes(method, arguments, options)
        if method in SERVED_CALLS:
            called = self._calls.many.call(method, arguments, options)
            plain = not method.startswith("find_one_and_")
            return called if plain else self._if_acknowledged(called, options.get("session"))
        return self._delegated.collection(self._known, method, COLLECTION_CALLS[method], arguments, options)

    async def _if_acknowledged(self, call: Coroutine[Any, Any, Any], session: Any = None) -> Any:
        """What a write gives back: nothing under write concern 0, as in pymongo. Within a transaction the concern is that of its
        commit."""
        within = session is not None and session.in_transaction
        found = await call
        return found if within or self.write_concern.acknowledged else None

    async def _estimate(self, comment: Any = None, **options: Any) -> int:
        """Once DynamoDB leads, of a scan that the file allows: exact."""
        queries, query = self.queries, query_of(({},), {**options, "comment": comment})
        method = "estimated_document_count"
        call, about = queries.raw.estimated_document_count, SERVED_CALLS[method]

        later = Later(lambda state: queries.note(state, query, method), lambda _: queries.counted(query))
        given = options if comment is None else {**options, "comment": comment}
        return int(
            await self._delegated.run(self._known, method, about, call, (), given, later if queries.may_scan else None)
        )

    async def _index(self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """MongoDB's while it leads; afterwards passed over, where DynamoDB needs no such index or keeps what it keeps."""
        about, kept = COLLECTION_CALLS[method], self.queries.kept
        asked = indexes_asked(method, arguments, options)
        lacking = list(needed(asked, kept)) if asked and kept is not None else [about.instead]
        if lacking:
            about = replace(about, instead="; ".join(lacking))
            return await self._delegated.collection(self._known, method, about, arguments, options)

        async def passed_over(_: ModeState) -> Any:
            self.database.parts.metrics.count(PASSED_OVER, len(asked))
            names = [one.name for one in asked]
            return names if method == "create_indexes" else names[0]

        call, later = getattr(self.queries.raw, method), Later(lambda _: None, passed_over)
        return await self._delegated.run(self._known, method, about, call, arguments, options, later)

    async def _list_indexes(self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """MongoDB's while it leads; afterwards those that DynamoDB keeps."""
        about, kept, call = SERVED_CALLS[method], self.queries.kept, getattr(self.queries.raw, method)

        async def listed(_: ModeState) -> Any:
            assert kept is not None
            found = kept.listed()
            return index_information(found) if method == "index_information" else self._listed(found)

        later = Later(lambda _: None, listed) if kept is not None else None
        return await self._delegated.run(self._known, method, about, call, arguments, options, later)

    async def _aggregate(
        self, pipeline: Any, session: Any = None, let: Any = None, comment: Any = None, **options: Any
    ) -> Any:
        found, queries = self._aggregations, self.queries
        named = {"session": session, "let": let, "comment": comment, **options}
        given = {name: value for name, value in named.items() if value is not None}
        asked, raw = Aggregation(pipeline=pipeline, session=session, let=let, options=options), queries.raw.aggregate

        async def dynamodb(_: ModeState) -> Any:
            return self._listed(await found.documents(asked), session)

        if has_writing_stage(pipeline):
            later, about = Later(lambda state: found.note(state, asked), dynamodb), SERVED_CALLS["aggregate"]
            return await self._delegated.run(self._known, "aggregate", about, raw, (pipeline,), given, later)
        state = self._delegated.read(session)
        if state.leader.dynamodb_leads:
            return await dynamodb(state)
        if state.write_to_dynamodb or self.database.parts.strict:
            found.note(state, asked)
        return await queries.alone("aggregate", raw, pipeline, **given)

    async def _distinct(
        self, key: str, filter: Any = None, session: Any = None, comment: Any = None, hint: Any = None, **options: Any
    ) -> list[Any]:
        queries, named = self.queries, {**options, "session": session, "comment": comment, "hint": hint}
        given = {name: value for name, value in named.items() if value is not None}
        state = self._delegated.read(session)

        def query() -> Query:
            return query_of((filter if isinstance(filter, Mapping) else None,), given)

        if state.leader.dynamodb_leads:
            return await queries.distinct(key, query())
        if state.write_to_dynamodb or self.database.parts.strict:
            queries.note_by_shape(state, None if given else filter or {}, f"distinct {key}", query)
        found: list[Any] = await queries.alone("distinct", queries.raw.distinct, key, filter, **given)
        return found

    def _find_asked(self, method: str, call: Callable[..., Any], arguments: Sequence[Any]) -> Coroutine[Any, Any, Any]:
        about, key = CURSOR_CALLS[method], arguments[1:]
        return self._delegated.run(self._known, method, about, lambda *_, **__: call(*key), arguments, {})

    async def _distinct_found(self, key: str, found: Query, call: Callable[..., Any]) -> list[Any]:
        """Of what a cursor would find; in which order, and how much of it, does not matter, as in pymongo."""
        state, queries = self._delegated.read(found.session), self.queries
        query = Query(filter=found.filter or {}, options=found.options)
        if state.leader.dynamodb_leads:
            return await queries.distinct(key, query)
        queries.note(state, query, f"distinct {key}")
        values: list[Any] = await queries.alone("distinct", call, key)
        return values

    def _raw_find(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """pymongo's own cursor, which has read nothing yet."""
        if options.get("session") is not None:
            self._delegated.transactions.read(options["session"])
        return self.queries.raw.find(*arguments, **options)

    async def _find_one(self, filter: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Document | None:
        queries = self.queries
        if options.get("session") is not None:
            self._delegated.transactions.read(options["session"])
        if queries.is_mongodbs():
            found: Document | None = await queries.alone(
                "find_one", queries.raw.find_one, filter, *arguments, **options
            )
            return found
        if arguments or options:
            queries.raw.find(by_id(filter), *arguments, **options)  # pymongo's own checks
        query = query_of((by_id(filter), *arguments), {**options, "limit": 1})
        answer = await queries.first(query, partial(queries.one, filter, arguments, options), "find_one")
        return answer.first if answer.all is None else next(iter(answer.all), None)

    async def _count(self, filter: Any, session: Any, comment: Any, options: Mapping[str, Any]) -> int:
        queries, call = self.queries, self.queries.raw.count_documents
        if session is not None:
            self._delegated.transactions.read(session)
        if queries.is_mongodbs():
            return int(await queries.alone("count_documents", call, filter, session, comment, **options))
        query = query_of((filter,), {**options, "session": session, "comment": comment})
        return await queries.count(query, partial(call, filter, session, comment, **options))


class Collection(_Named):
    """One collection, for a synchronous application. Methods are pymongo's."""

    _listed = ListedCursor

    def aggregate(self, pipeline: Any, *more: Any, **options: Any) -> Any:
        return run(self._aggregate(pipeline, *more, **options))

    def distinct(self, key: str, *more: Any, **options: Any) -> list[Any]:
        return run(self._distinct(key, *more, **options))

    def estimated_document_count(self, comment: Any = None, **options: Any) -> int:
        return run(self._estimate(comment, **options))

    def delegate_find(self, method: str, call: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        return run(self._find_asked(method, call, arguments))

    def distinct_found(self, key: str, found: Query, call: Callable[..., Any]) -> list[Any]:
        return run(self._distinct_found(key, found, call))

    def insert_one(self, document: Document, *more: Any, **options: Any) -> Any:
        return run(self._calls.insert_one(document, **named_options("insert_one", more, options)))

    def insert_many(self, documents: Iterable[Document], ordered: bool = True, *more: Any, **options: Any) -> Any:
        return run(self._calls.insert_many(documents, ordered, **named_options("insert_many", more, options)))

    def find_one(self, filter: Any = None, *arguments: Any, **options: Any) -> Document | None:
        return run(self._find_one(filter, arguments, options))

    def find(self, *arguments: Any, **options: Any) -> Cursor:
        raw = self._raw_find(arguments, options)
        return Cursor(self, query_of(arguments, options), raw)

    def count_documents(
        self, filter: Mapping[str, Any], session: Any = None, comment: Any = None, **options: Any
    ) -> int:
        return run(self._count(filter, session, comment, options))

    def update_one(self, filter: Any, update: Any, upsert: bool = False, *more: Any, **options: Any) -> Any:
        return run(self._calls.update_one(filter, update, upsert, **named_options("update_one", more, options)))

    def replace_one(self, filter: Any, replacement: Any, upsert: bool = False, *more: Any, **options: Any) -> Any:
        return run(self._calls.replace_one(filter, replacement, upsert, **named_options("replace_one", more, options)))

    def find_one_and_update(
        self, filter: Any, update: Any, projection: Any = None, sort: Any = None, *more: Any, **options: Any
    ) -> Any:
        named = named_options("find_one_and_update", more, options)
        call = self._calls.find_one_and_update(filter, update, projection=projection, sort=_pairs(sort), **named)
        return run(self._if_acknowledged(call, named.get("session")))

    def delete_one(self, filter: Any, *more: Any, **options: Any) -> Any:
        return run(self._calls.delete_one(filter, **named_options("delete_one", more, options)))


class AsyncCollection(_Named):
    """One collection, for an asynchronous application. Methods are pymongo's."""

    _listed = AsyncListedCursor

    async def aggregate(self, pipeline: Any, *more: Any, **options: Any) -> Any:
        return await self._aggregate(pipeline, *more, **options)

    async def distinct(self, key: str, *more: Any, **options: Any) -> list[Any]:
        return await self._distinct(key, *more, **options)

    async def estimated_document_count(self, comment: Any = None, **options: Any) -> int:
        return await self._estimate(comment, **options)

    def delegate_find(self, method: str, call: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        return self._find_asked(method, call, arguments)

    def distinct_found(self, key: str, found: Query, call: Callable[..., Any]) -> Coroutine[Any, Any, list[Any]]:
        return self._distinct_found(key, found, call)

    async def insert_one(self, document: Document, *more: Any, **options: Any) -> Any:
        return await self._calls.insert_one(document, **named_options("insert_one", more, options))

    async def insert_many(self, documents: Iterable[Document], ordered: bool = True, *more: Any, **options: Any) -> Any:
        return await self._calls.insert_many(documents, ordered, **named_options("insert_many", more, options))

    async def find_one(self, filter: Any = None, *arguments: Any, **options: Any) -> Document | None:
        return await self._find_one(filter, arguments, options)

    def find(self, *arguments: Any, **options: Any) -> AsyncCursor:
        raw = self._raw_find(arguments, options)
        return AsyncCursor(self, query_of(arguments, options), raw)

    async def count_documents(
        self, filter: Mapping[str, Any], session: Any = None, comment: Any = None, **options: Any
    ) -> int:
        return await self._count(filter, session, comment, options)

    async def update_one(self, filter: Any, update: Any, upsert: bool = False, *more: Any, **options: Any) -> Any:
        return await self._calls.update_one(filter, update, upsert, **named_options("update_one", more, options))

    async def replace_one(self, filter: Any, replacement: Any, upsert: bool = False, *more: Any, **options: Any) -> Any:
        return await self._calls.replace_one(filter, replacement, upsert, **named_options("replace_one", more, options))

    async def find_one_and_update(
        self, filter: Any, update: Any, projection: Any = None, sort: Any = None, *more: Any, **options: Any
    ) -> Any:
        named = named_options("find_one_and_update", more, options)
        call = self._calls.find_one_and_update(filter, update, projection=projection, sort=_pairs(sort), **named)
        return await self._if_acknowledged(call, named.get("session"))

    async def delete_one(self, filter: Any, *more: Any, **options: Any) -> Any:
        return await self._calls.delete_one(filter, **named_options("delete_one", more, options))


def _answered(method: str) -> Callable[..., Any]:
    """A method of a blocking collection that is not written out."""

    def call(self: Collection, *arguments: Any, **options: Any) -> Any:
        return run(self._asked(method, arguments, options))

    return call


def _awaited(method: str) -> Callable[..., Any]:
    """A method of an asynchronous collection that is not written out."""

    def call(self: AsyncCollection, *arguments: Any, **options: Any) -> Any:
        return self._asked(method, arguments, options)

    return call


for _kind, _calling in ((Collection, _answered), (AsyncCollection, _awaited)):
    for _method in (*SERVED_CALLS, *COLLECTION_CALLS):
        if _method not in vars(_kind) and _method not in vars(_Named):
            _call = _calling(_method)
            _call.__name__, _call.__qualname__ = _method, f"{_kind.__name__}.{_method}"
            setattr(_kind, _method, _call)


def _pairs(sort: Any) -> Any:
    return list(sort_of(sort)) if sort else None
