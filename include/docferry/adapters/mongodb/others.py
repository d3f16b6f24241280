"""What others write to MongoDB, behind the OthersFeed port: the change stream without docferry's own transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bson.timestamp import Timestamp
from pymongo import MongoClient, ReadPreference
from pymongo import errors as pymongo_errors
from pymongo.database import Database

from docferry import errors
from docferry.adapters.mongodb.change_events import only_in
from docferry.adapters.mongodb.change_stream import BATCH_EVENTS, LOST, RAW, TOO_LARGE, token_time
from docferry.adapters.mongodb.errors import mongo_errors
from docferry.core.cutover.fence_plan import StrayWrite
from docferry.core.mapping.raw import id_of
from docferry.core.namespaces import Namespaces
from docferry.ports.flows import OthersBatch, OthersWrite, StreamPosition

_ENDING = frozenset({"drop", "renameCollection", "dropDatabase"})
_OPERATIONS = {"i": "insert", "u": "update", "d": "delete", "c": "command"}
_OTHERS_FIELDS = {"_id": 1, "operationType": 1, "ns": 1, "to": 1, "clusterTime": 1, "documentKey": 1}
_OTHERS_IMAGES = {"fullDocument": 1, "fullDocumentBeforeChange": 1}


class MongoOthers:
    """OthersFeed: the change stream without what docferry's own user wrote in transactions.

    An event inside a transaction names its user, by the digest in `lsid.uid`; a plain one names none (tried on 6.0.5). So `own`
    tells docferry's writes while DynamoDB leads, all of which are transactions through the gates.
    """

    def __init__(
        self,
        client: MongoClient[Any],
        where: Namespaces | str,
        position: StreamPosition,
        collections: Sequence[str],
        own: bytes,
    ) -> None:
        self._where = Namespaces.at(where)
        # Of several databases the stream is the client's, in the client's own types: it must be one of raw documents.
        self._watched: Any = client if self._where.several else self._raw(client, self._where.default)
        self._names, self._own, self._position = sorted(collections), own, position
        self._stream: Any = None
        self._images = True

    @staticmethod
    def _raw(client: MongoClient[Any], database: str) -> Database[Any]:
        return client.get_database(database, codec_options=RAW, read_preference=ReadPreference.PRIMARY)

    def __repr__(self) -> str:
        return f"MongoOthers({str(self._where)!r})"

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
        whole = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
        ours = {"$or": [*self._named("ns"), *self._named("to"), whole]}
        # Computed: a match on the path itself is pushed down to the oplog, where plain writes bear it, too (seen on 6.0.5).
        whose = {"$set": {"user": {"$ifNull": ["$lsid.uid", ""]}}}
        images: dict[str, Any] = {"full_document": "whenAvailable", "full_document_before_change": "whenAvailable"}
        return self._watched.watch(
            [
                *([only_in(self._where)] if self._where.several else []),
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

    def _named(self, field: str) -> list[dict[str, Any]]:
        """What is about one of the collections, in each database."""
        found = self._where.by_database(self._names)
        if not self._where.several:
            return [{f"{field}.coll": {"$in": sorted(found[self._where.default])}}]
        return [{f"{field}.db": one, f"{field}.coll": {"$in": sorted(names)}} for one, names in found.items()]

    def _restart(self, *, images: bool) -> None:
        self.close()
        self._images = images

    def _move_on(self, token: Any, otherwise: Timestamp) -> None:
        if token is not None:
            time = token_time(token, otherwise)
            self._position = replace(self._position, time=time, token={"_data": token["_data"]}, n=0)

    def _write(self, event: Any) -> OthersWrite:
        key, about = event.get("documentKey"), event.get("ns") or {}
        collection = self._where.name_of(about["db"], about["coll"]) if "coll" in about else ""
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
        if isinstance(error, pymongo_errors.OperationFailure) and error.code in LOST:
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


# --- the same, as the oplog has it -----------------------------------------------------------------------------------


def changes_in(entry: Mapping[str, Any], names: set[str], commands: set[str]) -> Iterator[tuple[str, str]]:
    """(namespace, operation) of the changes of the migration's collections in an entry; a transaction holds many."""
    if entry["op"] != "c":
        if entry["ns"] in names and entry["op"] in _OPERATIONS:
            yield entry["ns"], _OPERATIONS[entry["op"]]
        return
    command = entry["o"]
    for one in command.get("applyOps", ()):
        yield from changes_in(one, names, commands)
    name = next(iter(command), "")
    if entry["ns"] in commands and name in _ENDING:
        about = entry["ns"].removesuffix("$cmd") + str(command[name])
        if name == "dropDatabase" or about in names or str(command[name]) in names or str(command.get("to")) in names:
            yield entry["ns"], name


def stray_in(entry: Mapping[str, Any], change: tuple[str, str], user: str) -> StrayWrite:
    at = entry["ts"]
    return StrayWrite(namespace=change[0], operation=change[1], at=f"{at.time:010d}:{at.inc:010d}", user=user)
