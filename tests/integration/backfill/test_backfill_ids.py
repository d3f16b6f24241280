"""Ids of every kind, documents of every BSON type, huge ones, none at all: each arrives on a key of its own, as it was."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.bson_codec.encode import BSON_TYPES
from docferry.errors import TimedOut
from docferry.flows.backfill.chunks import prepare
from docferry.flows.ledger.dead_letters import letter_document, list_letters, read_letter
from docferry.flows.ledger.positions import recorded_position
from docferry.ports.flows import Bounds
from docferry.rehearsal.independent import judge
from docferry.rehearsal.independent.appearance import canonical
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig, generic_rig
from support.pace import Pace

pytestmark = pytest.mark.xdist_group("backfill_ids")
OID = ObjectId("507f1f77bcf86cd799439011")
MOMENT = datetime(2024, 1, 15, 15, 45, 0, 123_000, tzinfo=UTC)

IDS: list[Any] = [
    MinKey(), None,
    1, "1", 0, -1, 1.5, -1.5, Int64(2**53), Int64(-(2**63)), float("inf"), float("-inf"), float("nan"), 1e300,
    Decimal128("2.50"), Decimal128("1E+40"), Decimal128("-1E-40"), "2.5", "~i1", "~n", "~s", "", " ", "null", "true",
    "a#b", "a~hb", "a~b", "#", "~", "~~", "a", "a\x00b", "ä", "🦜", "IDS#1", "{_id}", "x" * 1000,
    {}, {"a": 1}, {"a": "1"}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {"b": None}}, {"a": [1, {"c": MinKey()}]},
    Binary(b"", 0), Binary(b"\x00", 0), Binary(b"\xff", 0), Binary(b"x", 2), Binary(b"x" * 16, 3), Binary(b"x" * 16, 5),
    Binary(b"x", 128), Binary.from_uuid(UUID(int=7)), str(UUID(int=7)), Binary(UUID(int=7).bytes, 0), Binary(b"short", 4),
    OID, str(OID), ObjectId("0" * 24), ObjectId("f" * 24), str(OID).upper(),
    False, True, "False",
    MOMENT, "2024-01-15T15:45:00.123Z", datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    DatetimeMS(-(2**60)), DatetimeMS(2**60), int(MOMENT.timestamp()) * 1000,
    Timestamp(1, 2), Timestamp(2**32 - 1, 0), "1:2",
    Code("x"), Code("x", {}), Code("x", {"a": 1}), "x",
    MaxKey(), "MinKey", "MaxKey",
]  # fmt: skip
"""One of each: MongoDB takes 1, 1.0, Int64(1) and Decimal128("1") for the same id, and so do we."""


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack() as opened:
        with opened.mongo.client() as client:
            # 15 MB documents need room: a transaction may fill only a part of the cache.
            client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig="cache_size=1G")
            shuffled = [{"_id": one, "n": n} for n, one in enumerate(IDS)]
            Random(3).shuffle(shuffled)
            client["ids"]["ids"].insert_many(shuffled)
        yield opened


def rig_for(stack: SandboxStack, directory: Path, *names: str, **settings: Any) -> Rig:
    return generic_rig(stack.env(), directory, "ids", names, **settings)


def assert_equal(rig: Rig, name: str, dead: frozenset[bytes] = frozenset()) -> judge.Verdict:
    verdict = judge.judge_generic(rig.database, rig.dynamodb, rig.table, name, dead)
    assert verdict.counts == (0, 0, 0), verdict
    return verdict


# --- ids -------------------------------------------------------------------------------------------------------------


def test_ids_under_test_are_of_at_least_twelve_bson_types() -> None:
    kinds = Counter(bson.encode({"": one})[4] for one in IDS)
    assert len(kinds) >= 12, kinds
    assert {0xFF, 0x7F, 0x0A, 0x01, 0x02, 0x03, 0x05, 0x07, 0x08, 0x09, 0x10, 0x11, 0x12, 0x13} <= kinds.keys()


@pytest.mark.parametrize("page_documents", [1, 2, 5])
@pytest.mark.parametrize("chunk_documents", [1, 2, 3, 7, 1000])
def test_ids_of_every_type_arrive_whatever_the_chunk_and_page_size(
    stack: SandboxStack, tmp_path: Path, chunk_documents: int, page_documents: int
) -> None:
    rig = rig_for(stack, tmp_path, "ids", chunk_documents=chunk_documents, page_documents=page_documents)
    report = rig.load()["ids"]
    assert (report.counts.read, report.counts.written, report.counts.dead) == (len(IDS), len(IDS), 0)
    if chunk_documents < 7:
        assert report.chunks > len(IDS) / chunk_documents / 3, "the ids were not cut into chunks"
    assert assert_equal(rig, "ids").items == len(IDS)
    rig.close()


def test_ids_arrive_when_a_boundary_is_the_greatest_or_the_smallest_id(stack: SandboxStack) -> None:
    source = MongoSource(stack.env()["DOCFERRY_MONGO_URI"], "ids")
    at = source.cluster_time()
    ordered = source.sample_ids("ids", 10_000)
    for edge in (bson.encode({"": MinKey()}), bson.encode({"": MaxKey()}), ordered[len(ordered) // 2]):
        found = [read_all(source, bounds, at) for bounds in (Bounds(None, edge), Bounds(edge, None))]
        assert sorted(found[0] + found[1]) == list(range(len(IDS)))
    source.close()


def read_all(source: MongoSource, bounds: Bounds, at: Timestamp, limit: int = 3) -> list[int]:
    found: list[int] = []
    after = None
    while page := source.read_page("ids", bounds, after, limit, at):
        documents = [bson.decode(one, judge.OPTIONS) for one in page]
        found += [one["n"] for one in documents]
        after = bson.encode({"": documents[-1]["_id"]})
    return found


@pytest.mark.parametrize("create", [True, False], ids=["empty", "missing"])
def test_collection_without_documents_is_complete_at_once(stack: SandboxStack, tmp_path: Path, create: bool) -> None:
    name = f"nothing_{create}"
    with stack.mongo.client() as client:
        if create:
            client["ids"].create_collection(name)
    rig = rig_for(stack, tmp_path, name)
    report = rig.load()[name]
    assert (report.counts.read, report.chunks) == (0, 1)
    assert rig.scan() == {}
    assert rig.load()[name].already_complete
    rig.close()


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_huge_documents_become_dead_letters_and_their_neighbours_arrive(stack: SandboxStack, tmp_path: Path) -> None:
    huge = {n: {"_id": n, "data": Random(n).randbytes(15_000_000)} for n in (2, 3, 4)}
    fits = {"_id": 5, "data": Random(5).randbytes(390_000)}
    with stack.mongo.client() as client:
        collection = client["ids"]["huge"]
        documents: list[dict[str, Any]] = [{"_id": 1}, *huge.values(), fits, {"_id": 6}]
        collection.insert_many(documents)
    rig = rig_for(stack, tmp_path, "huge")
    report = rig.load()["huge"]
    assert (report.counts.read, report.counts.written, report.counts.dead) == (6, 3, 3)
    assert_equal(rig, "huge", frozenset(judge.id_key(n) for n in huge))
    letters = list_letters(rig.ledger, "huge")
    assert [(one.id, one.reason) for one in letters] == [(f"~i{n}", "ItemTooLarge") for n in huge]
    for n, letter in zip(huge, letters, strict=True):
        record = read_letter(rig.ledger, "huge", letter.id)
        assert record is not None
        assert bson.decode(letter_document(rig.ledger, record)) == huge[n]
        assert not any("data" in str(value) for value in letter.to_dict().values())
    rig.close()


def test_document_at_the_edge_of_the_item_limit_arrives_and_one_byte_more_does_not(
    stack: SandboxStack, tmp_path: Path
) -> None:
    # PK EDGE#x, SK DATA, entityType EDGE, _id, _v, data: names and values as DynamoDB counts them.
    rest = len("PKEDGE#xSKDATAentityTypeEDGE_idx_vdata_t") + 22 + 3 + len("/_id") + len("string") + 1
    with stack.mongo.client() as client:
        client["ids"]["edge"].insert_many(
            [{"_id": "x", "data": "d" * (409_600 - rest)}, {"_id": "y", "data": "d" * (409_600 - rest + 1)}]
        )
    rig = rig_for(stack, tmp_path, "edge")
    rig.load()
    assert [letter.id for letter in list_letters(rig.ledger, "edge")] == ["y"]
    assert_equal(rig, "edge", frozenset({judge.id_key("y")}))
    rig.close()


# --- types -----------------------------------------------------------------------------------------------------------


def _nested(levels: int) -> Any:
    value: Any = {"bottom": Int64(1)}
    for level in range(levels - 1):
        value = [value] if level % 2 else {"down": value}
    return value


EVERY_TYPE: dict[str, Any] = {
    "_id": {"b": Int64(1), "a": [1.0, None]},
    "int32": [0, 1, -1, 2**31 - 1, -(2**31)],
    "int64": [Int64(0), Int64(1), Int64(2**31), Int64(2**63 - 1), Int64(-(2**63))],
    "double": [0.0, -0.0, 1.0, 0.1, 1e22, 1e-9, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, 1e125, 1e126, 1e-130],
    "not_finite": [float("nan"), float("inf"), float("-inf")],
    "one of each number": [1, Int64(1), 1.0, Decimal128("1"), Decimal128("1.0"), "1", True],
    "decimal": [
        Decimal128(text)
        for text in (
            "0", "-0", "0E-10", "0E+3", "-0.00", "12.5", "12.50", "12.500", "1E+3", "1000", "1.000E+3", "NaN", "-NaN",
            "sNaN", "Infinity", "-Infinity", "9.999999999999999999999999999999999E+6144", "1E-6176", "1E+125", "1E+126",
            "1E-130", "1E-131", "-7.50", "1234567890123456789012345678901234",
        )
    ],
    "text": ["", " ", "naïve 🦜 \u0000 \ufeff \u202e", "2024-01-15T15:45:00.000Z", str(OID), "NaN", "~", "#"],
    "bytes": [b"", b"\x00\xff", Binary(b"x", 0)],
    "binary": [Binary(bytes(16), subtype) for subtype in (*range(8), 128, 255)] + [Binary(b"", 2), Binary(b"x", 2)],
    "oid": OID,
    "bool": [True, False],
    "null": None,
    "date": [MOMENT, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)],
    "date_out_of_range": [DatetimeMS(-62_135_596_800_001), DatetimeMS(253_402_300_800_000), DatetimeMS(-(2**63))],
    "regex": [Regex("^a.*b$", "imsx"), Regex("", 0), Regex("/~#", "u")],
    "timestamp": [Timestamp(1, 2), Timestamp(2**32 - 1, 2**32 - 1)],
    "code": [Code(""), Code("return 1"), Code("x", {}), Code("x", {"a": Int64(1), "b": Code("y")})],
    "dbref": [DBRef("c", OID), DBRef("c", Int64(1), "db"), DBRef("c", {"a": 1.0}, "db", x=Decimal128("1.0"))],
    "keys": [MinKey(), MaxKey()],
    "deep": _nested(31),
    "empty": {"document": {}, "array": [], "both": [{}, [], [[]], {"": {}}]},
    "": "a field without a name",
    "a.b": {"c.d": 1.0, "": Int64(1), "~": OID, "~~x": 1, "/": MOMENT, "~1": 2.0, "-": 3.0, "0": 4.0},
    "$set": {"$inc": Int64(2), "$ref": "no dbref", "$": 1},
    "Größe 🦜": [{"名前": 1.0}, {"名前": 2.0}],
    "mixed": [{"x": 1.0}, {"x": Int64(1)}, {"x": 1}, {}, [1.0], "x", None, {"-": 1.0}],
    "PK": 1.0, "SK": None, "_v": "v", "_t": {"/x": "oid"}, "_i": Int64(1), "_digest": b"", "_deleted": True,
    "entityType": MOMENT, "_ttl": 1, "~PK": "escaped already", "~": "tilde",
}  # fmt: skip


def _types_in(value: Any) -> set[type]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*(_types_in(one) for one in inner)) if not isinstance(value, DBRef) else {DBRef}


def plain(wire: dict[str, Any]) -> Any:
    """A value of boto3's client as an application would hold it."""
    ((tag, content),) = wire.items()
    if tag == "M":
        return {name: plain(inner) for name, inner in content.items()}
    if tag == "L":
        return [plain(inner) for inner in content]
    return Decimal(content) if tag == "N" else None if tag == "NULL" else content


def test_a_document_of_every_bson_type_comes_back_equal_by_type(stack: SandboxStack, tmp_path: Path) -> None:
    assert set(BSON_TYPES) <= _types_in(EVERY_TYPE), set(BSON_TYPES) - _types_in(EVERY_TYPE)
    with stack.mongo.client() as client:
        client["ids"]["kinds"].insert_one(EVERY_TYPE)
        stored = next(client["ids"].get_collection("kinds", codec_options=judge.OPTIONS).find())
    assert canonical(stored) == canonical(EVERY_TYPE), "MongoDB itself changed the document"
    rig = rig_for(stack, tmp_path, "kinds")
    assert rig.load()["kinds"].counts.written == 1
    (item,) = rig.scan().values()
    back = rig.migration.mapping("kinds").to_document([{name: plain(value) for name, value in item.items()}])
    for name, value in EVERY_TYPE.items():
        assert canonical(back[name]) == canonical(value), name
    assert canonical(back) == canonical(stored)
    assert bson.encode({"": back["_id"]}) == bson.encode({"": EVERY_TYPE["_id"]}), (
        "an _id keeps the order of its fields"
    )
    assert_equal(rig, "kinds")
    rig.close()


def test_ids_that_are_not_utf8_are_dead_letters_and_hide_no_neighbour(stack: SandboxStack, tmp_path: Path) -> None:
    names = [b"A\x80", b"A\x81", b"A\xc3\xa9", b"A\xef\xbf\xbd", b"A\xfe", b"A\xff"]
    with stack.mongo.client() as client:
        for text in names:
            template = bson.encode({"_id": "?" * len(text)})
            client["ids"]["latin"].insert_one(RawBSONDocument(template.replace(b"?" * len(text), text)))
        client["ids"]["latin"].insert_one({"_id": "z"})
    rig = rig_for(stack, tmp_path, "latin", page_documents=1, chunk_documents=2)
    stop = threading.Event()
    timer = threading.Timer(20, stop.set)  # a loader that reads the same page for ever would not end by itself
    timer.start()
    report = rig.load(job=rig.job(stop=stop))["latin"]
    timer.cancel()
    assert (report.counts.read, report.counts.written, report.counts.dead) == (7, 3, 4)
    assert len(list_letters(rig.ledger, "latin")) == 4, "dead letters of different documents share a place"
    rig.close()


# --- a secondary that lags -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxReplicaSet]:
    directory = tmp_path_factory.mktemp("three")
    with SandboxReplicaSet(directory, 3, test_commands=True, election_timeout_ms=2_000) as opened:
        yield opened


def only_from(members: SandboxReplicaSet, index: int) -> str:
    """A URI whose secondaries are but one: the others are pushed out by a tag."""
    hosts = members.uri().partition("@")[2].partition("/")[0].split(",")
    return members.uri().replace(",".join(hosts), hosts[index])


def test_page_from_a_secondary_that_lags_is_never_older_than_the_position(
    stack: SandboxStack, three: SandboxReplicaSet, tmp_path: Path
) -> None:
    """Documents written after the hold-back and before the position: a stale page would miss them."""
    client = three.client()
    before, after = [{"_id": n, "v": 1} for n in range(40)], [{"_id": n, "v": 1} for n in range(40, 60)]
    client["lag"]["things"].insert_many(before)
    behind = three.secondaries()[0]
    other = next(one for one in three.secondaries() if one != behind)
    env = {**stack.env(), "DOCFERRY_MONGO_URI": three.uri()}
    rig = generic_rig(env, tmp_path, "lag", ["things"], page_documents=7)
    three.hold_back(behind)
    three.pause(other)  # secondaryPreferred has no other choice now than the one that lags
    try:
        client["lag"]["things"].with_options(write_concern=one_member()).update_many({}, {"$set": {"v": 2}})
        client["lag"]["things"].with_options(write_concern=one_member()).insert_many(after)
        stale = three.member_client(behind)["lag"]["things"]
        assert stale.count_documents({"v": 2}) == 0, "the member does not lag, so this proves nothing"
        stop = threading.Event()
        result: dict[str, Any] = {}

        def load() -> None:
            result.update(rig.load(job=rig.job(stop=stop)))

        loading = threading.Thread(target=load)
        loading.start()
        loading.join(4)  # nothing that a majority has is new enough: it must wait, or refuse
        assert loading.is_alive()
        assert rig.scan() == {}, "a page older than the recorded position was written"
    finally:
        three.resume(other)
        three.let_go(behind)
    loading.join(60)
    stop.set()
    assert not loading.is_alive()
    assert result["things"].counts.read == 60
    assert_equal(rig, "things")
    position = recorded_position(rig.ledger)
    assert position is not None
    oldest = min(item["_v"]["S"] for item in rig.scan().values())
    assert int(oldest, 16) >> 24 >= position.time.time << 32 | position.time.inc
    rig.close()
    client.close()


def one_member() -> Any:
    from pymongo import WriteConcern

    return WriteConcern(w=1)


def test_page_at_a_time_that_a_lagging_member_cannot_show_is_refused_or_comes_from_another(
    three: SandboxReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member of three is held back, a majority is not: the page is whole wherever it comes from."""
    monkeypatch.setattr("docferry.adapters.mongodb.source._MAX_TIME_MS", 2_000)
    client = three.client()
    behind = three.secondaries()[0]
    three.hold_back(behind)
    try:
        client["lag"]["other"].insert_many([{"_id": n} for n in range(50)])
        source = MongoSource(three.uri(), "lag")
        at = source.cluster_time()
        stale = MongoSource(only_from(three, behind).replace("replicaSet=rs0", "directConnection=true"), "lag")
        with pytest.raises(TimedOut):
            stale.read_page("other", Bounds(None, None), None, 100, at)
        for _ in range(4):  # whichever secondary the driver picks
            assert len(source.read_page("other", Bounds(None, None), None, 100, at)) == 50
        source.close()
        stale.close()
    finally:
        three.let_go(behind)
        client.close()


def test_stop_is_heeded_while_a_page_waits_for_a_lagging_member(
    stack: SandboxStack, three: SandboxReplicaSet, tmp_path: Path
) -> None:
    client = three.client()
    client["lag"]["slow"].insert_many([{"_id": n} for n in range(10)])
    env = {**stack.env(), "DOCFERRY_MONGO_URI": three.uri()}
    rig = generic_rig(env, tmp_path, "lag", ["slow"])
    prepare(rig.job("stopped"), "slow")
    behind, other = three.secondaries()
    three.hold_back(behind)
    three.pause(other)
    try:
        client["lag"]["slow"].with_options(write_concern=one_member()).insert_one({"_id": 11})
        driver = rig.start("stopped", "slow")
        while not rig.leased_by("stopped"):
            assert driver.is_alive(), driver.wait()
            time.sleep(0.02)
        with Pace() as pace:
            driver.signal(signal.SIGTERM)
            answers = driver.wait()
        assert answers[-1]["error"] == "Stopped"
        assert pace.seconds < 5
    finally:
        three.resume(other)
        three.let_go(behind)
        rig.close()
        client.close()
