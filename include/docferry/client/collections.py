"""Collections and cursors as the application sees them: pymongo's method names, synchronous and asynchronous.

Both are the same calls; here the synchronous ones are run, and the asynchronous ones awaited.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from docferry.client.calls import Calls
from docferry.client.parts import Sort
from docferry.client.queries import Queries, Query
from docferry.client.running import run
from docferry.core.mapping import Document
from docferry.errors import CallRefused

_REFUSED = {
    "bulk_write": "write the documents one by one, or with insert_many",
    "aggregate": "query by an access pattern, and compute in the application",
    "distinct": "query by an access pattern, and compute in the application",
    "watch": "DynamoDB Streams, or docferry's replication",
    "find_one_and_replace": "replace_one, then find_one",
    "find_one_and_delete": "find_one, then delete_one",
}


def sort_of(key: str | Sequence[tuple[str, int]] | Mapping[str, int], direction: int | None = None) -> Sort:
    """A sort as pymongo takes it."""
    if isinstance(key, str):
        return ((key, direction or 1),)
    pairs = key.items() if isinstance(key, Mapping) else key
    return tuple((str(name), int(way)) for name, way in pairs)


def query_of(
    filter: Mapping[str, Any] | None,
    projection: Any,
    sort: Any,
    skip: int,
    limit: int,
    options: dict[str, Any],
) -> Query:
    """Raises CallRefused for a session."""
    if options.pop("session", None) is not None:
        raise CallRefused(
            what="sessions and multi-document transactions are not supported by this client", suggestion="leave it out"
        )
    return Query(
        filter=filter or {},
        projection=projection,
        sort=sort_of(sort) if sort else (),
        skip=skip,
        limit=abs(limit),
        options=options,
    )


def by_id(filter: Any) -> Mapping[str, Any] | None:
    """pymongo takes a bare id for a filter in find_one."""
    return filter if filter is None or isinstance(filter, Mapping) else {"_id": filter}


class _Cursor:
    """What was asked, until the first document is."""

    def __init__(self, queries: Queries, query: Query) -> None:
        self._queries, self._query = queries, query
        self._documents: AsyncIterator[Document] | None = None

    def _change(self, **changes: Any) -> None:
        if self._documents is not None:
            raise CallRefused(what="a cursor cannot be changed once it is read", suggestion="sort and limit it first")
        self._query = replace(self._query, **changes)

    def _open(self) -> AsyncIterator[Document]:
        self._documents = self._documents or self._queries.find(self._query)
        return self._documents

    async def _read(self, length: int | None) -> list[Document]:
        """The next `length` documents, or all that are left."""
        if length is not None and length < 1:
            raise ValueError("to_list() length must be greater than 0")
        found: list[Document] = []
        async for document in self._open():
            found.append(document)
            if len(found) == length:
                break
        return found


class Cursor(_Cursor):
    """The documents of a query, one after the other."""

    def sort(self, key: str | Sequence[tuple[str, int]], direction: int | None = None) -> Cursor:
        self._change(sort=sort_of(key, direction))
        return self

    def limit(self, limit: int) -> Cursor:
        self._change(limit=abs(limit))
        return self

    def skip(self, skip: int) -> Cursor:
        self._change(skip=skip)
        return self

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        try:
            return run(self._open().__anext__())  # type: ignore[arg-type]
        except StopAsyncIteration:
            raise StopIteration from None

    def to_list(self, length: int | None = None) -> list[Document]:
        return run(self._read(length))

    def close(self) -> None:
        self._documents = self._documents or _nothing()


class AsyncCursor(_Cursor):
    """The documents of a query, one after the other."""

    def sort(self, key: str | Sequence[tuple[str, int]], direction: int | None = None) -> AsyncCursor:
        self._change(sort=sort_of(key, direction))
        return self

    def limit(self, limit: int) -> AsyncCursor:
        self._change(limit=abs(limit))
        return self

    def skip(self, skip: int) -> AsyncCursor:
        self._change(skip=skip)
        return self

    def __aiter__(self) -> AsyncIterator[Document]:
        return self

    async def __anext__(self) -> Document:
        return await self._open().__anext__()

    async def to_list(self, length: int | None = None) -> list[Document]:
        return await self._read(length)

    async def close(self) -> None:
        self._documents = self._documents or _nothing()


async def _nothing() -> AsyncIterator[Document]:
    return
    yield {}


class Collection:
    """One collection, for a synchronous application. Methods are pymongo's; what is not supported is refused by name."""

    def __init__(self, name: str, calls: Calls, queries: Queries) -> None:
        self.name, self._calls, self._queries = name, calls, queries

    def __repr__(self) -> str:
        return f"Collection({self.name!r})"

    def insert_one(self, document: Document, **options: Any) -> Any:
        return run(self._calls.insert_one(document, **options))

    def insert_many(self, documents: Iterable[Document], ordered: bool = True, **options: Any) -> Any:
        return run(self._calls.insert_many(documents, ordered, **options))

    def find_one(
        self, filter: Any = None, projection: Any = None, *, sort: Any = None, skip: int = 0, **options: Any
    ) -> Document | None:
        return run(self._queries.find_one(query_of(by_id(filter), projection, sort, skip, 1, options)))

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Any = None,
        skip: int = 0,
        limit: int = 0,
        *,
        sort: Any = None,
        **options: Any,
    ) -> Cursor:
        return Cursor(self._queries, query_of(filter, projection, sort, skip, limit, options))

    def count_documents(self, filter: Mapping[str, Any], *, skip: int = 0, limit: int = 0, **options: Any) -> int:
        return run(self._queries.count(query_of(filter, None, None, skip, limit, options)))

    def update_one(
        self, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        return run(self._calls.update_one(filter, update, upsert, **options))

    def replace_one(
        self, filter: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        return run(self._calls.replace_one(filter, replacement, upsert, **options))

    def find_one_and_update(self, filter: Mapping[str, Any], update: Mapping[str, Any], **options: Any) -> Any:
        return run(self._calls.find_one_and_update(filter, update, **_sorted(options)))

    def delete_one(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return run(self._calls.delete_one(filter, **options))

    def update_many(self, filter: Mapping[str, Any], update: Any, upsert: bool = False, **options: Any) -> Any:
        return run(self._calls.mongo_only("update_many", filter, update, upsert=upsert, **options))

    def delete_many(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return run(self._calls.mongo_only("delete_many", filter, **options))

    def __getattr__(self, name: str) -> Any:
        raise _refusal(self.name, name)


class AsyncCollection:
    """One collection, for an asynchronous application. Methods are pymongo's; what is not supported is refused by name."""

    def __init__(self, name: str, calls: Calls, queries: Queries) -> None:
        self.name, self._calls, self._queries = name, calls, queries

    def __repr__(self) -> str:
        return f"AsyncCollection({self.name!r})"

    async def insert_one(self, document: Document, **options: Any) -> Any:
        return await self._calls.insert_one(document, **options)

    async def insert_many(self, documents: Iterable[Document], ordered: bool = True, **options: Any) -> Any:
        return await self._calls.insert_many(documents, ordered, **options)

    async def find_one(
        self, filter: Any = None, projection: Any = None, *, sort: Any = None, skip: int = 0, **options: Any
    ) -> Document | None:
        return await self._queries.find_one(query_of(by_id(filter), projection, sort, skip, 1, options))

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Any = None,
        skip: int = 0,
        limit: int = 0,
        *,
        sort: Any = None,
        **options: Any,
    ) -> AsyncCursor:
        return AsyncCursor(self._queries, query_of(filter, projection, sort, skip, limit, options))

    async def count_documents(self, filter: Mapping[str, Any], *, skip: int = 0, limit: int = 0, **options: Any) -> int:
        return await self._queries.count(query_of(filter, None, None, skip, limit, options))

    async def update_one(
        self, filter: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        return await self._calls.update_one(filter, update, upsert, **options)

    async def replace_one(
        self, filter: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool = False, **options: Any
    ) -> Any:
        return await self._calls.replace_one(filter, replacement, upsert, **options)

    async def find_one_and_update(self, filter: Mapping[str, Any], update: Mapping[str, Any], **options: Any) -> Any:
        return await self._calls.find_one_and_update(filter, update, **_sorted(options))

    async def delete_one(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return await self._calls.delete_one(filter, **options)

    async def update_many(self, filter: Mapping[str, Any], update: Any, upsert: bool = False, **options: Any) -> Any:
        return await self._calls.mongo_only("update_many", filter, update, upsert=upsert, **options)

    async def delete_many(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return await self._calls.mongo_only("delete_many", filter, **options)

    def __getattr__(self, name: str) -> Any:
        raise _refusal(self.name, name)


def _sorted(options: dict[str, Any]) -> dict[str, Any]:
    sort = options.pop("sort", None)
    return options | {"sort": list(sort_of(sort)) if sort else None}


def _refusal(collection: str, name: str) -> Exception:
    """AttributeError for what pymongo has not either, so that copying and inspecting work as usual."""
    if name in _REFUSED:
        return CallRefused(what=f"{collection}.{name} is not supported by this client", suggestion=_REFUSED[name])
    return AttributeError(name)
