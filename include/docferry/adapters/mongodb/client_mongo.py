"""MongoDB for an application: pymongo's own collections, blocking and asynchronous, that also say when a change happened.

pymongo's results do not tell the operation time, nor whether a write was retried. Its command monitoring does: the listener
hands each reply to the call that caused it, which runs in the same thread, or in the same task's context.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, WriteConcern, common, monitoring, results
from pymongo import errors as pymongo_errors

from docferry.adapters.mongodb.leader import marker_in, read_command
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import COLLECTION, Marker
from docferry.core.mapping.items import Document
from docferry.errors import WritesFenced
from docferry.ports.client import MongoResult, WriteReply

APP_NAME = "docferry-client"
"""By this the application's connections are told from those that do not use the library."""

WRITES_BLOCKED = 371
"""UserWritesBlocked. Source: mongo/src/mongo/base/error_codes.yml (6.0)."""
UNAUTHORIZED = 13
WRITE_COMMANDS = frozenset({"insert", "update", "delete", "findAndModify"})

_heard: ContextVar[list[Mapping[str, Any]] | None] = ContextVar("docferry_heard", default=None)


def codec_options_of(uri: str) -> CodecOptions[Any]:
    """What a URI says about types. Nothing is connected."""
    client: MongoClient[Any] = MongoClient(uri, connect=False)
    try:
        return client.codec_options
    finally:
        client.close()


class _Listener(monitoring.CommandListener):
    """Keeps the latest cluster time, and hands the replies of writes to the listener."""

    def __init__(self) -> None:
        self.latest: Timestamp | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None: ...

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        reply = event.reply
        seen = reply.get("$clusterTime", {}).get("clusterTime")
        if seen is not None and (self.latest is None or seen > self.latest):
            self.latest = seen
        listening = _heard.get()
        if listening is not None and event.command_name in WRITE_COMMANDS:
            listening.append(reply)

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@contextmanager
def _listening() -> Iterator[list[Mapping[str, Any]]]:
    replies: list[Mapping[str, Any]] = []
    token = _heard.set(replies)
    try:
        yield replies
    finally:
        _heard.reset(token)


def _write_reply(reply: Mapping[str, Any]) -> WriteReply | None:
    """None if the reply has no operation time: a server that is no member of a set."""
    if "operationTime" not in reply:
        return None
    return WriteReply(
        time=reply["operationTime"],
        changed=_changed(reply),
        retried="retriedStmtId" in reply or "retriedStmtIds" in reply,
    )


def _changed(reply: Mapping[str, Any]) -> int:
    if "lastErrorObject" in reply:  # findAndModify: that a document was removed or inserted is certain, a change is not
        said = reply["lastErrorObject"]
        removed = reply.get("value") is not None and "updatedExisting" not in said
        return int(removed or "upserted" in said)
    if "nModified" in reply:
        return int(reply["nModified"]) + len(reply.get("upserted", ()))
    return int(reply.get("n", 0))


class _MongoCalls:
    """What the blocking and the asynchronous calls share.

    Clients are made on first use, and anew in a fork: pymongo's are not fork-safe. There are two: listening costs each command
    some 20 us, a twentieth of a read, and only the replies of writes beside which DynamoDB is written are listened to.
    """

    def __init__(self, uri: str, database: str) -> None:
        self._uri, self.database = uri, database
        self._listener = _Listener()
        self._making = threading.Lock()
        self._clients: dict[bool, Any] = {}
        self._collections: dict[tuple[str, bool], Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.database!r})"

    def _options(self, *, listening: bool) -> dict[str, Any]:
        listeners = {"event_listeners": [self._listener]} if listening else {}
        return {"appname": APP_NAME, **listeners}

    def _connect(self, *, listening: bool) -> Any:
        raise NotImplementedError

    def _collection(self, name: str, *, listening: bool) -> Any:
        found = self._collections.get((name, listening))
        if found is None:
            with self._making:
                if listening not in self._clients:
                    self._clients[listening] = self._connect(listening=listening)
            database = self._clients[listening].get_database(
                self.database, BSON_OPTIONS, write_concern=WriteConcern("majority")
            )
            found = self._collections[name, listening] = database[name]
        return found

    def _database_of(self, name: str) -> Any:
        """The database as a primary answers for it."""
        return self._collection(name, listening=False).database.with_options(read_preference=ReadPreference.PRIMARY)

    def _result(self, value: Any, replies: Sequence[Mapping[str, Any]], before: Timestamp | None) -> MongoResult:
        found = [one for one in map(_write_reply, replies) if one is not None]
        return MongoResult(value=value, replies=found, before=before)

    def forked(self) -> None:
        self._making = threading.Lock()
        self._clients, self._collections = {}, {}

    def seen_time(self) -> Timestamp | None:
        return self._listener.latest

    def inserted(self, ids: Sequence[Any], *, many: bool = False) -> Any:
        return results.InsertManyResult(list(ids), True) if many else results.InsertOneResult(ids[0], True)

    def updated(self, *, matched: int, modified: int, upserted_id: Any = None) -> Any:
        raw: dict[str, Any] = {"n": 1 if upserted_id is not None else matched, "nModified": modified, "ok": 1.0}
        if upserted_id is not None:
            raw["upserted"] = upserted_id
        raw["updatedExisting"] = upserted_id is None and matched > 0
        return results.UpdateResult(raw, True)

    def deleted(self, count: int) -> Any:
        return results.DeleteResult({"n": count, "ok": 1.0}, True)

    def listed(self, documents: Iterable[Document]) -> list[Document]:
        if not isinstance(documents, Iterable) or isinstance(documents, Mapping) or not documents:
            raise TypeError("documents must be a non-empty list")
        listed = list(documents)
        if not listed:
            raise pymongo_errors.InvalidOperation("No operations to execute")
        return listed

    def require_document(self, document: Any) -> None:
        common.validate_is_document_type("document", document)

    def require_filter(self, query: Any) -> None:
        common.validate_is_mapping("filter", query)

    def require_update(self, update: Any) -> None:
        common.validate_ok_for_update(update)

    def require_replacement(self, replacement: Any) -> None:
        common.validate_ok_for_replace(replacement)

    def duplicate_key(self, collection: str, key: Mapping[str, Any]) -> Exception:
        index = "_".join(f"{name}_1" for name in key) if list(key) != ["_id"] else "_id_"
        text = f"E11000 duplicate key error collection: {self.database}.{collection} index: {index}"
        details = {
            "index": 0, "code": 11000, "errmsg": text, "keyPattern": dict.fromkeys(key, 1), "keyValue": dict(key),
        }  # fmt: skip
        return pymongo_errors.DuplicateKeyError(text, 11000, details)

    def write_error(self, code: int, message: str) -> Exception:
        return pymongo_errors.WriteError(message, code, {"index": 0, "code": code, "errmsg": message})

    def bulk_write_error(
        self, failures: Sequence[tuple[int, Exception]], documents: Sequence[Document], inserted: int
    ) -> Exception:
        listed = [
            {**(getattr(error, "details", None) or {"errmsg": str(error)}), "index": index, "op": documents[index]}
            for index, error in failures
        ]
        return pymongo_errors.BulkWriteError({
            "writeErrors": listed, "writeConcernErrors": [], "nInserted": inserted,
            "nUpserted": 0, "nMatched": 0, "nModified": 0, "nRemoved": 0, "upserted": [],
        })  # fmt: skip

    def not_inserted(self, error: Exception, documents: int, ordered: bool) -> frozenset[int] | None:
        if not isinstance(error, pymongo_errors.BulkWriteError):
            return None
        failed = [int(one["index"]) for one in error.details["writeErrors"]]
        return frozenset(range(min(failed), documents) if ordered and failed else failed)

    def is_write_error(self, error: Exception) -> bool:
        return isinstance(error, pymongo_errors.WriteError)

    def is_driver_error(self, error: Exception) -> bool:
        return isinstance(error, pymongo_errors.PyMongoError)


class _fenced:
    """Says so where MongoDB refused because of a fence."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, pymongo_errors.OperationFailure) and error.code in (WRITES_BLOCKED, UNAUTHORIZED):
            raise WritesFenced("MongoDB takes no writes of this application", operation="write") from error


class SyncMongoCalls(_MongoCalls):
    """For a synchronous application. May be shared between threads."""

    def _connect(self, *, listening: bool) -> MongoClient[Document]:
        return MongoClient(self._uri, **self._options(listening=listening))

    async def run(
        self, collection: str, method: str, *arguments: Any, heard: bool = True, **options: Any
    ) -> MongoResult:
        call = getattr(self._collection(collection, listening=heard), method)
        if not heard:
            with _fenced():
                return MongoResult(value=call(*arguments, **options))
        before = self._listener.latest
        with _listening() as replies, _fenced():
            value = call(*arguments, **options)
        return self._result(value, replies, before)

    def find(self, collection: str, query: Mapping[str, Any], **options: Any) -> SyncMongoCursor:
        return SyncMongoCursor(self._collection(collection, listening=False).find(query, **options))

    async def read_at(self, collection: str, document_id: Any, time: Timestamp) -> Document | None:
        database = self._collection(collection, listening=False).database
        reply = database.command(_read_at(collection, document_id, time), codec_options=BSON_OPTIONS)
        return _first(reply)

    async def leader(self, migration: str) -> Marker | None:
        return marker_in(self._database_of(COLLECTION).command(read_command(migration)))

    async def close(self) -> None:
        for client in self._clients.values():
            client.close()


class SyncMongoCursor:
    """A pymongo cursor, blocking."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    async def fetch(self) -> Document | None:
        return next(self._cursor, None)

    async def close(self) -> None:
        self._cursor.close()


class AsyncMongoCalls(_MongoCalls):
    """For an asynchronous application. Belongs to the event loop that first uses it."""

    def _connect(self, *, listening: bool) -> AsyncMongoClient[Document]:
        return AsyncMongoClient(self._uri, **self._options(listening=listening))

    async def run(
        self, collection: str, method: str, *arguments: Any, heard: bool = True, **options: Any
    ) -> MongoResult:
        call = getattr(self._collection(collection, listening=heard), method)
        if not heard:
            with _fenced():
                return MongoResult(value=await call(*arguments, **options))
        before = self._listener.latest
        with _listening() as replies, _fenced():
            value = await call(*arguments, **options)
        return self._result(value, replies, before)

    def find(self, collection: str, query: Mapping[str, Any], **options: Any) -> AsyncMongoCursor:
        return AsyncMongoCursor(self._collection(collection, listening=False).find(query, **options))

    async def read_at(self, collection: str, document_id: Any, time: Timestamp) -> Document | None:
        database = self._collection(collection, listening=False).database
        return _first(await database.command(_read_at(collection, document_id, time), codec_options=BSON_OPTIONS))

    async def leader(self, migration: str) -> Marker | None:
        return marker_in(await self._database_of(COLLECTION).command(read_command(migration)))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


class AsyncMongoCursor:
    """A pymongo cursor, asynchronous."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    async def fetch(self) -> Document | None:
        return await anext(self._cursor, None)

    async def close(self) -> None:
        await self._cursor.close()


def _read_at(collection: str, document_id: Any, time: Timestamp) -> dict[str, Any]:
    return {
        "find": collection,
        "filter": {"_id": {"$eq": document_id}},
        "limit": 1,
        "singleBatch": True,
        "readConcern": {"level": "snapshot", "atClusterTime": time},
        "maxTimeMS": 2_000,
    }


def _first(reply: Mapping[str, Any]) -> Document | None:
    batch = reply["cursor"]["firstBatch"]
    return batch[0] if batch else None
