"""Collections as the application sees them: pymongo's method names, synchronous and asynchronous.

Both are the same calls; here the synchronous ones are run, and the asynchronous ones awaited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from docferry.client.api.cursors import AsyncCursor, Cursor, by_id, query_of, sort_of
from docferry.client.reads.route import Queries
from docferry.client.transport.sync_driver import run
from docferry.client.writes.route import CollectionCalls
from docferry.core.mapping.items import Document
from docferry.errors import CallRefused

_REFUSED = {
    "bulk_write": "write the documents one by one, or with insert_many",
    "aggregate": "query by an access pattern, and compute in the application",
    "aggregate_raw_batches": "query by an access pattern, and compute in the application",
    "distinct": "query by an access pattern, and compute in the application",
    "watch": "DynamoDB Streams",
    "find_one_and_replace": "replace_one, then find_one",
    "find_one_and_delete": "find_one, then delete_one",
    "find_raw_batches": "find",
    "with_options": "give codec_options to docferry.connect",
    "create_indexes": "create_index, or a pymongo client of your own",
    **dict.fromkeys(
        ("drop", "rename", "drop_index", "drop_indexes", "list_indexes", "options", "database", "full_name",
         "codec_options", "read_preference", "read_concern", "write_concern"),
        "a pymongo client of your own",
    ),
}  # fmt: skip
_UNSERVED = "a pymongo client of your own, as long as MongoDB is there"


class _Named:
    """What both kinds of collection are: the same name of the same manager is the same collection."""

    def __init__(self, name: str, calls: CollectionCalls, queries: Queries) -> None:
        self.name, self._calls, self._queries = name, calls, queries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self._calls is other._calls

    def __hash__(self) -> int:
        return hash(id(self._calls))

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"'{self.name}' is a collection here, and cannot be called: there is no such method")

    def __getattr__(self, name: str) -> Any:
        """AttributeError for what pymongo has not either, so that copying and inspecting work as usual."""
        if name in _REFUSED:
            raise CallRefused(what=f"{self.name}.{name} is not supported by this client", suggestion=_REFUSED[name])
        raise AttributeError(name)


class Collection(_Named):
    """One collection, for a synchronous application. Methods are pymongo's; what is not supported is refused by name."""

    def insert_one(self, document: Document, **options: Any) -> Any:
        return run(self._calls.insert_one(document, **options))

    def insert_many(self, documents: Iterable[Document], ordered: bool = True, **options: Any) -> Any:
        return run(self._calls.insert_many(documents, ordered, **options))

    def find_one(
        self, filter: Any = None, projection: Any = None, skip: int = 0, *, sort: Any = None, **options: Any
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

    def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        projection: Any = None,
        sort: Any = None,
        **options: Any,
    ) -> Any:
        return run(self._calls.find_one_and_update(filter, update, projection=projection, sort=_pairs(sort), **options))

    def delete_one(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return run(self._calls.delete_one(filter, **options))

    def update_many(self, filter: Mapping[str, Any], update: Any, upsert: bool = False, **options: Any) -> Any:
        return run(self._calls.mongo_only("update_many", filter, update, upsert=upsert, **options))

    def delete_many(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return run(self._calls.mongo_only("delete_many", filter, **options))

    def create_index(self, keys: Any, **options: Any) -> Any:
        return run(self._calls.mongo_only("create_index", keys, instead=_UNSERVED, **options))

    def index_information(self, **options: Any) -> Any:
        return run(self._queries.mongo_only("index_information", **options))

    def estimated_document_count(self, **options: Any) -> Any:
        return run(self._queries.mongo_only("estimated_document_count", **options))


class AsyncCollection(_Named):
    """One collection, for an asynchronous application. Methods are pymongo's; what is not supported is refused by name."""

    async def insert_one(self, document: Document, **options: Any) -> Any:
        return await self._calls.insert_one(document, **options)

    async def insert_many(self, documents: Iterable[Document], ordered: bool = True, **options: Any) -> Any:
        return await self._calls.insert_many(documents, ordered, **options)

    async def find_one(
        self, filter: Any = None, projection: Any = None, skip: int = 0, *, sort: Any = None, **options: Any
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

    async def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Mapping[str, Any],
        projection: Any = None,
        sort: Any = None,
        **options: Any,
    ) -> Any:
        return await self._calls.find_one_and_update(
            filter, update, projection=projection, sort=_pairs(sort), **options
        )

    async def delete_one(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return await self._calls.delete_one(filter, **options)

    async def update_many(self, filter: Mapping[str, Any], update: Any, upsert: bool = False, **options: Any) -> Any:
        return await self._calls.mongo_only("update_many", filter, update, upsert=upsert, **options)

    async def delete_many(self, filter: Mapping[str, Any], **options: Any) -> Any:
        return await self._calls.mongo_only("delete_many", filter, **options)

    async def create_index(self, keys: Any, **options: Any) -> Any:
        return await self._calls.mongo_only("create_index", keys, instead=_UNSERVED, **options)

    async def index_information(self, **options: Any) -> Any:
        return await self._queries.mongo_only("index_information", **options)

    async def estimated_document_count(self, **options: Any) -> Any:
        return await self._queries.mongo_only("estimated_document_count", **options)


def _pairs(sort: Any) -> list[tuple[str, int]] | None:
    return list(sort_of(sort)) if sort else None
