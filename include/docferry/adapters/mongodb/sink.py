"""MongoDB behind the Sink port: one document at a time, acknowledged by a majority."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any

import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from docferry.adapters.mongodb.errors import mongo_errors
from docferry.adapters.mongodb.leader import WITHIN_S, GatedWrite, GatedWrites
from docferry.core.cutover.marker import COLLECTION
from docferry.core.mapping.raw import id_document, id_of
from docferry.core.namespaces import Namespaces
from docferry.errors import DuplicateKey, RefusedByStore, StoreError

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
_OF_THE_DOCUMENT: Mapping[int, str] = {
    52: "a field of it begins with $",  # DollarPrefixedFieldName
    66: "a field of it cannot be changed",  # ImmutableField
    121: "it fails the collection's validator",  # DocumentValidationFailure
    10334: "it is over 16 MB",  # BSONObjectTooLarge
    17280: "an index key of it is too long",  # KeyTooLong
}
"""Codes that say that this document cannot be stored, not that MongoDB is unwell. Source: error_codes.yml (6.0)."""


class MongoSink:
    """Sink over a MongoClient. `uri` carries the credentials and stays out of every message.

    Reads what a majority holds: a write of ours that was not acknowledged may still be rolled back, and must not look done.
    """

    def __init__(self, uri: str, where: Namespaces | str, migration: str, **options: Any) -> None:
        settings: dict[str, Any] = {"serverSelectionTimeoutMS": 15_000, "appname": "docferry"} | options
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(uri, **settings)
        self._where = Namespaces.at(where)
        self._migration = migration
        self._gated: GatedWrites | None = None
        self._opened: list[GatedWrites] = []

    def __repr__(self) -> str:
        return f"MongoSink({str(self._where)!r})"

    def _database(self, name: str) -> Database[Any]:
        return self._client.get_database(
            name,
            codec_options=_RAW,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern(w="majority"),
        )

    def _collection(self, name: str) -> Collection[Any]:
        database, collection = self._where.place_of(name)
        return self._database(database)[collection]

    def through(self, token: int) -> MongoSink:
        gated = copy(self)
        gates = self._database(self._where.default)[COLLECTION]
        gated._gated = GatedWrites(self._client, gates, gated._collection, self._migration, token)
        self._opened.append(gated._gated)
        return gated

    def close(self) -> None:
        for one in self._opened:
            one.end()
        self._client.close()

    def current(self, collection: str, id: bytes) -> bytes | None:
        with mongo_errors(f"read a document of {collection}"), pymongo.timeout(WITHIN_S):
            found = self._collection(collection).find_one(RawBSONDocument(id_document(id)))
        return None if found is None else bytes(found.raw)

    def put(self, collection: str, document: bytes) -> None:
        chosen = RawBSONDocument(id_document(id_of(document)))
        try:
            with _within(f"write a document of {collection}"):
                self._do(GatedWrite(collection, chosen, RawBSONDocument(document)))
        except _Duplicate as error:
            raise self._duplicate(collection, error.failure, chosen) from error.failure

    def delete(self, collection: str, id: bytes) -> None:
        with _within(f"delete a document of {collection}"):
            self._do(GatedWrite(collection, RawBSONDocument(id_document(id)), None))

    def _do(self, write: GatedWrite) -> None:
        if self._gated is not None:
            self._gated.do(write)
        elif write.document is None:
            self._collection(write.collection).delete_one(write.chosen)
        else:
            self._collection(write.collection).replace_one(write.chosen, write.document, upsert=True)

    def _duplicate(self, collection: str, failure: DuplicateKeyError, chosen: RawBSONDocument) -> DuplicateKey:
        """Names the index's fields, never what it holds."""
        details = failure.details or {}
        fields = [str(name) for name in details.get("keyPattern", {})]
        error = DuplicateKey(f"the unique index on {', '.join(fields)} holds the same for another document")
        error.path = ", ".join(fields)
        value = details.get("keyValue")
        if value and "_id" not in fields:
            with suppress(StoreError):  # without the holder's id the write is tried again all the same
                error.holder = self._holder(collection, dict(value), chosen)
        return error

    def _holder(self, collection: str, value: Mapping[str, Any], chosen: RawBSONDocument) -> bytes | None:
        with mongo_errors(f"read a document of {collection}"), pymongo.timeout(WITHIN_S):
            query = {"$and": [dict(value), {"_id": {"$ne": chosen["_id"]}}]}
            found = self._collection(collection).find_one(query, {"_id": 1})
        return None if found is None else id_of(bytes(found.raw))


class _Duplicate(Exception):
    """Carries the driver's error out of `mongo_errors`, which would tell its message: that quotes the document."""

    def __init__(self, failure: DuplicateKeyError) -> None:
        super().__init__("duplicate key")
        self.failure = failure


@contextmanager
def _within(operation: str) -> Iterator[None]:
    """A write: its time, and what of its errors is the document's own fault. The server gives it up after that time, too: an
    attempt that was given up does not happen behind the next one."""
    with mongo_errors(operation), pymongo.timeout(WITHIN_S):
        try:
            yield
        except DuplicateKeyError as error:
            raise _Duplicate(error) from None
        except DocumentTooLarge:
            raise RefusedByStore("MongoDB does not take the document: it is over 16 MB") from None
        except OperationFailure as error:
            what = _OF_THE_DOCUMENT.get(error.code or 0)
            if what is None:
                raise
            raise RefusedByStore(f"MongoDB does not take the document: {what}") from None
