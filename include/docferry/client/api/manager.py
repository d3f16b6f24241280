"""The client of an application under migration: in place of pymongo's database, it follows the mode
(docs/architecture.md, "Modes").

db = docferry.connect("shop.yaml")
db["users"].update_one({"username": "ann"}, {"$inc": {"visits": 1}})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.client.api.collections import AsyncCollection, Collection
from docferry.client.context import ClientContext
from docferry.client.reads.route import Queries
from docferry.client.reads.shadow import Shadow
from docferry.client.transport.sync_driver import run
from docferry.client.writes.route import CollectionCalls
from docferry.errors import CallRefused


class _Manager:
    """What both have in common. Make one a process, and share it."""

    def __init__(self, parts: ClientContext, shadow: Shadow) -> None:
        self._parts, self._shadow = parts, shadow
        self._calls: dict[str, tuple[CollectionCalls, Queries]] = {}
        parts.membership.on_fork += [parts.mongo.forked, parts.calls.forked, parts.beside.forked, shadow.forked]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parts.membership!r})"

    def get_metrics(self) -> dict[str, Any]:
        """The counts since this process began, and the playbook's flags as they are now."""
        membership = self._parts.membership
        counts = membership.tally.counts
        return {**_playbook(counts), "counts": counts, "configuration": membership.state.flags()}

    def _of(self, name: str) -> tuple[CollectionCalls, Queries]:
        """A collection's writes and reads; made once, because an application names its collections in every request."""
        found = self._calls.get(name)
        if found is None:
            found = CollectionCalls(self._parts, name), Queries(self._parts, name, self._shadow)
            self._calls[name] = found
        return found

    @property
    def name(self) -> str:
        """The database's, in MongoDB."""
        return self._parts.mongo.database

    @property
    def parts(self) -> ClientContext:
        """What a DynamoDBClient shares with this manager."""
        return self._parts

    @property
    def instance(self) -> str:
        """By this the ledger knows this process."""
        return self._parts.membership.id


_REFUSED = frozenset({
    "client", "command", "cursor_command", "create_collection", "drop_collection", "list_collection_names", "list_collections",
    "aggregate", "watch", "with_options", "dereference", "validate_collection", "codec_options", "read_preference",
    "read_concern", "write_concern",
})  # fmt: skip
"""What pymongo's database has, and this has not. A collection of such a name is had by db["name"]."""


def _public(name: str) -> str:
    """The collection that an attribute names, as with pymongo. Raises AttributeError for a private one; CallRefused."""
    if name.startswith("_"):
        raise AttributeError(name)
    if name in _REFUSED:
        raise CallRefused(
            what=f"the database's {name} is not supported by this client",
            suggestion="a pymongo client of your own; transactions: what belongs together in one document",
        )
    return name


def _playbook(counts: Mapping[str, int]) -> dict[str, int]:
    """The playbook's five counters."""
    writes = ("insert_one", "insert_many", "update_one", "replace_one", "delete_one", "find_one_and_update",
              "find_one_and_delete", "update_many", "delete_many", "update", "transact")  # fmt: skip
    failed = sum(number for name, number in counts.items() if name.startswith("dual_put.failed."))
    return {
        "mongo_writes": sum(counts.get(f"mongodb.{one}", 0) - counts.get(f"mongodb.{one}.failed", 0) for one in writes),
        "mongo_write_failures": sum(counts.get(f"mongodb.{one}.failed", 0) for one in writes),
        "dynamodb_writes": counts.get("dual_put.written", 0)
        + sum(counts.get(f"dynamodb.{one}", 0) - counts.get(f"dynamodb.{one}.failed", 0) for one in writes),
        "dynamodb_write_failures": failed + sum(counts.get(f"dynamodb.{one}.failed", 0) for one in writes),
        "validation_failures": counts.get("shadow.mismatch", 0),
    }


class DualWriteManager(_Manager):
    """For a synchronous application. Thread-safe; a fork becomes an instance of its own."""

    __iter__ = None  # else Python would take the collections 0, 1, 2, ... for its elements

    def __getitem__(self, name: str) -> Collection:
        return Collection(name, *self._of(name))

    def get_collection(self, name: str) -> Collection:
        return self[name]

    def __getattr__(self, name: str) -> Collection:
        return self[_public(name)]

    def __enter__(self) -> DualWriteManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the migration; connections are closed."""
        self._parts.membership.leave()
        self._shadow.close()
        run(self._parts.mongo.close())
        run(self._parts.calls.close())
        run(self._parts.beside.close())


class AsyncDualWriteManager(_Manager):
    """For an asynchronous application. Belongs to one event loop."""

    __iter__ = None

    def __getitem__(self, name: str) -> AsyncCollection:
        return AsyncCollection(name, *self._of(name))

    def get_collection(self, name: str) -> AsyncCollection:
        return self[name]

    def __getattr__(self, name: str) -> AsyncCollection:
        return self[_public(name)]

    async def __aenter__(self) -> AsyncDualWriteManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the migration; connections are closed."""
        self._parts.membership.leave()
        self._shadow.close()
        await self._parts.mongo.close()
        await self._parts.calls.close()
        await self._parts.beside.close()
