"""Cursors as the application sees them, and the query that a call of pymongo's asks.

Each has a cursor of pymongo's own beside the query: that checks what it is given, and answers where MongoDB does. Where
DynamoDB does, it is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from docferry.client.context import sort_of
from docferry.client.reads.route import Queries, Query
from docferry.client.transport.sync_driver import run
from docferry.core.mapping.items import Document

FIND = (
    "filter", "projection", "skip", "limit", "no_cursor_timeout", "cursor_type", "sort", "allow_partial_results", "oplog_replay",
    "batch_size", "collation", "hint", "max_scan", "max_time_ms", "max", "min", "return_key", "show_record_id", "snapshot",
    "comment", "session", "allow_disk_use", "let",
)  # fmt: skip
"""The parameters of pymongo's find, in their order."""
_OURS = frozenset({"filter", "projection", "skip", "limit", "sort"})


class Searched(Protocol):
    """The collection whose cursors these are."""

    queries: Queries

    def distinct_found(self, key: str, found: Query, call: Callable[..., Any]) -> Any:
        """Each value at a path of what is found; `call` is pymongo's."""

    def delegate_find(self, method: str, call: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """What a cursor does in MongoDB alone."""


def query_of(arguments: Sequence[Any], options: Mapping[str, Any]) -> Query:
    """Of a find that pymongo has taken."""
    asked = {**dict(zip(FIND, arguments, strict=False)), **options}
    found = asked.get("filter")
    return Query(
        filter=found or {},
        projection=asked.get("projection"),
        sort=sort_of(asked["sort"]) if asked.get("sort") else (),
        skip=asked.get("skip", 0),
        limit=abs(asked.get("limit", 0)),
        options={name: value for name, value in asked.items() if name not in _OURS and value},
    )


def by_id(filter: Any) -> Any:
    """pymongo takes a bare id for a filter in find_one."""
    return filter if filter is None or isinstance(filter, Mapping) else {"_id": filter}


C = TypeVar("C", bound="_Cursor")


def _option(name: str) -> Callable[..., Any]:
    """A method that says to MongoDB how to work, or what to find: pymongo's own. Where DynamoDB cannot do it, it is refused once
    DynamoDB answers."""

    def set_option(self: C, *arguments: Any, **options: Any) -> C:
        getattr(self._raw, name)(*arguments, **options)
        (value,) = arguments or options.values()
        return self._change(options={**self._query.options, name: value})

    set_option.__name__ = name
    return set_option


class _Cursor:
    """What was asked, until the first document is."""

    def __init__(self, of: Searched, query: Query, raw: Any) -> None:
        self._of, self._query, self._raw = of, query, raw
        self._read = False
        self._first: Any = None
        self._listed: list[Document] | None = None
        """What DynamoDB answered, last document first; None: MongoDB answers."""

    def _change(self, **changes: Any) -> Self:
        if self._read:
            raise self._of.queries.closed()
        self._query = replace(self._query, **changes)
        return self

    def sort(self, key: Any, direction: Any = None) -> Self:
        self._raw.sort(key, direction)
        return self._change(sort=sort_of(key, direction))

    def limit(self, limit: int) -> Self:
        self._raw.limit(limit)
        return self._change(limit=abs(limit))

    def skip(self, skip: int) -> Self:
        self._raw.skip(skip)
        return self._change(skip=skip)

    batch_size = _option("batch_size")
    hint = _option("hint")
    max_time_ms = _option("max_time_ms")
    max_await_time_ms = _option("max_await_time_ms")
    max_scan = _option("max_scan")
    comment = _option("comment")
    allow_disk_use = _option("allow_disk_use")
    collation = _option("collation")
    where = _option("where")
    min = _option("min")
    max = _option("max")
    remove_option = _option("remove_option")

    def clone(self) -> Self:
        """The same question, not asked yet."""
        return type(self)(self._of, self._query, self._raw.clone())

    __copy__ = clone

    def __deepcopy__(self, memo: Any) -> Self:
        return self.clone()

    def _again(self) -> Self:
        self._read, self._first, self._listed = False, None, None
        return self

    @property
    def alive(self) -> bool:
        """Whether there may be more documents."""
        return bool(self._listed) if self._listed is not None else self._first is not None or self._raw.alive

    @property
    def collection(self) -> Any:
        return self._of

    @property
    def retrieved(self) -> int:
        """As many as pymongo has got of MongoDB."""
        return int(self._raw.retrieved)

    @property
    def cursor_id(self) -> Any:
        return self._raw.cursor_id

    @property
    def address(self) -> Any:
        return self._raw.address

    @property
    def session(self) -> Any:
        return self._raw.session

    def distinct(self, key: str) -> Any:
        return self._of.distinct_found(key, self._query, self._raw.distinct)

    def explain(self) -> Any:
        return self._of.delegate_find("explain", self._raw.explain, (self._query.filter,))

    def _fetch(self) -> Coroutine[Any, Any, Any]:
        """MongoDB's next document; None at the end."""
        return self._of.queries.fetch(self._raw)

    async def _open(self) -> None:
        """Ask, once."""
        self._read = True
        found = await self._of.queries.first(self._query, self._fetch)
        if found.all is not None:
            self._listed = found.all[::-1]
        else:
            self._first = found.first

    async def _next(self) -> Document:
        """Raises StopAsyncIteration at the end."""
        if not self._read:
            await self._open()
        if self._listed is not None:
            if self._listed:
                return self._listed.pop()
            raise StopAsyncIteration
        document, self._first = self._first, None
        if document is None:
            document = await self._fetch()
        if document is None:
            raise StopAsyncIteration
        found: Document = document
        return found

    async def _read_all(self, length: int | None) -> list[Document]:
        """The next `length` documents, or all that are left."""
        if length is not None and length < 1:
            raise ValueError("to_list() length must be greater than 0")
        if not self._read:
            if self._of.queries.is_mongodbs():
                self._read = True
                everything: list[Document] = await self._of.queries.alone("find", self._raw.to_list, length)
                return everything
            await self._open()
        if self._listed is not None:
            return [self._listed.pop() for _ in range(min(len(self._listed), length or len(self._listed)))]
        found = [self._first] if self._first is not None else []
        self._first = None
        if length is None or len(found) < length:
            found += await self._of.queries.rest(self._raw, None if length is None else length - len(found))
        return found


class Cursor(_Cursor):
    """The documents of a query, one after the other."""

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        if self._read and self._listed is None and self._first is None:
            found: Document = next(self._raw)
            return found
        try:
            return run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None

    next = __next__

    def __getitem__(self, index: int | slice) -> Any:
        """One document, or the cursor with the slice as its skip and limit."""
        if self._read:
            raise self._of.queries.closed()
        if isinstance(index, slice):
            self._raw[index]
            start, stop = index.start or 0, index.stop
            if stop is not None and stop == start:
                self._read, self._listed = True, []
                return self
            return self._change(skip=start, limit=0 if stop is None else stop - start)
        if not isinstance(index, int) or index < 0:
            self._raw[index]  # pymongo says why not
        for document in self.clone().skip(self._query.skip + index).limit(-1):
            return document
        raise IndexError("no such item for Cursor instance")

    def rewind(self) -> Self:
        """The question is asked anew."""
        self._raw.rewind()
        return self._again()

    def add_option(self, mask: int) -> Self:
        self._raw.add_option(mask)
        return self._change(options={**self._query.options, "add_option": mask})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def to_list(self, length: int | None = None) -> list[Document]:
        return run(self._read_all(length))

    def close(self) -> None:
        """MongoDB's cursor, too."""
        self._listed = [] if self._listed is not None else None
        self._raw.close()


class AsyncCursor(_Cursor):
    """The documents of a query, one after the other."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        return await self._next()

    next = __anext__

    def __getitem__(self, index: int | slice) -> Any:
        raise IndexError("AsyncCursor does not support indexing")

    async def rewind(self) -> Self:
        """The question is asked anew."""
        await self._raw.rewind()
        return self._again()

    async def add_option(self, mask: int) -> Self:
        await self._raw.add_option(mask)
        return self._change(options={**self._query.options, "add_option": mask})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def to_list(self, length: int | None = None) -> list[Document]:
        return await self._read_all(length)

    async def close(self) -> None:
        """MongoDB's cursor, too."""
        self._listed = [] if self._listed is not None else None
        await self._raw.close()
