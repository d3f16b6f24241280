"""MongoDB's change stream behind the Feed port: whole batches of raw BSON, reduced on the server to what is needed.

pymongo's `watch` hides batches and costs more an event than applying it; here are the commands themselves. A feed never
resumes by itself: an error goes to the caller by type, who opens another feed at the last position.

The scope is the whole database, or all databases of the file, whatever is mapped: a version counts the events of one cluster
time, and that count may not depend on the mapping. Events of other collections come without their documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient, ReadPreference
from pymongo import errors as pymongo_errors

from docferry import errors
from docferry.adapters.mongodb.change_events import AGAIN, THEN, bare_change_of, change_of, pipeline_of
from docferry.adapters.mongodb.errors import mongo_errors
from docferry.core.mapping.mapping import KeyFields
from docferry.core.namespaces import Namespaces
from docferry.core.versions import N_MAX
from docferry.ports.flows import Batch, ChangeEvent, StreamPosition

RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument, unicode_decode_error_handler="replace")
"""Documents stay bytes; a path that is not valid UTF-8 must not take its whole batch along, and names no array of ours."""
BATCH_EVENTS = 1_000
TOO_LARGE = 10334  # BSONObjectTooLarge
LOST = frozenset({286, 280, 136, 260})
"""ChangeStreamHistoryLost, ChangeStreamFatalError, CappedPositionLost, InvalidResumeToken."""
_WITH_DOCUMENTS = frozenset({"insert", "update", "replace", "delete"})
_TO_CAPPED = ".convertToCapped."
"""In the name of the copy that MongoDB renames over the collection."""
_ENDING = frozenset({"drop", "rename", "dropDatabase", "invalidate"})


def token_time(token: Mapping[str, Any], otherwise: Timestamp) -> Timestamp:
    """The cluster time in a resume token: in `_data`, hex, 82 and then seconds and increment, four bytes each."""
    data = str(token.get("_data", ""))
    if len(data) < 18 or data[:2] != "82":
        return otherwise
    with suppress(ValueError):
        return Timestamp(int(data[2:10], 16), int(data[10:18], 16))
    return otherwise


def several(where: Namespaces) -> Namespaces | None:
    """Nothing of one database alone."""
    return where if where.several else None


def stream_database(where: Namespaces) -> str:
    """Where the stream is asked for: of several databases it is the cluster's."""
    return "admin" if where.several else where.default


def stream_options(where: Namespaces) -> dict[str, Any]:
    return {"allChangesForCluster": True} if where.several else {}


def scope_of(where: Namespaces) -> str:
    return f"databases:{','.join(where.databases)}" if where.several else f"database:{where.default}"


@dataclass(slots=True)
class _Numbered:
    """Counts the events of one time."""

    time: Timestamp
    n: int

    def next(self, time: Timestamp) -> int:
        if time != self.time:
            self.time, self.n = time, 0
        if self.n > N_MAX:
            raise errors.InvariantBroken(f"more than {N_MAX} events at {time}")
        self.n += 1
        return self.n - 1


class MongoFeed:
    """Feed over one cursor. Use it from one thread at a time; close it."""

    def __init__(
        self,
        client: MongoClient[Any],
        where: Namespaces | str,
        position: StreamPosition,
        key_fields: Mapping[str, KeyFields],
    ) -> None:
        self._client, self._where = client, Namespaces.at(where)
        self._database = client.get_database(stream_database(self._where), codec_options=RAW)
        self._key_fields = key_fields
        self._position = position
        self._numbered = _Numbered(position.time, position.n)
        self._session: Any = None
        self._cursor = 0
        self._ended: errors.StreamEnded | None = None
        self._left: tuple[Sequence[Any], Mapping[str, Any]] | None = None
        self._open()

    def __repr__(self) -> str:
        return f"MongoFeed({str(self._where)!r})"

    # --- commands ----------------------------------------------------------------------------------------------------

    def _open(self, images: bool = True, before: bool = True, events: int = BATCH_EVENTS) -> None:
        self._kill()
        self._session = self._client.start_session(causal_consistency=False)
        # Not resumeAfter: that refuses a token behind an invalidate, which follows each dropDatabase.
        stage: dict[str, Any] = {"startAfter": dict(self._position.token)} | stream_options(self._where)
        if images:
            stage["fullDocument"] = "whenAvailable"
        if before:
            stage["fullDocumentBeforeChange"] = "whenAvailable"
        command = {
            "aggregate": 1,
            "pipeline": [
                {"$changeStream": stage},
                *pipeline_of(self._key_fields, images, before, several(self._where)),
            ],
            "cursor": {"batchSize": 0},
            "readConcern": {"level": "majority"},
        }
        reply = self._run(command)
        self._cursor = int(reply["cursor"]["id"])
        self._events = events

    def _run(self, command: Mapping[str, Any]) -> Any:
        try:
            with mongo_errors("follow the change stream"):
                return self._database.command(
                    dict(command), session=self._session, read_preference=ReadPreference.PRIMARY, codec_options=RAW
                )
        except errors.StoreError as error:
            raise self._explained(error) from error

    def _explained(self, error: errors.StoreError) -> errors.MigrationError:
        code = error.code.partition(" ")[0]
        if code.isdigit() and int(code) in LOST:
            names = ", ".join(sorted(self._key_fields))
            return errors.ResumeTokenLost(
                f"the oplog no longer holds the stream position {self._position.time.as_datetime():%Y-%m-%d %H:%M:%S} UTC of "
                f"{self._position.scope}: what was changed since is not known any more. These collections need a new load, "
                f"which may run under live traffic: {names}. {THEN}"
            )
        return error

    def read(self, wait_s: float) -> Batch:
        if self._ended is not None:
            ended, self._ended = self._ended, None
            raise ended
        try:
            batch, token = self._left or self._next(wait_s)
        except errors.StoreError as error:
            if error.code.partition(" ")[0] != str(TOO_LARGE):
                raise
            return self._pass_too_large(wait_s)
        return self._batch(batch, token)

    def _next(self, wait_s: float) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if not self._cursor:
            raise errors.Unavailable("the change stream's cursor is closed", operation="getMore")
        reply = self._run(
            {
                "getMore": self._cursor,
                "collection": "$cmd.aggregate",
                "batchSize": self._events,
                "maxTimeMS": max(1, int(wait_s * 1000)),
            }
        )["cursor"]
        self._cursor = int(reply["id"])
        return reply["nextBatch"], reply["postBatchResumeToken"]

    def close(self) -> None:
        self._kill()

    def _kill(self) -> None:
        """Closed as far as can be: on a server that is gone the cursor is gone, too."""
        if self._cursor:
            with suppress(pymongo_errors.PyMongoError):
                self._database.command(
                    {"killCursors": "$cmd.aggregate", "cursors": [self._cursor]},
                    session=self._session,
                    read_preference=ReadPreference.PRIMARY,
                )
            self._cursor = 0
        if self._session is not None:
            with suppress(pymongo_errors.PyMongoError):
                self._session.end_session()
            self._session = None

    # --- events ------------------------------------------------------------------------------------------------------

    def _batch(self, events: Sequence[Any], token: Mapping[str, Any]) -> Batch:
        """What comes before an event that ends the stream is given first. A caller that reads on goes on behind that event."""
        self._left = None
        changes: list[ChangeEvent] = []
        for place, event in enumerate(events):
            before = self._position
            try:
                change = self._change(event)
            except errors.StreamEnded as ended:
                self._left = events[place + 1 :], token
                self._position = ended.position
                if not changes:
                    raise
                self._ended = ended
                return Batch(changes, before)
            if change is not None:
                changes.append(change)
        self._move_on(token)
        return Batch(changes, self._position)

    def _move_on(self, token: Mapping[str, Any]) -> None:
        """To the end of the batch, which moves while nothing happens."""
        if token["_data"] == self._position.token.get("_data"):
            return
        time = token_time(token, self._position.time)
        n = self._numbered.n if time == self._numbered.time else 0
        self._position = replace(self._position, time=time, token={"_data": token["_data"]}, n=n)

    def _change(self, event: Any) -> ChangeEvent | None:
        time = event["time"]
        operation, collection = event["op"], self._name(event)
        n = self._numbered.next(time)
        behind = replace(self._position, time=time, token={"_data": event["_id"]["_data"]}, n=n + 1)
        if operation in _ENDING:
            self._end_if_mapped(operation, collection, self._name(event, "to", "to_db"), event, behind)
        change = None
        if operation in _WITH_DOCUMENTS and collection in self._key_fields:
            change = change_of(event, operation, collection, time, n, behind)
        self._position = behind
        return change

    def _name(self, event: Any, collection: str = "coll", database: str = "db") -> str:
        """The file's name of the collection that an event is about; '' if it is about none."""
        found = str(event.get(collection, ""))
        return self._where.name_of(str(event[database]), found) if found and database in event else found

    def _end_if_mapped(self, operation: str, collection: str, to: str, event: Any, behind: StreamPosition) -> None:
        if operation == "rename" and collection.endswith(f"{_TO_CAPPED}{event.get('to')}") and to in self._key_fields:
            raise errors.StreamEnded(
                f"{to} was made a capped collection (convertToCapped): MongoDB shows no snapshot of one, so it can neither be "
                "loaded nor followed. Reads stay with MongoDB. Make it an ordinary collection again: copy it into a new one "
                f"($out), and rename that over it. {AGAIN}",
                reason="convertToCapped",
                collections=(to,),
                position=behind,
            )
        whole = operation in ("dropDatabase", "invalidate")
        named = tuple(name for name in (collection, to) if name in self._key_fields)
        if whole or named:
            what = (
                f"the database {event.get('db', self._where.default)}"
                if whole
                else f"the collection {' to '.join(named)}"
            )
            raise errors.StreamEnded(
                f"the change stream came to a {operation} of {what}: it cannot be followed over that. "
                f"Reads stay with MongoDB. {AGAIN}",
                reason=operation,
                collections=named,
                position=behind,
            )

    # --- an event too large for its images -------------------------------------------------------------------------

    def _pass_too_large(self, wait_s: float) -> Batch:
        """Take the next events one by one; the one that is too large without its images, then go on with them."""
        self._open(events=1)
        try:
            events, token = self._next(wait_s)
            batch = self._batch(events, token)
        except errors.StoreError as error:
            if error.code.partition(" ")[0] != str(TOO_LARGE):
                raise
            batch = self._without_images(wait_s)
        self._open()
        return batch

    def _without_images(self, wait_s: float) -> Batch:
        place, numbered = self._position, replace(self._numbered)
        self._open(images=False, before=False, events=1)
        events, _ = self._next(max(wait_s, 5.0))
        for event in events:
            bare = self._bare_change(event)
            behind, self._position = self._position, place
            after_numbers, self._numbered = self._numbered, numbered
            before = self._only_before(wait_s)
            self._position, self._numbered = behind, after_numbers
            return Batch([replace(bare, before=before)] if bare is not None else [], self._position)
        return Batch([], self._position)

    def _bare_change(self, event: Any) -> ChangeEvent | None:
        time, operation, collection = event["time"], event["op"], self._name(event)
        n = self._numbered.next(time)
        self._position = replace(self._position, time=time, token={"_data": event["_id"]["_data"]}, n=n + 1)
        if operation not in _WITH_DOCUMENTS or collection not in self._key_fields:
            return None
        return bare_change_of(event, operation, collection, time, n, self._position)

    def _only_before(self, wait_s: float) -> bytes | None:
        """The fields of keys in front of the event, from a stream that asks for nothing else."""
        try:
            self._open(images=False, before=True, events=1)
            events, _ = self._next(max(wait_s, 5.0))
        except errors.StoreError as error:
            if error.code.partition(" ")[0] != str(TOO_LARGE):
                raise
            return None
        return next((bytes(event["before"].raw) for event in events if event.get("before") is not None), None)
