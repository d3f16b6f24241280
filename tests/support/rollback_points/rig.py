"""A database with whatever a database may hold, rollback points of it, and a second look at what was restored."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import yaml
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from docferry.config import parse_migration
from docferry.core.cutover.marker import COLLECTION
from docferry.flows.kernel.job import Job
from docferry.rehearsal.oddities import EVERYWHERE
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import change_job, make_job
from docferry.wiring import Connections, who

from support.backfill.rig import Quiet, Rig, bare_shop_rig
from support.validate.planting import MAKERS

RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
ZERO = Timestamp(0, 0)
EVERY_TYPE = {
    "_id": MinKey(), "t": ZERO, "in": {"t": ZERO, "l": [ZERO]}, "d": 0.1, "nan": float("nan"), "s": "ü\x00", "b": b"\x00\xff",
    "sub": Binary(b"m" * 16, 5), "uuid": Binary.from_uuid(uuid.UUID(int=7)), "o": ObjectId(), "no": False, "null": None,
    "date": DatetimeMS(-(10**14)), "late": DatetimeMS(2**60), "r": Regex("^a", "i"), "code": Code("x"),
    "scope": Code("x", {"a": 1}),
    "i": 1, "l": Int64(1), "dec": Decimal128("12.50"), "min": MinKey(), "max": MaxKey(), "ref": DBRef("c", 1), "a.b": 1,
    "$set": {"$inc": {"": 1}}, "": {"": [[]]}, "nothing": {},
}  # fmt: skip
IDS = (MaxKey(), None, 1.5, Int64(2**40), "", "é", {"b": 1, "a": [2]}, b"\0", Decimal128("7.0"), True, ZERO)


def points_rig(stack: SandboxStack, directory: Path, plain: bool = False) -> Rig:
    """A shop with odd documents, and collections of every kind that a dump takes; `plain`: a few documents of a few kinds,
    which is made in a tenth of the time."""
    rig = bare_shop_rig(stack.env(), directory, f"points_{uuid.uuid4().hex[:8]}")
    change_file(rig, {"to": str(directory / "points")})
    (fill_plainly if plain else fill)(rig.database)
    return rig


def end(rig: Rig) -> None:
    """Its databases go, those beside it, too."""
    for name in rig.mongo.list_database_names():
        if name.startswith(rig.migration.source.database):
            rig.mongo.drop_database(name)
    rig.close()


def change_file(rig: Rig, section: Mapping[str, Any]) -> None:
    tree = yaml.safe_load(rig.file.read_text())
    # The stack's own connections, and the test's, are docferry's user.
    tree["cutover"] = {"waived_writers": ["docferry"], "waived_readers": ["docferry"]}
    rig.file.write_text(yaml.safe_dump(tree | {"rollback_points": dict(section)}, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))


def fill_plainly(database: Any) -> None:
    for name in ("users", "categories", "clustered"):
        database[name].insert_many([{"_id": number, "n": number} for number in range(30)])
    database["users"].create_index("n", unique=True)
    database["categories"].create_index("n")


def fill(database: Any) -> None:
    random = Random(3)
    for name, make in MAKERS.items():
        documents = [make(f"{name}-{number}") for number in range(len(EVERYWHERE) + 5)]
        for document, mutation in zip(documents, EVERYWHERE, strict=False):
            mutation.apply(document, random)
        database[name].insert_many(documents)
    database["users"].create_index("username", unique=True)
    database["users"].create_index(
        [("email", 1), ("createdAt", -1)], name="by mail", partialFilterExpression={"status": "active"}
    )
    database["products"].create_index([("name", "text"), ("description", "text")], weights={"name": 3})
    database["orders"].update_many({}, {"$set": {"keptUntil": datetime(2099, 1, 1)}})  # none expires beneath a test
    database["orders"].create_index("keptUntil", expireAfterSeconds=60)
    database["orders"].create_index("note", collation={"locale": "de", "strength": 1})
    database.create_collection("odd/ü &x", changeStreamPreAndPostImages={"enabled": True})
    database["odd/ü &x"].insert_many([{"_id": one, "n": number} for number, one in enumerate(IDS)])
    database.command("insert", "odd/ü &x", documents=[EVERY_TYPE])
    database["odd/ü &x"].update_one({"_id": MinKey()}, {"$set": {"t": ZERO}})  # an insert puts the time there
    database.create_collection("folded", collation={"locale": "de", "strength": 2})
    database["folded"].insert_many([{"_id": word} for word in ("ä", "b", "Z", "A")])
    database.create_collection("clustered", clusteredIndex={"key": {"_id": 1}, "unique": True})
    database["clustered"].insert_many([{"_id": number} for number in range(30)])
    database.create_collection("strict")
    database["strict"].insert_one({"_id": 1, "n": "no number"})
    database.command("collMod", "strict", validator={"n": {"$type": "int"}})
    database.create_collection("empty")
    database.create_collection("cheap", viewOn="products", pipeline=[{"$match": {"price": {"$lt": Decimal128("5")}}}])


def work(rig: Rig, **parts: Any) -> Job:
    """The job, on real servers; `parts` of it replaced."""
    connections = Connections(mongo_uri=rig.env["DOCFERRY_MONGO_URI"], session=rig._session)
    points = connections.points(rig.migration)
    ours = {name: parts.pop(name) for name in points.__dataclass_fields__ if name in parts}
    job = make_job(
        migration=rig.migration,
        ledger=connections.ledger(rig.migration),
        identity=who("test"),
        progress=Quiet(),
        clients=connections.clients(),
        points=replace(points, **ours),
    )
    return change_job(job, **parts)


def while_reading(job: Job, do: Callable[[str], None]) -> Job:
    """The same job; `do` is called with the collection's name before each page that is read."""

    @contextmanager
    def database(name: str) -> Iterator[Any]:
        with job.points.database(name) as inner:
            yield _Watched(inner, do)

    opener: Callable[[str], AbstractContextManager[Any]] = database
    return change_job(job, points=replace(job.points, database=opener))


class _Watched:
    def __init__(self, inner: Any, do: Callable[[str], None]) -> None:
        self._inner, self._do = inner, do

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_page(self, collection: str, *rest: Any) -> Any:
        self._do(collection)
        return self._inner.read_page(collection, *rest)


# --- a second look ---------------------------------------------------------------------------------------------------


def contents(database: Any) -> dict[str, list[bytes]]:
    """Every document of every collection but the marker of the leader, byte for byte, in the order of the ids."""
    return {
        one["name"]: [
            bytes(document.raw)
            for document in database.get_collection(one["name"], codec_options=RAW).find().hint([("_id", 1)])
        ]
        for one in database.list_collections()
        if one["type"] == "collection" and not one["name"].startswith("system.") and one["name"] != COLLECTION
    }


def shapes(database: Any) -> dict[str, Any]:
    """Options and indexes of everything, as MongoDB tells them."""
    return {
        one["name"]: (
            one["type"],
            one["options"],
            [dict(index) for index in database[one["name"]].list_indexes()] if one["type"] == "collection" else [],
        )
        for one in database.list_collections()
        if not one["name"].startswith("system.")
    }
