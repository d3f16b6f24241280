"""MongoDB for an application: pymongo's own collections, blocking and asynchronous, that also say when a change happened.

pymongo's results do not tell the operation time, nor whether a write was retried. Its command monitoring does: the listener
hands each reply to the call that caused it, which runs in the same thread, or in the same task's context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from inspect import isawaitable
from typing import Any, ClassVar, Self

from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, WriteConcern, monitoring
from pymongo import errors as pymongo_errors
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.collection import Collection
from pymongo.database import Database

from docferry.adapters.mongodb.client.driver import ApplicationClient, AsyncApplicationClient
from docferry.adapters.mongodb.client.outcomes import MongoOutcomes
from docferry.adapters.mongodb.leader import marker_in, read_command
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import COLLECTION, Marker
from docferry.core.mapping.items import Document
from docferry.core.namespaces import Namespaces
from docferry.errors import WritesFenced
from docferry.ports.client import ApplicationDatabase, AskedOptions, MongoResult, WriteReply

APP_NAME = "docferry-client"
"""By this the application's connections are told from those that do not use the library."""

WRITES_BLOCKED = 371
"""UserWritesBlocked. Source: mongo/src/mongo/base/error_codes.yml (6.0)."""
UNAUTHORIZED = 13
BY_A_FENCE = (WRITES_BLOCKED, UNAUTHORIZED)
"""Errors by which MongoDB refuses a write because of a fence."""
MAJORITY = WriteConcern("majority")
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


class _Connections:
    """pymongo's clients of one process, for all that share them; made on first use, and anew in a fork: pymongo's are not
    fork-safe. There are two: listening costs each command some 20 us, a twentieth of a read, and only the replies of writes
    beside which DynamoDB is written are listened to. The other is the application's own.
    """

    def __init__(self, uri: str, kinds: Mapping[bool, Callable[..., Any]]) -> None:
        self._uri, self._kinds = uri, kinds
        self.listener = _Listener()
        self.application: ApplicationDatabase | None = None
        self.forked()

    def forked(self) -> None:
        self._making = threading.Lock()
        self.made: dict[bool, Any] = {}

    def client(self, *, listening: bool) -> Any:
        found = self.made.get(listening)
        if found is None:
            with self._making:
                if listening not in self.made:
                    options = {"event_listeners": [self.listener]} if listening else {}
                    made = self._kinds[listening](self._uri, appname=APP_NAME, **options)
                    if not listening:
                        made.application = self.application
                    self.made[listening] = made
                found = self.made[listening]
        return found

    def released(self) -> list[Any]:
        """Clients that are closed for themselves, without leaving the migration."""
        for client in self.made.values():
            client.application = None
        return list(self.made.values())


class _MongoCalls(MongoOutcomes):
    """What the blocking and the asynchronous calls share."""

    KINDS: ClassVar[Mapping[bool, Callable[..., Any]]]
    database_class: type
    collection_class: type

    def __init__(self, uri: str, where: Namespaces | str, codec_options: CodecOptions[Any] = BSON_OPTIONS) -> None:
        self._connections = _Connections(uri, self.KINDS)
        self.where = Namespaces.at(where)
        self.database = self.where.default
        self._asked = AskedOptions(codec_options=codec_options)
        self._made = self._connections.made
        self._raw: dict[str, Any] = {}
        self._own: dict[tuple[str, bool], Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.database!r})"

    def view(self, asked: AskedOptions) -> Self:
        """The same connections, by other options."""
        found = copy(self)
        found._asked = asked
        found._forget()
        return found

    def _forget(self) -> None:
        """Of collections: what another process made is not this one's, nor what was made by other options."""
        self._made, self._raw, self._own = self._connections.made, {}, {}

    def of(self, database: str) -> Self:
        """The same connections and options, in another of the file's databases."""
        found = copy(self)
        found.database = database
        return found

    def name_of(self, collection: str) -> str:
        return self.where.name_of(self.database, collection)

    @property
    def majority(self) -> bool:
        asked = self._asked.write_concern
        return asked is None or asked.document.get("w") == "majority"

    def _database(self, client: Any, name: str, codec_options: CodecOptions[Any]) -> Any:
        """Not by the client, which hands out the application's own database."""
        asked = self._asked
        concern = asked.write_concern or MAJORITY
        return self.database_class(client, name, codec_options, asked.read_preference, concern, asked.read_concern)

    def _collection(self, name: str, *, listening: bool) -> Any:
        """In our own types."""
        if self._made is not self._connections.made:
            self._forget()
        found = self._own.get((name, listening))
        if found is None:
            found = self._own[name, listening] = self._make(name, listening, BSON_OPTIONS)
        return found

    def raw(self, name: str) -> Any:
        if self._made is not self._connections.made:
            self._forget()
        found = self._raw.get(name)
        if found is None:
            found = self._raw[name] = self._make(name, False, self._asked.codec_options)
        return found

    def _make(self, name: str, listening: bool, codec_options: CodecOptions[Any]) -> Any:
        database, collection = self.where.place_of(name)
        return self._database(self._connections.client(listening=listening), database, codec_options)[collection]

    @property
    def raw_database(self) -> Any:
        return self._database(self.client, self.database, self._asked.codec_options)

    @property
    def client(self) -> Any:
        return self._connections.client(listening=False)

    def serve(self, application: ApplicationDatabase) -> None:
        self._connections.application = application
        if (made := self._connections.made.get(False)) is not None:
            made.application = application

    def _database_of(self, name: str) -> Any:
        """The database as a primary answers for it."""
        return self._collection(name, listening=False).database.with_options(read_preference=ReadPreference.PRIMARY)

    def _result(self, value: Any, replies: Sequence[Mapping[str, Any]], before: Timestamp | None) -> MongoResult:
        found = [one for one in map(_write_reply, replies) if one is not None]
        return MongoResult(value=value, replies=found, before=before)

    def forked(self) -> None:
        self._connections.forked()

    def seen_time(self) -> Timestamp | None:
        return self._connections.listener.latest


def _fenced() -> WritesFenced:
    return WritesFenced("MongoDB takes no writes of this application", operation="write")


class SyncMongoCalls(_MongoCalls):
    """For a synchronous application. May be shared between threads."""

    KINDS: ClassVar = {True: MongoClient, False: ApplicationClient}
    database_class: type = Database
    collection_class: type = Collection

    async def run(
        self, collection: str, method: str, *arguments: Any, heard: bool = True, **options: Any
    ) -> MongoResult:
        call = getattr(self._collection(collection, listening=heard), method)
        if not heard:
            return MongoResult(value=await self.write(call, *arguments, **options))
        before = self._connections.listener.latest
        with _listening() as replies:
            value = await self.write(call, *arguments, **options)
        return self._result(value, replies, before)

    async def answer(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return call(*arguments, **options)

    async def write(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except pymongo_errors.OperationFailure as error:
            if error.code not in BY_A_FENCE:
                raise
            raise _fenced() from error

    async def fetch(self, cursor: Any) -> Any:
        return next(cursor, None)

    def find(self, collection: str, query: Mapping[str, Any], **options: Any) -> SyncMongoCursor:
        return SyncMongoCursor(self._collection(collection, listening=False).find(query, **options))

    async def read_at(self, collection: str, document_id: Any, time: Timestamp) -> Document | None:
        found = self._collection(collection, listening=False)
        reply = found.database.command(_read_at(found.name, document_id, time), codec_options=BSON_OPTIONS)
        return _first(reply)

    async def leader(self, migration: str) -> Marker | None:
        return marker_in(self._database_of(COLLECTION).command(read_command(migration)))

    async def close(self) -> None:
        for client in self._connections.released():
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

    KINDS: ClassVar = {True: AsyncMongoClient, False: AsyncApplicationClient}
    database_class: type = AsyncDatabase
    collection_class: type = AsyncCollection

    async def run(
        self, collection: str, method: str, *arguments: Any, heard: bool = True, **options: Any
    ) -> MongoResult:
        call = getattr(self._collection(collection, listening=heard), method)
        if not heard:
            return MongoResult(value=await self.write(call, *arguments, **options))
        before = self._connections.listener.latest
        with _listening() as replies:
            value = await self.write(call, *arguments, **options)
        return self._result(value, replies, before)

    async def answer(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        answer = call(*arguments, **options)
        return await answer if isawaitable(answer) else answer

    async def write(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return await self.answer(call, *arguments, **options)
        except pymongo_errors.OperationFailure as error:
            if error.code not in BY_A_FENCE:
                raise
            raise _fenced() from error

    async def fetch(self, cursor: Any) -> Any:
        return await anext(cursor, None)

    def find(self, collection: str, query: Mapping[str, Any], **options: Any) -> AsyncMongoCursor:
        return AsyncMongoCursor(self._collection(collection, listening=False).find(query, **options))

    async def read_at(self, collection: str, document_id: Any, time: Timestamp) -> Document | None:
        found = self._collection(collection, listening=False)
        reply = await found.database.command(_read_at(found.name, document_id, time), codec_options=BSON_OPTIONS)
        return _first(reply)

    async def leader(self, migration: str) -> Marker | None:
        return marker_in(await self._database_of(COLLECTION).command(read_command(migration)))

    async def close(self) -> None:
        for client in self._connections.released():
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
