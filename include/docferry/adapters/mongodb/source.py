"""MongoDB behind the Source port: facts, stream position, and pages that each name their snapshot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from bson.codec_options import CodecOptions
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database

from docferry import errors
from docferry.adapters.mongodb.change_events import value_at
from docferry.adapters.mongodb.change_stream import MongoFeed, scope_of, stream_database, stream_options
from docferry.adapters.mongodb.errors import mongo_errors
from docferry.adapters.mongodb.operations import create_if_absent, digest_of_own
from docferry.adapters.mongodb.others import MongoOthers
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import COLLECTION
from docferry.core.mapping.mapping import KeyFields
from docferry.core.mapping.raw import id_bytes, id_document, id_of, ids_filter
from docferry.core.namespaces import Namespaces
from docferry.ports.flows import Bounds, MemberFacts, ServerFacts, SourceCatalog, SourceFacts, StreamPosition

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
_AS_RAW: Mapping[str, Any] = {
    "document_class": RawBSONDocument,
    "unicode_decode_error_handler": "replace",
    "readPreference": "primary",
}
_LAG_TIME_MS = 4_000
"""How long a secondary may take to show a snapshot; a page takes milliseconds, so one that does not is behind."""
_MAX_TIME_MS = 20_000
_SAMPLE_TIME_MS = 30_000
_BINARY = {"locale": "simple"}
"""A collection may have another collation of its own."""
_PASS_OVER_S = 60.0
_AT_ONCE = 8
LEAST_TIMEOUT_S = 5.0
"""Of an address: the change stream waits for a second on the server, a page for up to `_LAG_TIME_MS`."""


class MongoSource:
    """Source over a MongoClient. `uri` carries the credentials and stays out of every message."""

    def __init__(self, uri: str, where: Namespaces | str, **options: Any) -> None:
        settings: dict[str, Any] = {
            "serverSelectionTimeoutMS": 15_000,
            "appname": "docferry",
            "retryReads": True,
        } | options
        with mongo_errors("connect"):
            self._client: MongoClient[Any] = MongoClient(uri, **settings)
        _require_patience(self._client)
        self._where = Namespaces.at(where)
        self._raw = partial(MongoClient[Any], uri, **{**settings, **_AS_RAW})
        self._raw_client: MongoClient[Any] | None = None
        self._seen = Timestamp(0, 0)
        self._primary_until = 0.0

    def __repr__(self) -> str:
        return f"MongoSource({str(self._where)!r})"

    def close(self) -> None:
        self._client.close()
        if self._raw_client is not None:
            self._raw_client.close()

    def _database(self, name: str, codec_options: CodecOptions[Any] = BSON_OPTIONS) -> Database[Any]:
        return self._client.get_database(name, codec_options=codec_options)

    def _place(self, name: str, codec_options: CodecOptions[Any] = BSON_OPTIONS) -> tuple[Database[Any], str]:
        """(database, collection) of the file's name."""
        database, collection = self._where.place_of(name)
        return self._database(database, codec_options), collection

    def _collection(self, name: str, codec_options: CodecOptions[Any] = BSON_OPTIONS) -> Collection[Any]:
        database, collection = self._place(name, codec_options)
        return database[collection]

    # --- facts -------------------------------------------------------------------------------------------------------

    def server_facts(self) -> ServerFacts:
        with mongo_errors("hello"):
            hello = self._client.admin.command("hello")
            build = self._client.admin.command("buildInfo")
        in_a_set = bool(hello.get("setName"))
        needed, members = self._members() if in_a_set else (1, ())
        return ServerFacts(
            version=tuple(build["versionArray"][:3]),
            replica_set=hello.get("setName"),
            mongos=hello.get("msg") == "isdbgrid",
            write_majority_ok=in_a_set and (not members or sum(one.follows for one in members) >= needed),
            write_majority=needed,
            members=members,
        )

    def _members(self) -> tuple[int, tuple[MemberFacts, ...]]:
        """(how many a majority write needs, all members as the primary sees them)."""
        try:
            with mongo_errors("replSetGetStatus"):
                status = self._client.admin.command("replSetGetStatus")
        except errors.AccessDenied:
            return 1, ()  # a user without clusterMonitor: the first majority write or read will tell
        members = tuple(
            MemberFacts(name=str(one["name"]), state=str(one.get("stateStr")), follows=one.get("state") in (1, 2))
            for one in status["members"]
        )
        return int(status.get("writeMajorityCount", 1)), members

    def catalog(self) -> SourceCatalog:
        found = {
            self._where.name_of(database, str(one["name"])): str(one.get("type", "collection"))
            for database in self._where.databases
            for one in self._listed(database)
            if not one["name"].startswith("system.") and one["name"] != COLLECTION
        }
        try:
            with mongo_errors("listDatabases"):
                databases = [one["name"] for one in self._client.list_databases(nameOnly=True)]
        except errors.AccessDenied:
            databases = []
        return SourceCatalog(collections=found, databases=tuple(databases))

    def privileges(self) -> Sequence[Mapping[str, Any]] | None:
        with mongo_errors("connectionStatus"):
            info = self._client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
        return list(info["authenticatedUserPrivileges"]) if info["authenticatedUsers"] else None

    def _listed(self, database: str, **only: Any) -> list[Mapping[str, Any]]:
        with mongo_errors("listCollections"):
            return list(self._database(database).list_collections(**only))

    def collection_facts(self, collection: str) -> SourceFacts:
        database, named = self._where.place_of(collection)
        found = self._listed(database, filter={"name": named})
        return self._facts(collection, found[0] if found else None)

    def facts_of(self, collections: Sequence[str]) -> list[SourceFacts]:
        asked = [one for one, names in self._where.by_database(collections).items() if names]
        listed = {
            self._where.name_of(database, one["name"]): one for database in asked for one in self._listed(database)
        }
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda name: self._facts(name, listed.get(name)), collections))

    def _facts(self, collection: str, found: Mapping[str, Any] | None) -> SourceFacts:
        """Of one collection as listCollections has it."""
        kind = "missing" if found is None else str(found.get("type", "collection"))
        options = {} if found is None else found.get("options", {})
        if kind != "collection":
            return SourceFacts(name=collection, kind=kind, documents=0, average_bytes=0.0, unique=(), options=options)
        with mongo_errors("collStats"):
            database, named = self._place(collection)
            stats = database.command("collStats", named)
            indexes = list(database[named].list_indexes())
        return SourceFacts(
            name=collection,
            kind=kind,
            documents=int(stats["count"]),
            average_bytes=float(stats.get("avgObjSize", 0)),
            images=bool(options.get("changeStreamPreAndPostImages", {}).get("enabled")),
            capped=bool(options.get("capped")),
            indexes=tuple(indexes),
            options=options,
            unique=tuple(frozenset(index["key"]) for index in indexes if _is_fully_unique(index)),
            partly_unique=tuple(
                frozenset(index["key"]) for index in indexes if index.get("unique") and not _is_fully_unique(index)
            ),
        )

    # --- time --------------------------------------------------------------------------------------------------------

    def cluster_time(self) -> Timestamp:
        with mongo_errors("read the cluster time"):
            # The primary's last operation. A snapshot read at it waits until a majority has it.
            reply = self._client.admin.command("ping", read_preference=ReadPreference.PRIMARY)
        self._seen = max(self._seen, reply["operationTime"])
        return self._seen

    def stream_position(self, at: Timestamp | None = None) -> StreamPosition:
        scope = scope_of(self._where)
        if at is not None:
            return StreamPosition(time=at, token=self._token_at(at), scope=scope)
        watched: Any = self._client if self._where.several else self._database(self._where.default)
        with mongo_errors("open the change stream"), watched.watch(max_await_time_ms=200) as stream:
            stream.try_next()
            token = stream.resume_token
        if token is None:
            raise errors.Unavailable("the change stream gave no resume token", operation="watch")
        # Read after the token: every page is at this time or later, so following from the token misses nothing.
        return StreamPosition(time=self.cluster_time(), token=dict(token), scope=scope)

    def _token_at(self, at: Timestamp) -> Mapping[str, Any]:
        """Of an empty first batch: the point in the stream before the first event of that time."""
        stream = {"$changeStream": {"startAtOperationTime": at} | stream_options(self._where)}
        database = self._database(stream_database(self._where))
        with mongo_errors("open the change stream at a time"):
            command = {"aggregate": 1, "pipeline": [stream], "cursor": {"batchSize": 0}}
            cursor = database.command(command)["cursor"]
            database.command({"killCursors": cursor["ns"].partition(".")[2], "cursors": [cursor["id"]]})
        return dict(cursor["postBatchResumeToken"])

    def follow(self, position: StreamPosition, key_fields: Mapping[str, KeyFields]) -> MongoFeed:
        return MongoFeed(self._client, self._where, position, key_fields)

    def writes_of_others(self, position: StreamPosition, collections: Sequence[str]) -> MongoOthers:
        own, client = digest_of_own(self._client), self._client
        if self._where.several:
            client = self._raw_client = self._raw_client or self._raw()
        return MongoOthers(client, self._where, position, collections, own)

    # --- images and windows ------------------------------------------------------------------------------------------

    def enable_images(self, collection: str) -> None:
        images = {"enabled": True}
        with mongo_errors(f"switch on images of {collection}"):
            database, named = self._place(collection)
            there = bool(database.list_collection_names(filter={"name": named}))
            if there or not create_if_absent(database, named, changeStreamPreAndPostImages=images):
                database.command("collMod", named, changeStreamPreAndPostImages=images)

    def changes_per_s(self) -> float | None:
        try:
            with mongo_errors("serverStatus"):
                status = self._client.admin.command("serverStatus", read_preference=ReadPreference.PRIMARY)
        except errors.AccessDenied:
            return None
        counts = status["metrics"]["document"]
        return float(counts["updated"] + counts["deleted"]) / max(1.0, float(status["uptime"]))

    def expire_images_after_s(self) -> float | None:
        with mongo_errors("read changeStreamOptions"):
            reply = self._client.admin.command({"getClusterParameter": "changeStreamOptions"})
        found = reply["clusterParameters"][0]["preAndPostImages"]["expireAfterSeconds"]
        return None if found == "off" else float(found)

    def oplog_reach(self) -> tuple[Timestamp, Timestamp]:
        with mongo_errors("read the oplog's ends"):
            entries = self._client.get_database("local")["oplog.rs"]
            first = entries.find({}, {"ts": 1}).sort("$natural", 1).limit(1).next()
            last = entries.find({}, {"ts": 1}).sort("$natural", -1).limit(1).next()
        return first["ts"], last["ts"]

    def oplog_window_s(self) -> float:
        with mongo_errors("read the oplog's ends"):
            local = self._client.get_database("local")
            stats = local.command("collStats", "oplog.rs")
            first = local["oplog.rs"].find({}, {"ts": 1}).sort("$natural", 1).limit(1).next()
            last = local["oplog.rs"].find({}, {"ts": 1}).sort("$natural", -1).limit(1).next()
        span_s = float(max(1, last["ts"].time - first["ts"].time))
        # An oplog that is not full yet will reach further back once it is, at the rate seen so far.
        return span_s * max(1.0, int(stats["maxSize"]) / max(1, int(stats["size"])))

    # --- reading -----------------------------------------------------------------------------------------------------

    def longer_than(
        self, collection: str, arrays: Sequence[str], most: int, for_s: float, only: Mapping[str, Any] | None = None
    ) -> int | None:
        total = {"$add": [_subdocuments(path) for path in arrays]}
        return self.count(collection, {**(only or {}), "$expr": {"$gt": [total, most]}}, for_s)

    def count(self, collection: str, only: Mapping[str, Any], for_s: float) -> int | None:
        stages: list[dict[str, Any]] = [{"$match": dict(only)}, {"$count": "n"}]
        options: dict[str, Any] = {"maxTimeMS": int(for_s * 1_000), "collation": _BINARY}
        try:
            with mongo_errors(f"count documents of {collection}"):
                found = self._collection(collection).aggregate(stages, **options)
                return next((int(one["n"]) for one in found), 0)
        except errors.TimedOut:
            return None

    def sample_ids(self, collection: str, size: int) -> list[bytes]:
        pipeline = [{"$sample": {"size": size}}, {"$project": {"_id": 1}}, {"$sort": {"_id": 1}}]
        raw = self._collection(collection, _RAW)
        with mongo_errors("sample ids"):
            return [id_of(bytes(document.raw)) for document in raw.aggregate(pipeline, allowDiskUse=True)]

    def sample_documents(self, collection: str, size: int, only: Mapping[str, Any] | None = None) -> list[bytes]:
        raw = self._collection(collection, _RAW)
        stages: list[dict[str, Any]] = [{"$match": dict(only)}] if only else []
        options: dict[str, Any] = {"maxTimeMS": _SAMPLE_TIME_MS, "collation": _BINARY} if only else {}
        with mongo_errors("sample documents"):
            return [bytes(one.raw) for one in raw.aggregate([*stages, {"$sample": {"size": size}}], **options)]

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        at_max_key = id_bytes(MaxKey())
        if after == at_max_key or bounds.upper == id_bytes(MinKey()):
            return []
        lower = after if after is not None else bounds.lower
        # The server refuses min(MaxKey) without a max(), as it refuses max(MinKey) without a min().
        wanted = limit + (after is not None)
        documents = self._find(collection, lower, bounds.upper, wanted, at) if lower != at_max_key else []
        if after is not None and documents and id_of(documents[0]) == after:
            # A batch ends at 16 MB, so `after` alone may have filled it: ask for what comes behind it.
            documents = documents[1:] or self._find(collection, after, bounds.upper, limit, at, skip=1)
        if not documents and bounds.upper is None and lower is not None:
            # min() without max() leaves out an _id that is MaxKey: the last range still owes it.
            return self._find_filter(collection, {"_id": MaxKey()}, 1, at)
        return documents

    def read_ids(self, collection: str, ids: Sequence[bytes], at: Timestamp) -> list[bytes]:
        wanted = list(ids)
        found: list[bytes] = []
        while wanted:  # a batch ends at 16 MB: ask again for what is left, or for nothing more
            batch = self._find_filter(collection, RawBSONDocument(ids_filter(wanted)), len(wanted), at)
            found += batch
            if not batch or len(batch) == len(wanted):
                break
            have = {id_of(document) for document in batch}
            left = [one for one in wanted if one not in have]
            if len(left) == len(wanted):
                break
            wanted = left
        return found

    def _find(
        self, collection: str, lower: bytes | None, upper: bytes | None, limit: int, at: Timestamp, skip: int = 0
    ) -> list[bytes]:
        options: dict[str, Any] = {"filter": {}, "hint": {"_id": 1}, "skip": skip}
        if lower is not None:
            options["min"] = RawBSONDocument(id_document(lower))
        if upper is not None:
            options["max"] = RawBSONDocument(id_document(upper))
        return self._command(collection, limit, at, options)

    def _find_filter(self, collection: str, query: Mapping[str, Any], limit: int, at: Timestamp) -> list[bytes]:
        return self._command(collection, limit, at, {"filter": query, "hint": {"_id": 1}})

    def _command(self, collection: str, limit: int, at: Timestamp, options: Mapping[str, Any]) -> list[bytes]:
        """One `find` that is one page: a single batch, so that nothing stays open on the server, at most 16 MB.

        A secondary that cannot show `at` soon lags: the page comes from the primary, and so do those of the next minute.
        """
        command = dict(options) | {
            "limit": limit,
            "batchSize": limit,
            "singleBatch": True,
            "readConcern": {"level": "snapshot", "atClusterTime": at},
        }
        if time.monotonic() < self._primary_until:
            return self._page(collection, command, ReadPreference.PRIMARY, _MAX_TIME_MS)
        try:
            return self._page(collection, command, ReadPreference.SECONDARY_PREFERRED, _LAG_TIME_MS)
        except errors.TimedOut:
            self._primary_until = time.monotonic() + _PASS_OVER_S
            return self._page(collection, command, ReadPreference.PRIMARY, _MAX_TIME_MS)

    def _page(self, collection: str, command: Mapping[str, Any], preference: Any, max_time_ms: int) -> list[bytes]:
        with mongo_errors(f"read a page of {collection}"):
            database, named = self._place(collection)
            reply = database.command(
                "find", named, **command, maxTimeMS=max_time_ms, read_preference=preference, codec_options=_RAW
            )
            return [bytes(document.raw) for document in reply["cursor"]["firstBatch"]]


def _require_patience(client: MongoClient[Any]) -> None:
    """Raises ConfigError, if the address gives up an answer before the server has had its time: the change stream's next
    events, which are waited for on the server, would then never come."""
    pool, whole_s = client.options.pool_options, client.options.timeout
    for name, given_s in (("socketTimeoutMS", pool.socket_timeout), ("timeoutMS", whole_s)):
        if given_s and given_s < LEAST_TIMEOUT_S:
            what = f"gives up each answer after {given_s * 1000:,.0f} ms; docferry waits on the server for longer than that"
            advice = f"leave {name} out of the address, or set it to {LEAST_TIMEOUT_S * 1000:.0f} or more"
            raise errors.ConfigError("MongoDB's address", [errors.Problem(where=name, what=what, suggestion=advice)])


def _subdocuments(path: str) -> dict[str, Any]:
    """The length of an array that holds subdocuments alone; of anything else 0."""
    is_object = {"$eq": [{"$type": "$$this"}, "object"]}
    all_are = {"$allElementsTrue": [{"$map": {"input": "$$array", "in": is_object}}]}
    length = {"$cond": [{"$isArray": ["$$array"]}, {"$cond": [all_are, {"$size": "$$array"}, 0]}, 0]}
    return {"$let": {"vars": {"array": value_at("$$ROOT", path.split("."))}, "in": length}}


def _is_fully_unique(index: Mapping[str, Any]) -> bool:
    """Only an index over all documents keeps all keys apart; `_id_` is unique without saying so."""
    unique = index.get("unique") or index["name"] == "_id_"
    return bool(unique and "partialFilterExpression" not in index and index.get("prepareUnique") is None)
