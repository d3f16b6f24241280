"""MongoDB's change stream behind the Feed port: whole batches of raw BSON, reduced on the server to what is needed.

pymongo's `watch` hides batches and costs more an event than applying it; here are the commands themselves. A feed never
resumes by itself: an error goes to the caller by type, who opens another feed at the last position.

The scope is the whole database, whatever is mapped: a version counts the events of one cluster time, and that count may
not depend on the mapping. Events of other collections come without their documents.
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
from docferry.core.mapping.raw import id_of
from docferry.core.versions import N_MAX
from docferry.ports.flows import Batch, ChangeEvent, OthersBatch, OthersWrite, StreamPosition

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument, unicode_decode_error_handler="replace")
"""Documents stay bytes; a path that is not valid UTF-8 must not take its whole batch along, and names no array of ours."""
BATCH_EVENTS = 1_000
TOO_LARGE = 10334  # BSONObjectTooLarge
_LOST = frozenset({286, 280, 136, 260})
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
        self, client: MongoClient[Any], database: str, position: StreamPosition, key_fields: Mapping[str, KeyFields]
    ) -> None:
        self._client, self._database = client, client.get_database(database, codec_options=_RAW)
        self._key_fields = key_fields
        self._position = position
        self._numbered = _Numbered(position.time, position.n)
        self._session: Any = None
        self._cursor = 0
        self._ended: errors.StreamEnded | None = None
        self._left: tuple[Sequence[Any], Mapping[str, Any]] | None = None
        self._open()

    def __repr__(self) -> str:
        return f"MongoFeed({self._database.name!r})"

    # --- commands ----------------------------------------------------------------------------------------------------

    def _open(self, images: bool = True, before: bool = True, events: int = BATCH_EVENTS) -> None:
        self._kill()
        self._session = self._client.start_session(causal_consistency=False)
        # Not resumeAfter: that refuses a token behind an invalidate, which follows each dropDatabase.
        stage: dict[str, Any] = {"startAfter": dict(self._position.token)}
        if images:
            stage["fullDocument"] = "whenAvailable"
        if before:
            stage["fullDocumentBeforeChange"] = "whenAvailable"
        command = {
            "aggregate": 1,
            "pipeline": [{"$changeStream": stage}, *pipeline_of(self._key_fields, images, before)],
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
                    dict(command), session=self._session, read_preference=ReadPreference.PRIMARY, codec_options=_RAW
                )
        except errors.StoreError as error:
            raise self._explained(error) from error

    def _explained(self, error: errors.StoreError) -> errors.MigrationError:
        code = error.code.partition(" ")[0]
        if code.isdigit() and int(code) in _LOST:
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
        operation, collection = event["op"], event.get("coll", "")
        n = self._numbered.next(time)
        behind = replace(self._position, time=time, token={"_data": event["_id"]["_data"]}, n=n + 1)
        if operation in _ENDING:
            self._end_if_mapped(operation, collection, event.get("to", ""), behind)
        change = None
        if operation in _WITH_DOCUMENTS and collection in self._key_fields:
            change = change_of(event, operation, collection, time, n, behind)
        self._position = behind
        return change

    def _end_if_mapped(self, operation: str, collection: str, to: str, behind: StreamPosition) -> None:
        if operation == "rename" and collection.endswith(f"{_TO_CAPPED}{to}") and to in self._key_fields:
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
            what = f"the database {self._database.name}" if whole else f"the collection {' to '.join(named)}"
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
        time, operation, collection = event["time"], event["op"], event.get("coll", "")
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


# --- what others write -----------------------------------------------------------------------------------------------

_OTHERS_FIELDS = {"_id": 1, "operationType": 1, "ns": 1, "to": 1, "clusterTime": 1, "documentKey": 1}
_OTHERS_IMAGES = {"fullDocument": 1, "fullDocumentBeforeChange": 1}


class MongoOthers:
    """OthersFeed: the change stream without what docferry's own user wrote in transactions.

    An event inside a transaction names its user, by the digest in `lsid.uid`; a plain one names none (tried on 6.0.5). So `own`
    tells docferry's writes while DynamoDB leads, all of which are transactions through the gates.
    """

    def __init__(
        self, client: MongoClient[Any], database: str, position: StreamPosition, collections: Sequence[str], own: bytes
    ) -> None:
        self._database = client.get_database(database, codec_options=_RAW, read_preference=ReadPreference.PRIMARY)
        self._names, self._own, self._position = sorted(collections), own, position
        self._stream: Any = None
        self._images = True

    def __repr__(self) -> str:
        return f"MongoOthers({self._database.name!r})"

    def read(self, wait_s: float) -> OthersBatch:
        found: list[OthersWrite] = []
        try:
            self._read(found, wait_s)
        except pymongo_errors.OperationFailure as error:
            if error.code != TOO_LARGE or not self._images:
                raise self._explained(error) from error
            self._restart(images=False)
        except pymongo_errors.PyMongoError as error:
            raise self._explained(error) from error
        return OthersBatch(found, self._position)

    def _read(self, found: list[OthersWrite], wait_s: float) -> None:
        stream = self._stream = self._stream or self._open(wait_s)
        while (event := stream.try_next()) is not None:
            found.append(self._write(event))
            self._move_on(stream.resume_token, event["clusterTime"])
            if not self._images:  # the one that was too large is told without them
                self._restart(images=True)
                return
            if len(found) >= BATCH_EVENTS:
                return
        self._move_on(stream.resume_token, self._position.time)

    def _open(self, wait_s: float) -> Any:
        named = {"ns.coll": {"$in": self._names}}
        whole = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
        ours = {"$or": [named, {"to.coll": {"$in": self._names}}, whole]}
        # Computed: a match on the path itself is pushed down to the oplog, where plain writes bear it, too (seen on 6.0.5).
        whose = {"$set": {"user": {"$ifNull": ["$lsid.uid", ""]}}}
        images: dict[str, Any] = {"full_document": "whenAvailable", "full_document_before_change": "whenAvailable"}
        return self._database.watch(
            [
                {"$match": ours},
                whose,
                {"$match": {"user": {"$ne": self._own}}},
                {"$project": _OTHERS_FIELDS | (_OTHERS_IMAGES if self._images else {})},
            ],
            start_after=dict(self._position.token),
            max_await_time_ms=max(1, int(wait_s * 1000)),
            batch_size=BATCH_EVENTS if self._images else 1,
            **(images if self._images else {}),
        )

    def _restart(self, *, images: bool) -> None:
        self.close()
        self._images = images

    def _move_on(self, token: Any, otherwise: Timestamp) -> None:
        if token is not None:
            time = token_time(token, otherwise)
            self._position = replace(self._position, time=time, token={"_data": token["_data"]}, n=0)

    def _write(self, event: Any) -> OthersWrite:
        key, collection = event.get("documentKey"), (event.get("ns") or {}).get("coll", "")
        before, after = event.get("fullDocumentBeforeChange"), event.get("fullDocument")
        return OthersWrite(
            collection=collection,
            operation=event["operationType"],
            time=event["clusterTime"],
            place=str(event["_id"]["_data"]),
            id=id_of(bytes(key.raw)) if key is not None else b"",
            before=bytes(before.raw) if before is not None else None,
            after=bytes(after.raw) if after is not None else None,
        )

    def _explained(self, error: pymongo_errors.PyMongoError) -> errors.MigrationError:
        if isinstance(error, pymongo_errors.OperationFailure) and error.code in _LOST:
            return errors.ResumeTokenLost(
                f"the oplog no longer holds the place up to which others' writes to MongoDB were watched "
                f"({self._position.time.as_datetime():%Y-%m-%d %H:%M:%S} UTC): what was written since is not known"
            )
        self.close()
        try:
            with mongo_errors("watch what others write"):
                raise error
        except errors.MigrationError as ours:
            return ours

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(pymongo_errors.PyMongoError):
                stream.close()
