"""Cursors as the application sees them, and the query that a call of pymongo's asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from docferry.client.context import Sort
from docferry.client.reads.route import Queries, Query
from docferry.client.transport.sync_driver import run
from docferry.core.mapping.items import Document
from docferry.errors import CallRefused

_CURSORS_REFUSED = {
    "distinct": "compute in the application",
    **dict.fromkeys(
        ("explain", "where", "min", "max", "add_option", "remove_option"), "a filter, or an access pattern"
    ),
    **dict.fromkeys(("collection", "address", "cursor_id", "session", "retrieved"), "a pymongo client of your own"),
}


def sort_of(key: str | Sequence[str | tuple[str, int]] | Mapping[str, int], direction: int | None = None) -> Sort:
    """A sort as pymongo takes it."""
    if isinstance(key, str):
        return ((key, direction or 1),)
    pairs = key.items() if isinstance(key, Mapping) else key
    return tuple((one, 1) if isinstance(one, str) else (str(one[0]), int(one[1])) for one in pairs)


def query_of(
    filter: Mapping[str, Any] | None,
    projection: Any,
    sort: Any,
    skip: int,
    limit: int,
    options: dict[str, Any],
) -> Query:
    """Raises CallRefused for a session; TypeError and ValueError as pymongo does."""
    if options.pop("session", None) is not None:
        raise CallRefused(
            what="sessions and multi-document transactions are not supported by this client", suggestion="leave it out"
        )
    if filter is not None and not isinstance(filter, Mapping):
        raise TypeError(f"filter must be a mapping, not {type(filter).__name__}")
    return Query(
        filter=filter or {},
        projection=projection,
        sort=sort_of(sort) if sort else (),
        skip=_skip(skip),
        limit=_limit(limit),
        options=options,
    )


def _skip(skip: int) -> int:
    if not isinstance(skip, int):
        raise TypeError(f"skip must be an instance of int, not {type(skip).__name__}")
    if skip < 0:
        raise ValueError("skip must be >= 0")
    return skip


def _limit(limit: int) -> int:
    if not isinstance(limit, int):
        raise TypeError(f"limit must be an instance of int, not {type(limit).__name__}")
    return abs(limit)


def by_id(filter: Any) -> Mapping[str, Any] | None:
    """pymongo takes a bare id for a filter in find_one."""
    return filter if filter is None or isinstance(filter, Mapping) else {"_id": filter}


C = TypeVar("C", bound="_Cursor")


def _option(name: str) -> Callable[[C, Any], C]:
    """A method that says to MongoDB how to work. What DynamoDB cannot do of it is refused once the query is its own."""

    def set_option(self: C, value: Any) -> C:
        return self._change(options={**self._query.options, name: value})

    set_option.__name__ = name
    return set_option


class _Cursor:
    """What was asked, until the first document is."""

    def __init__(self, queries: Queries, query: Query) -> None:
        self._queries, self._query = queries, query
        self._documents: AsyncGenerator[Document] | None = None
        self._over = False

    def _change(self, **changes: Any) -> Self:
        if self._documents is not None:
            raise CallRefused(what="a cursor cannot be changed once it is read", suggestion="sort and limit it first")
        self._query = replace(self._query, **changes)
        return self

    def sort(self, key: str | Sequence[str | tuple[str, int]], direction: int | None = None) -> Self:
        return self._change(sort=sort_of(key, direction))

    def limit(self, limit: int) -> Self:
        return self._change(limit=_limit(limit))

    def skip(self, skip: int) -> Self:
        return self._change(skip=_skip(skip))

    batch_size = _option("batch_size")
    hint = _option("hint")
    max_time_ms = _option("max_time_ms")
    comment = _option("comment")
    allow_disk_use = _option("allow_disk_use")
    collation = _option("collation")

    def clone(self) -> Self:
        """The same question, not asked yet."""
        return type(self)(self._queries, self._query)

    def rewind(self) -> Self:
        """The question is asked anew."""
        self._documents, self._over = None, False
        return self

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return not self._over

    def __getattr__(self, name: str) -> Any:
        if name in _CURSORS_REFUSED:
            raise CallRefused(
                what=f"a cursor's {name} is not supported by this client", suggestion=_CURSORS_REFUSED[name]
            )
        raise AttributeError(name)

    def _open(self) -> AsyncGenerator[Document]:
        self._documents = self._documents or self._queries.find(self._query)
        return self._documents

    async def _next(self) -> Document:
        """Raises StopAsyncIteration at the end."""
        if not self._over:
            try:
                return await self._open().__anext__()
            except StopAsyncIteration:
                self._over = True
        raise StopAsyncIteration

    async def _read(self, length: int | None) -> list[Document]:
        """The next `length` documents, or all that are left."""
        if length is not None and length < 1:
            raise ValueError("to_list() length must be greater than 0")
        found: list[Document] = []
        while length is None or len(found) < length:
            try:
                found.append(await self._next())
            except StopAsyncIteration:
                break
        return found

    async def _close(self) -> None:
        """MongoDB's cursor, too."""
        self._over = True
        if self._documents is not None:
            await self._documents.aclose()


class Cursor(_Cursor):
    """The documents of a query, one after the other."""

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        try:
            return run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None

    next = __next__

    def __getitem__(self, index: int | slice) -> Any:
        """One document, or the cursor with the slice as its skip and limit."""
        if isinstance(index, slice):
            start, stop = index.start or 0, index.stop
            if index.step is not None or start < 0 or (stop is not None and stop <= start):
                raise IndexError("a cursor's slice goes forward, without a step, and is not empty")
            return self._change(skip=start, limit=0 if stop is None else stop - start)
        for document in self.clone().skip(self._query.skip + index).limit(1):
            return document
        raise IndexError("no such item for Cursor instance")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def to_list(self, length: int | None = None) -> list[Document]:
        return run(self._read(length))

    def close(self) -> None:
        run(self._close())


class AsyncCursor(_Cursor):
    """The documents of a query, one after the other."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        return await self._next()

    next = __anext__

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def to_list(self, length: int | None = None) -> list[Document]:
        return await self._read(length)

    async def close(self) -> None:
        await self._close()
