"""The marker in MongoDB, behind the LeaderMarker port: one document that clients read, and the gates beside it.

All of them change in one transaction, so a transaction of reverse replication that has changed a gate keeps the marker from
being changed until it has ended, or ends itself with a write conflict. A transaction that only read the marker would not
(tried on 6.0.5: both commit).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import CollectionInvalid, DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from docferry.adapters.mongodb.errors import mongo_errors
from docferry.adapters.mongodb.operations import APP
from docferry.core.cutover.marker import COLLECTION, GATES, Leads, Marker
from docferry.errors import InvariantBroken

T = TypeVar("T")
_WITHIN_S = 15.0
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
        with mongo_errors(f"read {COLLECTION}"), pymongo.timeout(_WITHIN_S):
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

    def raise_token(self, token: int) -> bool:
        def change(session: ClientSession) -> bool:
            lower = {"migration": self._migration, "leader": Leads.DYNAMODB.value, "token": {"$lte": token}}
            matched = self._documents.update_many(lower, {"$set": {"token": token}}, session=session).matched_count
            if matched:
                self._require_all(matched)
            return bool(matched)

        return self._changed(f"raise the token in {COLLECTION}", change)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _changed(self, operation: str, change: Callable[[ClientSession], T]) -> T:
        with mongo_errors(operation), pymongo.timeout(_WITHIN_S):
            self._make_collection()
            while True:
                try:
                    with self._client.start_session() as session:
                        return session.with_transaction(
                            change, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
                        )
                except DuplicateKeyError:
                    continue  # another process has made it meanwhile

    def _make_collection(self) -> None:
        if not self._database.list_collection_names(filter={"name": COLLECTION}):
            try:
                self._database.create_collection(COLLECTION)
            except CollectionInvalid:
                return

    def _made(self, about: Mapping[str, Any]) -> list[dict[str, Any]]:
        ids = [self._migration, *(gate_of(self._migration, lane) for lane in range(GATES))]
        return [{"_id": one, "migration": self._migration, **about, "token": 0, "writes": 0} for one in ids]

    def _require_all(self, matched: int) -> None:
        if matched != 1 + GATES:
            what = (
                f"{COLLECTION} has {matched} of the {1 + GATES} documents of {self._migration} that are changed as one"
            )
            raise InvariantBroken(f"{what}: another program has written there")


def _marker(found: Mapping[str, Any]) -> Marker:
    return Marker(
        revision=int(found["rev"]), epoch=int(found["epoch"]), leader=Leads(found["leader"]), token=int(found["token"])
    )
