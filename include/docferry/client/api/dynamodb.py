"""DynamoDB as the migration file's access patterns show it: `DynamoDBClient` and `AsyncDynamoDBClient`.

    dynamodb = DynamoDBClient(docferry.connect("shop.yaml"))
    dynamodb.get("user_by_email", email="ann@example.com")
    newest = dynamodb.query("orders_of_user", userId=ann["_id"], backwards=True, limit=20).documents
    dynamodb.update("order_with_items", {"$set": {"status": "paid"}}, expect={"status": "pending"}, orderId=newest[0]["_id"])

Reads ask DynamoDB in every mode, and see what replication has brought so far while MongoDB leads. Writes are refused until
DynamoDB leads. A parameter that bears the name of an argument (`limit`, ...) is given in `named`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docferry.client.api.manager import AsyncDualWriteManager, DualWriteManager, _Manager
from docferry.client.reads.named import NamedReads, Page, ScanPage
from docferry.client.transport.sync_driver import run
from docferry.client.writes.named import NamedWrites, Write
from docferry.core.mapping.items import Document

Named = Mapping[str, Any] | None


class _Client:
    def __init__(self, db: _Manager, *, cached: bool = False) -> None:
        self._reads = NamedReads(db.parts, cached=cached)
        self._writes = NamedWrites(db.parts, NamedReads(db.parts))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._reads!r})"


class DynamoDBClient(_Client):
    """For a synchronous application. Thread-safe; shares its manager's connections and its part in the migration.

    `cached`: table reads are eventually consistent, at half the price, and answered by DAX if there is one.
    """

    def __init__(self, db: DualWriteManager, *, cached: bool = False) -> None:
        super().__init__(db, cached=cached)

    def get(self, pattern: str, *, named: Named = None, **parameters: Any) -> Document | None:
        """The document that a pattern names; None if there is none.

        Raises: CallRefused for an unknown pattern or parameter, or a pattern of many; StoreError, RetryExhausted, TornRead.
        """
        return run(self._reads.get(pattern, {**(named or {}), **parameters}))

    def query(
        self,
        pattern: str,
        *,
        since: Any = None,
        until: Any = None,
        backwards: bool = False,
        limit: int | None = None,
        start: str | None = None,
        named: Named = None,
        **parameters: Any,
    ) -> Page:
        """The documents that a pattern leads to, in the order of its sort key; all of them without a `limit`.

        `since` and `until` bound the last field of the sort key, both included. `start` is the `next` of the page before.
        Raises: as `get`; CallRefused for a token of another question.
        """
        return run(
            self._reads.query(
                pattern,
                {**(named or {}), **parameters},
                since=since,
                until=until,
                backwards=backwards,
                limit=limit,
                start=start,
            )
        )

    def batch_get(self, collection: str, keys: Sequence[Any]) -> list[Document | None]:
        """The documents under any number of keys, in their order; None where there is none.

        A key is {field: value} for the fields of the table key, or the value alone if it is one field.
        Raises: CallRefused; StoreError; RetryExhausted, if DynamoDB leaves keys unprocessed time after time.
        """
        return run(self._reads.batch_get(collection, keys))

    def scan(
        self,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        limit: int,
        max_read_units: float,
        start: str | None = None,
    ) -> ScanPage:
        """Documents of a collection that match a MongoDB filter, in no order, until `limit` or the read units are reached.

        Every item of the table is paid for, whatever its collection; the last request may go over `max_read_units`.
        """
        return run(self._reads.scan(collection, filter, limit=limit, max_read_units=max_read_units, start=start))

    def update(
        self,
        pattern: str,
        change: Mapping[str, Any],
        *,
        expect: Mapping[str, Any] | None = None,
        named: Named = None,
        **parameters: Any,
    ) -> Document:
        """The document that a pattern names, changed by MongoDB's update operators, as it is afterwards.

        Raises: DocumentNotFound; NotAsExpected, if it does not match the filter `expect`; CallRefused while MongoDB leads;
                pymongo's WriteError and DuplicateKeyError, as MongoDB would; WritesHeld, LeaderUnknown, StoreError.
        """
        return run(self._writes.update(pattern, change, {**(named or {}), **parameters}, expect))

    def transact(self, writes: Sequence[Write]) -> None:
        """Several documents, all or none, of up to 100 items: `Put`, `Update` and `Delete`. Raises as `update`."""
        run(self._writes.transact(writes))


class AsyncDynamoDBClient(_Client):
    """For an asynchronous application: the same calls, awaited. Belongs to its manager's event loop."""

    def __init__(self, db: AsyncDualWriteManager, *, cached: bool = False) -> None:
        super().__init__(db, cached=cached)

    async def get(self, pattern: str, *, named: Named = None, **parameters: Any) -> Document | None:
        """As DynamoDBClient.get."""
        return await self._reads.get(pattern, {**(named or {}), **parameters})

    async def query(
        self,
        pattern: str,
        *,
        since: Any = None,
        until: Any = None,
        backwards: bool = False,
        limit: int | None = None,
        start: str | None = None,
        named: Named = None,
        **parameters: Any,
    ) -> Page:
        """As DynamoDBClient.query."""
        return await self._reads.query(
            pattern,
            {**(named or {}), **parameters},
            since=since,
            until=until,
            backwards=backwards,
            limit=limit,
            start=start,
        )

    async def batch_get(self, collection: str, keys: Sequence[Any]) -> list[Document | None]:
        """As DynamoDBClient.batch_get."""
        return await self._reads.batch_get(collection, keys)

    async def scan(
        self,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        limit: int,
        max_read_units: float,
        start: str | None = None,
    ) -> ScanPage:
        """As DynamoDBClient.scan."""
        return await self._reads.scan(collection, filter, limit=limit, max_read_units=max_read_units, start=start)

    async def update(
        self,
        pattern: str,
        change: Mapping[str, Any],
        *,
        expect: Mapping[str, Any] | None = None,
        named: Named = None,
        **parameters: Any,
    ) -> Document:
        """As DynamoDBClient.update."""
        return await self._writes.update(pattern, change, {**(named or {}), **parameters}, expect)

    async def transact(self, writes: Sequence[Write]) -> None:
        """As DynamoDBClient.transact."""
        await self._writes.transact(writes)
