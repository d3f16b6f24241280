"""One database of MongoDB behind the Database port: dumped, restored into, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient, ReadPreference
from pymongo.errors import BulkWriteError
from pymongo.write_concern import WriteConcern

from docferry.adapters.mongodb.errors import CODES, mongo_errors
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import COLLECTION
from docferry.core.mapping.raw import id_document, id_of, ids_filter
from docferry.core.rollback_points.dump_files import CollectionSpec, has_empty_timestamp
from docferry.errors import RequestRefused
from docferry.ports.flows import Bounds

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
_MAJORITY = WriteConcern(w="majority")


class MongoDatabase:
    """Database over a MongoClient. `uri` carries the credentials and stays out of every message."""

    def __init__(self, uri: str, name: str) -> None:
        self._source = MongoSource(uri, name)
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(uri, serverSelectionTimeoutMS=15_000, appname="docferry")
        primary: dict[str, Any] = {"read_preference": ReadPreference.PRIMARY, "write_concern": _MAJORITY}
        self._database = self._client.get_database(name, codec_options=BSON_OPTIONS, **primary)
        self._raw = self._client.get_database(name, codec_options=_RAW, **primary)

    def __repr__(self) -> str:
        return f"MongoDatabase({self._database.name!r})"

    def close(self) -> None:
        self._source.close()
        self._client.close()

    # --- looking -----------------------------------------------------------------------------------------------------

    def specs(self) -> list[CollectionSpec]:
        with mongo_errors("listCollections"):
            found = [one for one in self._database.list_collections() if not one["name"].startswith("system.")]
        found = [one for one in found if one["name"] != COLLECTION]
        return [self._spec(one) for one in sorted(found, key=lambda one: str(one["name"]))]

    def _spec(self, found: Mapping[str, Any]) -> CollectionSpec:
        name, kind = str(found["name"]), str(found.get("type", "collection"))
        uuid = found.get("info", {}).get("uuid")
        options = found.get("options", {})
        if kind != "collection":
            return CollectionSpec(name=name, kind=kind, options=options)
        with mongo_errors(f"describe {name}"):
            indexes = tuple(dict(one) for one in self._database[name].list_indexes())
            stats = self._database.command("collStats", name)
        return CollectionSpec(
            name=name,
            kind=kind,
            uuid=bytes(uuid).hex() if uuid is not None else "",
            options=options,
            indexes=indexes,
            documents=int(stats["count"]),
            bytes=int(stats["size"]),
        )

    def cluster_time(self) -> Timestamp:
        return self._source.cluster_time()

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        return self._source.read_page(collection, bounds, after, limit, at)

    # --- writing -----------------------------------------------------------------------------------------------------

    def create(self, spec: CollectionSpec) -> None:
        with mongo_errors(f"create {spec.name}"):
            self._database.command({"create": spec.name, **spec.options, "writeConcern": {"w": "majority"}})

    def insert(self, collection: str, documents: Sequence[bytes]) -> None:
        raw = [RawBSONDocument(one) for one in documents]
        try:
            with mongo_errors(f"insert into {collection}"):
                self._raw[collection].insert_many(raw, ordered=False, bypass_document_validation=True)
                for one in filter(has_empty_timestamp, documents):
                    # An insert puts the time there; a pipeline takes what it is given.
                    whole = [{"$replaceWith": {"$literal": RawBSONDocument(one)}}]
                    chosen = RawBSONDocument(id_document(id_of(one)))
                    self._raw[collection].update_one(chosen, whole, bypass_document_validation=True)
        except RequestRefused as error:
            if isinstance(error.__cause__, BulkWriteError):
                raise _refused(collection, error.__cause__) from None  # the cause quotes documents
            raise

    def delete(self, collection: str, ids: Sequence[bytes]) -> None:
        if ids:
            with mongo_errors(f"delete documents of {collection}"):
                self._raw[collection].delete_many(RawBSONDocument(ids_filter(ids)))

    def index(self, spec: CollectionSpec) -> None:
        wanted = [dict(one) for one in spec.indexes if one["name"] != "_id_" and not one.get("clustered")]
        if wanted:
            command = {"createIndexes": spec.name, "indexes": wanted, "writeConcern": {"w": "majority"}}
            with mongo_errors(f"build the indexes of {spec.name}"):
                self._database.command(command)

    def drop(self) -> None:
        with mongo_errors(f"drop {self._database.name}"):
            self._database.command({"dropDatabase": 1, "writeConcern": {"w": "majority"}})


def _refused(collection: str, error: BulkWriteError) -> Exception:
    """What of many writes went wrong: codes and counts, no content. Nothing refused: a majority has not acknowledged."""
    found = (error.details or {}).get("writeErrors", ())
    codes = sorted({int(one["code"]) for one in found}) or [64]
    kind = next((CODES[code] for code in codes if code in CODES), RequestRefused)
    what = f"MongoDB refused {len(found)} of the documents for {collection} (codes {codes}; 11000: a key is taken)"
    return kind(what, operation="insert", code=str(codes[0]))
