"""MongoDB behind the AnalysisSource port: reads only, secondary preferred, each command with a time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database

from docferry.adapters.mongodb.errors import mongo_errors
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import COLLECTION
from docferry.core.namespaces import Namespaces
from docferry.ports.analyze import Related

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
_MAX_TIME_MS = 30_000
_PAGE = 200
_SEGMENTS = 50
_RANDOM_SHARE = 0.05
"""Below this share `$sample` takes a random cursor; above it would sort the whole collection."""
_PROFILED = 20_000


class MongoAnalysis:
    """AnalysisSource over a client of its own. `uri` carries the credentials and stays out of every message."""

    def __init__(self, uri: str, where: Namespaces | str) -> None:
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(
                uri, appname="docferry analyze", serverSelectionTimeoutMS=15_000, retryReads=True
            )
        self._where = Namespaces.at(where)
        self._primary = self._client.get_database(self._where.default, read_preference=ReadPreference.PRIMARY_PREFERRED)

    def __repr__(self) -> str:
        return f"MongoAnalysis({str(self._where)!r})"

    @property
    def where(self) -> Namespaces:
        return self._where

    def look_in(self, databases: Sequence[str]) -> None:
        """In these, too; names that two of them have are told apart."""
        with mongo_errors("listCollections"):
            there = {one: self._names(one) for one in (self._where.default, *databases)}
        self._where = Namespaces.named(
            self._where.default, {one: there[one] for one in databases}, there[self._where.default]
        )

    def _names(self, database: str) -> list[str]:
        names = self._database(database).list_collection_names()
        return sorted(one for one in names if not one.startswith("system.") and one != COLLECTION)

    def _database(self, name: str) -> Database[Any]:
        return self._client.get_database(name, read_preference=ReadPreference.SECONDARY_PREFERRED)

    def _collection(self, name: str, codec_options: CodecOptions[Any] | None = None) -> Collection[Any]:
        database, collection = self._where.place_of(name)
        return self._database(database).get_collection(collection, codec_options=codec_options)

    def close(self) -> None:
        self._client.close()

    def server(self) -> str:
        with mongo_errors("buildInfo"):
            build = self._client.admin.command("buildInfo")
            hello = self._client.admin.command("hello")
        kind = "mongos" if hello.get("msg") == "isdbgrid" else "replica set" if hello.get("setName") else "standalone"
        return f"MongoDB {build['version']}, {kind}"

    def collections(self) -> Sequence[Mapping[str, Any]]:
        with mongo_errors("listCollections"):
            found = [
                {**one, "name": self._where.name_of(database, one["name"])}
                for database in self._where.databases
                for one in self._database(database).list_collections()
                if not one["name"].startswith("system.") and one["name"] != COLLECTION
            ]
        return sorted(found, key=lambda one: str(one["name"]))

    def stats(self, collection: str) -> Mapping[str, Any]:
        with mongo_errors("collStats"):
            database, named = self._where.place_of(collection)
            return dict(self._database(database).command("collStats", named, maxTimeMS=_MAX_TIME_MS))

    def indexes(self, collection: str) -> Sequence[Mapping[str, Any]]:
        with mongo_errors("listIndexes"):
            return list(self._collection(collection).list_indexes())

    def index_uses(self, collection: str) -> Mapping[str, tuple[int, str]]:
        with mongo_errors("$indexStats"):
            found = list(self._collection(collection).aggregate([{"$indexStats": {}}], maxTimeMS=_MAX_TIME_MS))
        uses: dict[str, tuple[int, str]] = {}
        for one in found:  # one entry a member that answers
            count, since = int(one["accesses"]["ops"]), one["accesses"]["since"].date().isoformat()
            uses[one["name"]] = (uses.get(one["name"], (0, ""))[0] + count, since)
        return uses

    def latencies(self, collection: str) -> Mapping[str, tuple[int, float]]:
        stage: dict[str, Any] = {"$collStats": {"latencyStats": {}}}
        with mongo_errors("$collStats"):
            found = next(iter(self._collection(collection).aggregate([stage], maxTimeMS=_MAX_TIME_MS)))
        stats = found["latencyStats"]
        return {name: (int(one["ops"]), one["latency"] / max(one["ops"], 1) / 1000) for name, one in stats.items()}

    def uptime_s(self) -> float:
        with mongo_errors("serverStatus"):
            return float(self._client.admin.command("serverStatus", repl=0, metrics=0, locks=0)["uptime"])

    def sample(self, collection: str, documents: int, count: int) -> Iterator[Sequence[bytes]]:
        raw = self._collection(collection, _RAW)
        with mongo_errors(f"read {collection}"):
            if count <= documents:
                yield from _pages(raw.find({}, batch_size=_PAGE, max_time_ms=_MAX_TIME_MS * 10))
            elif documents < _RANDOM_SHARE * count:
                stage: list[dict[str, Any]] = [{"$sample": {"size": documents}}]
                yield from _pages(raw.aggregate(stage, batchSize=_PAGE, maxTimeMS=_MAX_TIME_MS * 10))
            else:
                yield from self._segments(collection, documents)

    def _segments(self, collection: str, documents: int) -> Iterator[Sequence[bytes]]:
        """Runs of neighbours that begin at random documents: a large share of a collection without sorting all of it."""
        raw = self._collection(collection, _RAW)
        starts = self._collection(collection).aggregate([{"$sample": {"size": _SEGMENTS}}, {"$project": {"_id": 1}}])
        for start in sorted((one["_id"] for one in starts), key=repr):
            run = raw.find({"_id": {"$gte": start}}, limit=documents // _SEGMENTS, batch_size=_PAGE, sort=[("_id", 1)])
            yield from _pages(run)

    def found(self, collection: str, path: str, values: Sequence[Any]) -> int:
        query = {path: {"$in": list(values)}}
        with mongo_errors(f"look up {path} in {collection}"):
            if path == "_id":
                return int(self._collection(collection).count_documents(query, maxTimeMS=_MAX_TIME_MS))
            groups: list[dict[str, Any]] = [
                {"$match": query},
                {"$limit": 50_000},
                {"$group": {"_id": f"${path}"}},
                {"$count": "n"},
            ]
            return next(
                (int(one["n"]) for one in self._collection(collection).aggregate(groups, maxTimeMS=_MAX_TIME_MS)), 0
            )

    def fan_out(self, collection: str, path: str, value: Any, most: int) -> int:
        with mongo_errors(f"count {path} in {collection}"):
            return int(self._collection(collection).count_documents({path: value}, limit=most, maxTimeMS=_MAX_TIME_MS))

    def fan_outs(self, collection: str, path: str, values: Sequence[Any]) -> list[int]:
        stages: list[dict[str, Any]] = [
            {"$match": {path: {"$in": list(values)}}},
            {"$project": {"_id": 0, "value": f"${path}"}},
            {"$unwind": "$value"},
            {"$match": {"value": {"$in": list(values)}}},
            {"$group": {"_id": "$value", "n": {"$sum": 1}}},
        ]
        with mongo_errors(f"count {path} in {collection}"):
            return [int(one["n"]) for one in self._collection(collection).aggregate(stages, maxTimeMS=_MAX_TIME_MS)]

    def repeated(self, collection: str, path: str, most: int) -> int:
        stages: list[dict[str, Any]] = [
            {"$match": {path: {"$exists": True}}},
            {"$group": {"_id": f"${path}", "n": {"$sum": 1}}},
            {"$match": {"n": {"$gt": 1}}},
            {"$limit": most},
            {"$count": "n"},
        ]
        with mongo_errors(f"count {path} of {collection}"):
            found = self._collection(collection).aggregate(stages, maxTimeMS=_MAX_TIME_MS)
            return next((int(one["n"]) for one in found), 0)

    def profiler(self) -> int:
        with mongo_errors("profile"):
            return int(self._primary.command("profile", -1)["was"])

    def set_profiler(self, level: int) -> None:
        with mongo_errors("profile"):
            self._primary.command("profile", level)

    def profiled(self) -> Iterator[Mapping[str, Any]]:
        with mongo_errors("read system.profile"):
            # Each member has its own; the application's calls are the primary's.
            for name in self._where.databases:
                database = self._client.get_database(name, read_preference=ReadPreference.PRIMARY_PREFERRED)
                yield from database["system.profile"].find({}, sort=[("$natural", -1)], limit=_PROFILED)

    def running(self) -> Sequence[Mapping[str, Any]]:
        match = {"ns": {"$regex": f"^({'|'.join(map(re.escape, self._where.databases))})\\."}}
        with mongo_errors("$currentOp"):
            stages: list[dict[str, Any]] = [
                {"$currentOp": {"allUsers": True, "idleConnections": False}},
                {"$match": match},
            ]
            return list(self._client.admin.aggregate(stages))

    def find_ids(
        self, collection: str, query: Mapping[str, Any], sort: Sequence[tuple[str, int]], limit: int
    ) -> tuple[list[Any], float]:
        began = time.perf_counter()
        with mongo_errors(f"find in {collection}"):
            cursor = self._decoded(collection).find(
                query, sort=list(sort) or None, limit=limit, max_time_ms=_MAX_TIME_MS
            )
            found = [one["_id"] for one in cursor]
        return found, time.perf_counter() - began

    def count_related(
        self, collection: str, query: Mapping[str, Any], related: Related, limit: int
    ) -> tuple[dict[Any, int], float]:
        lookup = {
            "from": self._where.place_of(related.collection)[1],
            "localField": related.field,
            "foreignField": related.path,
            "as": "related",
        }
        stages: list[dict[str, Any]] = [
            {"$match": dict(query)},
            {"$limit": limit},
            {"$lookup": lookup},
            {"$project": {"related": {"$size": "$related"}}},
        ]
        began = time.perf_counter()
        with mongo_errors(f"look up {related.collection} for {collection}"):
            found = list(self._decoded(collection).aggregate(stages, maxTimeMS=_MAX_TIME_MS))
        return {one["_id"]: int(one["related"]) for one in found}, time.perf_counter() - began

    def _decoded(self, collection: str) -> Any:
        """A collection whose documents are read as the rest of docferry reads them: no date is out of range."""
        return self._collection(collection, BSON_OPTIONS)

    def ping_ms(self) -> float:
        began = time.perf_counter()
        with mongo_errors("ping"):
            self._client.admin.command("ping", read_preference=ReadPreference.SECONDARY_PREFERRED)
        return (time.perf_counter() - began) * 1000


def _pages(cursor: Any) -> Iterator[Sequence[bytes]]:
    page: list[bytes] = []
    for document in cursor:
        page.append(bytes(document.raw))
        if len(page) >= _PAGE:
            yield page
            page = []
    if page:
        yield page
