"""The marker in MongoDB, behind the LeaderMarker port: one document that clients read, and the gates beside it.

All of them change in one transaction, so a transaction of reverse replication that has changed a gate keeps the marker from
being changed until it has ended, or ends itself with a write conflict. A transaction that only read the marker would not
(tried on 6.0.5: both commit).

A write through a gate that its sender decided upon under an earlier leader, or as an earlier holder of the lease, does not
happen, however late it arrives. What waits at the same time goes in one transaction, which makes up for what a transaction
costs; one that fails for a document's own fault is made again, write by write.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, MongoClient, ReadPreference, ReplaceOne
from pymongo.client_session import ClientSession
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from docferry.adapters.mongodb.errors import mongo_errors
from docferry.adapters.mongodb.operations import (
    APP,
    Operation,
    app_of,
    create_if_absent,
    current_operations,
    digests_of,
    kill_sessions,
)
from docferry.core.cutover.marker import COLLECTION, GATES, Leads, Marker
from docferry.errors import InvariantBroken, LeaseLost, TransientStoreError

T = TypeVar("T")
_MAJORITY = WriteConcern(w="majority")
_WITHIN_S = 15.0
ATTEMPT_S = 3.0
LEFT_OPEN_S = 75.0
"""MongoDB ends a transaction by itself after transactionLifetimeLimitSeconds, 60 by default, and looks each half of that."""
STILL_S = 1.0
READ_MS = 2_000
"""A read that no majority confirms is given up."""


def gate_of(migration: str, lane: int) -> str:
    """The `_id` of the gate of a lane."""
    return f"{migration}/gate/{lane % GATES}"


def read_command(migration: str) -> dict[str, Any]:
    """The marker as a majority confirms it at the time of asking, and so behind every write that was acknowledged before."""
    concern = {"level": "linearizable"}
    return {
        "find": COLLECTION, "filter": {"_id": migration}, "limit": 1, "singleBatch": True, "readConcern": concern,
        "maxTimeMS": READ_MS,
    }  # fmt: skip


def marker_in(reply: Mapping[str, Any]) -> Marker | None:
    """The marker in the reply to `read_command`."""
    batch = reply["cursor"]["firstBatch"]
    return _marker(batch[0]) if batch else None


class MongoLeader:
    """LeaderMarker over a MongoClient. `uri` carries the credentials and stays out of every message."""

    def __init__(self, uri: str, database: str, migration: str, **options: Any) -> None:
        settings: dict[str, Any] = {"serverSelectionTimeoutMS": 5_000, "appname": APP} | options
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(uri, **settings)
        self._database = self._client.get_database(database, read_preference=ReadPreference.PRIMARY)
        self._documents = self._database[COLLECTION]
        self._migration = migration

    def __repr__(self) -> str:
        return f"MongoLeader({self._migration!r})"

    def close(self) -> None:
        self._client.close()

    def read(self) -> Marker | None:
        with mongo_errors(f"read {COLLECTION}"), pymongo.timeout(READ_MS / 1000):
            return marker_in(self._database.command(read_command(self._migration)))

    def write(self, marker: Marker) -> Marker:
        return self._changed(f"write {COLLECTION}", lambda session: self._write(marker, session))

    def _write(self, marker: Marker, session: ClientSession) -> Marker:
        found = self._documents.find_one({"_id": self._migration}, session=session)
        about = {"rev": marker.revision, "epoch": marker.epoch, "leader": marker.leader.value}
        if found is None:
            self._documents.insert_many(self._made(about), session=session)
            return replace(marker, token=0)
        stored = _marker(found)
        if stored.revision >= marker.revision:
            return stored
        earlier = {"migration": self._migration, "rev": {"$lt": marker.revision}}
        self._require_all(self._documents.update_many(earlier, {"$set": about}, session=session).matched_count)
        return replace(marker, token=stored.token)

    def rehearse(self) -> None:
        self.read()

        def nothing(session: ClientSession) -> None:
            self._documents.update_one({"_id": f"{self._migration}/none"}, {"$set": {"token": 0}}, session=session)

        with mongo_errors(f"try {COLLECTION}"), pymongo.timeout(ATTEMPT_S), self._client.start_session() as session:
            session.with_transaction(nothing, read_concern=ReadConcern("snapshot"), write_concern=_MAJORITY)

    def raise_token(self, token: int) -> bool:
        def change(session: ClientSession) -> bool:
            lower = {"migration": self._migration, "leader": Leads.DYNAMODB.value, "token": {"$lte": token}}
            matched = self._documents.update_many(lower, {"$set": {"token": token}}, session=session).matched_count
            if matched:
                self._require_all(matched)
            return bool(matched)

        return self._changed(f"raise the token in {COLLECTION}", change, LEFT_OPEN_S)

    def _end_what_was_left_open(self) -> None:
        """End transactions of docferry's own user that stand still. One of a process at work is made again by its driver."""
        with mongo_errors("connectionStatus"):
            status = self._client.admin.command("connectionStatus")
        own = digests_of((one["db"], one["user"]) for one in status["authInfo"]["authenticatedUsers"])
        left = [
            one["lsid"]
            for one in current_operations(self._client, idle=False)
            if app_of(one) == APP
            and own.keys() & {bytes((one.get("lsid") or {}).get("uid", b""))}
            and _stands_still(one)
        ]
        kill_sessions(self._client, left)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _changed(self, operation: str, change: Callable[[ClientSession], T], for_s: float = _WITHIN_S) -> T:
        """One transaction. A process that was killed may have left one open that has changed a gate: it is ended then."""
        deadline = time.monotonic() + for_s
        while True:
            try:
                with mongo_errors(operation), pymongo.timeout(min(ATTEMPT_S, for_s)):
                    return self._changed_once(change)
            except TransientStoreError:
                if time.monotonic() > deadline:
                    raise
                self._end_what_was_left_open()

    def _changed_once(self, change: Callable[[ClientSession], T]) -> T:
        self._make_collection()
        while True:
            try:
                with self._client.start_session() as session:
                    concern = ReadConcern("snapshot")
                    return session.with_transaction(change, read_concern=concern, write_concern=_MAJORITY)
            except DuplicateKeyError:
                continue  # another process has made it meanwhile

    def _make_collection(self) -> None:
        if not self._database.list_collection_names(filter={"name": COLLECTION}):
            create_if_absent(self._database, COLLECTION)

    def _made(self, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        ids = [self._migration, *(gate_of(self._migration, lane) for lane in range(GATES))]
        return [{"_id": one, "migration": self._migration, **about, "token": 0, "writes": 0} for one in ids]

    def _require_all(self, matched: int) -> None:
        if matched != 1 + GATES:
            what = (
                f"{COLLECTION} has {matched} of the {1 + GATES} documents of {self._migration} that are changed as one"
            )
            raise InvariantBroken(f"{what}: another program has written there")


def _stands_still(operation: Operation) -> bool:
    return float((operation.get("transaction") or {}).get("timeOpenMicros", 0)) / 1e6 >= STILL_S


def _marker(found: Mapping[str, Any]) -> Marker:
    return Marker(
        revision=int(found["rev"]), epoch=int(found["epoch"]), leader=Leads(found["leader"]), token=int(found["token"])
    )


# --- writes through the gates ---------------------------------------------------------------------------------------

AT_ONCE = 2
"""Transactions under way at once, each through a gate of its own: more of them would be smaller ones. Measured with 32 threads
on one member, documents/s: plain puts 2,366, through 2 gates 3,752, 4 gates 2,062, 8 gates 2,258; each in one of its own 625."""
MOST = 32
"""Writes in a transaction."""
WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class GatedWrite:
    """One document to be put, or (`document` None) deleted."""

    collection: str
    chosen: RawBSONDocument = field(repr=False)
    document: RawBSONDocument | None = field(repr=False)
    done: Future[None] = field(default_factory=Future, repr=False)


class GatedWrites:
    """Writes of many threads, in transactions through the gates of `migration`, as the holder of `token`."""

    def __init__(
        self, client: MongoClient[Any], gates: Any, collection: Callable[[str], Any], migration: str, token: int
    ) -> None:
        """`gates` is the collection of the gates, `collection` gives that of a name of the file."""
        self._client, self._gates, self._collection = client, gates, collection
        self._migration, self._token = migration, token
        self._waiting: queue.SimpleQueue[GatedWrite | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"GatedWrites({self._migration!r}, {self._token})"

    def do(self, write: GatedWrite) -> None:
        """Return once a majority has it. Raises LeaseLost if the gate is another's, and what pymongo raises."""
        self._begin()
        self._waiting.put(write)
        write.done.result()

    def end(self) -> None:
        """What waits is done."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._waiting.put(None)
        for one in threads:
            one.join(timeout=WITHIN_S)

    def _begin(self) -> None:
        with self._lock:
            for lane in range(len(self._threads), AT_ONCE):
                gate = gate_of(self._migration, lane)
                thread = threading.Thread(target=self._serve, args=(gate,), name=f"gate {lane}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, gate: str) -> None:
        while (first := self._waiting.get()) is not None:
            writes = [first]
            while len(writes) < MOST and not self._waiting.empty():
                try:
                    another = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    self._waiting.put(None)  # of another thread, or this one's, for later
                    break
                writes.append(another)
            self._carry_out(gate, writes)

    def _carry_out(self, gate: str, writes: Sequence[GatedWrite]) -> None:
        try:
            self._commit(gate, lambda session: self._many(writes, session))
        except (OperationFailure, DocumentTooLarge) as error:
            if len(writes) > 1 and not _may_pass(error):
                for one in writes:
                    self._carry_out(gate, [one])
                return
            _fail(writes, error)
        except BaseException as error:  # noqa: BLE001 - handed to the threads that wait
            _fail(writes, error)
        else:
            for one in writes:
                one.done.set_result(None)

    def _commit(self, gate: str, change: Callable[[ClientSession], None]) -> None:
        def gated(session: ClientSession) -> None:
            ours = {"_id": gate, "leader": Leads.DYNAMODB.value, "token": self._token}
            if not self._gates.update_one(ours, {"$inc": {"writes": 1}}, session=session).matched_count:
                raise LeaseLost(f"reverse replication: {COLLECTION} in MongoDB names another holder, or another leader")
            change(session)

        with pymongo.timeout(WITHIN_S), self._client.start_session() as session:
            session.with_transaction(gated, read_concern=ReadConcern("snapshot"), write_concern=_MAJORITY)

    def _many(self, writes: Sequence[GatedWrite], session: ClientSession) -> None:
        if len(writes) == 1:
            self._one(writes[0], session)
            return
        names = dict.fromkeys(one.collection for one in writes)
        for name in names:
            asked = [_request(one) for one in writes if one.collection == name]
            self._collection(name).bulk_write(asked, session=session)

    def _one(self, write: GatedWrite, session: ClientSession) -> None:
        collection = self._collection(write.collection)
        if write.document is None:
            collection.delete_one(write.chosen, session=session)
        else:
            collection.replace_one(write.chosen, write.document, upsert=True, session=session)


def _may_pass(error: OperationFailure | DocumentTooLarge) -> bool:
    """Not for a document's own fault: all of it is tried again by the lanes that wait."""
    return isinstance(error, OperationFailure) and error.has_error_label("TransientTransactionError")


def _request(write: GatedWrite) -> Any:
    if write.document is None:
        return DeleteOne(write.chosen)
    return ReplaceOne(write.chosen, write.document, upsert=True)


def _fail(writes: Sequence[GatedWrite], error: BaseException) -> None:
    for one in writes:
        one.done.set_exception(error)
