"""Vectors of what a document becomes: values, keys, items, digests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS

from docferry.config import parse_migration
from docferry.core.bson_codec.decode import decode_value
from docferry.core.bson_codec.encode import encode_declared, encode_id, encode_value
from docferry.core.bson_codec.hints import Hints, HintTree, parse_declared
from docferry.core.bson_codec.plain import base64_text
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import Document, Item, tombstone
from docferry.core.mapping.key_templates import parse_key
from docferry.core.mapping.large.objects import encode_object
from docferry.core.mapping.large.overflow import PACKED
from docferry.core.mapping.large.parts import cut, part_key
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.settings import KeyType, Overflow
from docferry.core.versions import version_text
from docferry.errors import KeyNotRepresentable

EXTENDED_JSON: Final = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_AUTO, tz_aware=False
)
OID: Final = ObjectId("507f1f77bcf86cd799439011")
WHEN: Final = datetime(2024, 1, 15, 15, 45)  # noqa: DTZ001 - naive UTC, as pymongo reads dates
EARLY: Final = (datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(1, 1, 1))  # noqa: DTZ001
VERSION: Final = 0x65A55580_00000001_000000
"""2024-01-15T15:55:44Z, increment 1, n 0."""

TREE: Final[Mapping[str, Any]] = {
    "migration": "vectors",
    "source": {"database": "vectors"},
    "tables": {"Shop": {"indexes": ["GSI1", "GSI2"]}},
    "collections": {
        "users": {
            "table": "Shop",
            "item": {
                "entity": "USER",
                "key": {"PK": "USER#{username}", "SK": "PROFILE"},
                "index": {
                    "GSI1": {"PK": "EMAIL#{email}", "SK": "USER"},
                    "GSI2": {
                        "PK": "CITY#{profile.location.city}",
                        "SK": "SEEN#{seenAt}",
                        "when": {"status": "active"},
                    },
                },
                "attributes": {"userId": "_id", "firstName": "profile.firstName"},
                "types": {"userId": "oid", "seenAt": "date", "credit": "decimal:2"},
            },
            "children": {
                "addresses": {
                    "entity": "ADDRESS",
                    "key": {"SK": "ADDRESS#{type}#{index:03d}"},
                    "attributes": {"kind": "type"},
                }
            },
        },
        "events": {},
    },
}


DESIGNED: Final[Mapping[str, Any]] = {
    "migration": "designed",
    "source": {"database": "vectors"},
    "tables": {
        "Threads": {
            "key": {"PK": "thread", "SK": "part"},
            "indexes": {
                "by_score": {"key": {"PK": "board", "SK": {"name": "score", "type": "N"}}, "projection": "KEYS_ONLY"},
                "by-topic": {"key": {"PK": "topic_key"}, "projection": "INCLUDE", "include": ["topic"]},
            },
        },
        "People": {"key": {"PK": {"name": "person", "type": "B"}}},
    },
    "collections": {
        "threads": {
            "table": "Threads",
            "item": {
                "entity": "THREAD",
                "key": {"PK": "T#{_id}", "SK": "ROOT"},
                "index": {
                    "by_score": {"PK": "B#{board}", "SK": "{score:-number}"},
                    "by-topic": {"PK": "TOPIC#{topic}"},
                },
                "types": {"topic": "string"},
            },
            "children": {"posts": {"entity": "POST", "key": {"SK": "POST#{votes:-number}#{index:d}"}}},
        },
        "people": {"table": "People", "item": {"entity": "PERSON", "key": {"PK": "{_id}"}}},
    },
}
"""Tables whose keys have names and types of their own."""


def extended(value: Any) -> Any:
    """Canonical Extended JSON, as JSON's own values."""
    return json.loads(json_util.dumps({"v": value}, json_options=EXTENDED_JSON))["v"]


def from_extended(value: Any) -> Any:
    return json_util.loads(json.dumps({"v": value}), json_options=EXTENDED_JSON)["v"]


def mapping(collection: str, tree: Mapping[str, Any] = TREE) -> DocumentMapping:
    return parse_migration(json.dumps(tree).encode(), "vectors").mapping(collection)


# --- values ----------------------------------------------------------------------------------------------------------

VALUES: Final[tuple[Any, ...]] = (
    "text", "", "\u540d\u524d \U0001f99c", True, False, None,
    0, 7, -1, 2**31 - 1, Int64(5), Int64(2**31), Int64(-(2**63)),
    1.5, 5.0, 0.0, -0.0, 0.1, 1e15, 1e16, 1e-5, 123456789.125, 1e100, 1e126, 1e300, 5e-324,
    float("inf"), float("-inf"), float("nan"),
    *map(Decimal128, ("12.5", "12.50", "5", "-0.00", "1E+3", "1.000", "0E-3", "1E+126", "1E-6000", "NaN", "Infinity")),
    Decimal128("1234567890123456789012345678901234"),
    OID, WHEN, *EARLY, DatetimeMS(253402300800000), DatetimeMS(-62135596800001),
    b"\x00\x01\xff", Binary(b"\x01", 5), Binary.from_uuid(UUID("00112233-4455-6677-8899-aabbccddeeff")),
    Timestamp(1705333530, 7), Regex("^a.*b", "im"), Code("f()"), Code("f()", {"x": 1}), MinKey(), MaxKey(), DBRef("things", OID),
    {}, {"a": {"b": OID}}, {"": 1, "~": 2, "a/b": 1.0, "~0": WHEN}, [], [1, "a", None], [OID, OID], [1.0, 1.5],
    [{"p": 1.0}, {"p": 2.0}], [[1.0], [2.0]],
)  # fmt: skip
DECLARED: Final[tuple[tuple[str, Any], ...]] = (
    ("oid", OID), ("oid", "text"), ("oid", str(OID)), ("oid", 5), ("oid", None),
    ("date", WHEN), ("date", "2024-01-15"), ("date", DatetimeMS(253402300800000)),
    ("double", 5.0), ("double", 5), ("double", 1.5), ("double", Int64(5)), ("double", "5"), ("double", float("nan")),
    ("long", Int64(5)), ("long", 5), ("long", Int64(2**40)), ("long", 1.5),
    ("decimal", Decimal128("5")), ("decimal", Decimal128("12.50")),
    ("decimal:2", Decimal128("12.50")), ("decimal:2", Decimal128("12.5")), ("decimal:2", Decimal128("12.25")),
    ("decimal:2", 12.25),
    ("code", Code("f()")), ("code", "f()"), ("timestamp", Timestamp(1, 2)),
)  # fmt: skip
IDS: Final[tuple[Any, ...]] = (OID, "text", 5, Int64(5), 1.5, None, {"b": 1, "a": 2}, WHEN, Binary(b"\x01", 5))
FOREIGN: Final[tuple[tuple[str | None, Mapping[str, Any], Hints], ...]] = (
    (None, {"S": "hello"}, {"/v": "oid"}),
    (None, {"N": "1.5"}, {"/v": "long"}),
    (None, {"N": "7"}, {"/v": "decimal:-2"}),
    (None, {"N": "7.125"}, {"/v": "decimal:-2"}),
    (None, {"N": "3"}, {"/v": "-double"}),
    (None, {"N": "12345678901234567890"}, {}),
    (None, {"N": "1E+2"}, {}),
    (None, {"SS": ["b", "a"]}, {}),
    (None, {"S": "x"}, {"/v": "no such hint"}),
    ("oid", {"S": "hello"}, {}),
    ("date", {"S": "2024-01-15T15:45:00Z"}, {}),
)
"""What another program has written: a hint or a declared type that does not fit is passed over."""


def types() -> Any:
    """`v` stands for the attribute. `misfits` counts hints that did not fit."""
    return {
        "values": [_value(value, None) for value in VALUES] + [_value(value, declared) for declared, value in DECLARED],
        "ids": [_id(value) for value in IDS],
        "foreign": [_foreign(*one) for one in FOREIGN],
    }


def _value(value: Any, declared: str | None) -> dict[str, Any]:
    hints: Hints = {}
    known = parse_declared(declared) if declared is not None else None
    wire = encode_declared(value, "/v", hints, known) if known else encode_value(value, "/v", hints)
    return {"bson": extended(value), "declared": declared, "wire": wire, "hints": hints}


def _id(value: Any) -> dict[str, Any]:
    hints: Hints = {}
    return {"bson": extended(value), "wire": encode_id(value, hints), "hints": hints}


def _foreign(declared: str | None, wire: Mapping[str, Any], hints: Hints) -> dict[str, Any]:
    tree = HintTree(hints)
    known = parse_declared(declared) if declared is not None else None
    value = decode_value(dict(wire), tree.root.get("v"), tree, known)
    return {"wire": wire, "declared": declared, "hints": hints, "bson": extended(value), "misfits": tree.misfits}


# --- keys ------------------------------------------------------------------------------------------------------------

IN_KEYS: Final[tuple[Any, ...]] = (
    "ann", "a#b", "a~b", "~~", "", "1", str(OID), "2024-01-15T15:45:00.000Z", "\u540d\u524d", OID, WHEN, 1, Int64(1), -5, 1.5,
    5.0, 1e16, 1e-5, -0.0, float("nan"), Decimal128("1.50"), Decimal128("1E+3"), True, False, None, DatetimeMS(253402300800000),
    Binary.from_uuid(UUID("00112233-4455-6677-8899-aabbccddeeff")), b"\x01", Timestamp(1, 2), MinKey(), {"b": 1, "a": 2}, [1],
)  # fmt: skip


ORDERED: Final[tuple[Any, ...]] = (
    float("nan"), float("-inf"), Decimal128("-1E+6144"), -250, Decimal128("-9.61"), -9.6, Decimal128("-9.6"), -0.0, 0,
    Decimal128("1E-6176"), 5e-324, 1, Int64(1), 1.0, Decimal128("1.00"), 9.55, Decimal128("9.6"), 9.6, 10.0, 10.5, 2**31, 1e22,
    Decimal128("1234567890123456789012345678901234"), float("inf"), "9.6", OID, True, None,
)  # fmt: skip
"""Numbers in their order, and what is none."""


def keys() -> Any:
    """Of each template over each document: the table key, or what is refused, and the index key, or null: not in the index."""
    cases = [("X#{v}", {"v": value}) for value in IN_KEYS] + [("X#{_id}", {"_id": value}) for value in IN_KEYS]
    cases += [("N#{v:d}", {"v": value}) for value in (5, -5, Int64(5), "5", "\u0663", "x", 5.0, OID)]
    cases += [("N#{v:05d}", {"v": value}) for value in (5, -5, 123456, "00005")]
    cases += [("A#{a.b}#Z#{c}", {"a": {"b": "x#y"}, "c": "z"}), ("A#{a.b}", {"a": [{"b": 1}]}), ("X#{v}", {})]
    cases += [("ALL", {})]
    cases += [
        (f"R#{{v:{order}}}#{{w}}", {"v": value, "w": "x"}) for order in ("number", "-number") for value in ORDERED
    ]
    cases += [("D#{v:-date}", {"v": value}) for value in (WHEN, *EARLY, DatetimeMS(253402300800000), "x")]
    cases += [("S#{w}#{v:shard(10)}", {"v": value, "w": "x"}) for value in (OID, "ann", 1, Int64(1), "1", WHEN)]
    typed: list[tuple[KeyType, str]] = [
        ("N", "{v}"),
        ("N", "{v:-number}"),
        ("N", "{v:date}"),
        ("N", "{v:-date}"),
        ("B", "{v}"),
    ]
    made = [_key(template, document) for template, document in cases]
    return made + [
        _key(template, {"v": value}, kind) for kind, template in typed for value in (*ORDERED, WHEN, b"\x01\xff", b"")
    ]


def _key(source: str, document: Mapping[str, Any], kind: KeyType = "S") -> dict[str, Any]:
    """`type` is that of the key attribute, where it is no text."""
    template = parse_key(source, kind)
    found: dict[str, Any] = {"template": source, "document": extended(document)}
    found |= {"type": kind} if kind != "S" else {}
    try:
        found["table_key"] = template.render_key(document)
    except KeyNotRepresentable as error:
        found |= {"table_key": None, "refused": error.path}
    return found | {"index_key": template.render(document)}


# --- documents -------------------------------------------------------------------------------------------------------

USER: Final[Mapping[str, Any]] = {
    "_id": OID,
    "username": "ann",
    "email": "ann@example.com",
    "status": "active",
    "visits": 5,
    "credit": Decimal128("12.50"),
    "score": 5.0,
    "seenAt": WHEN,
    "profile": {"firstName": "Ann", "location": {"city": "Seattle"}},
    "tags": ["new", OID],
    "PK": "a field of this name",
    "addresses": [{"type": "home", "city": "Seattle"}, {"type": "home", "city": "Tacoma", "since": WHEN, "floor": 3.0}],
}
DOCUMENTS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("users", USER),
    ("users", {**USER, "status": "idle", "addresses": []}),
    ("users", {"_id": "u2", "username": "b#b", "profile": {}, "addresses": [{"type": "work"}]}),
    ("users", {"_id": 7, "username": 7, "addresses": "not an array"}),
    ("events", {"_id": {"day": 1, "n": 2}, "what": "login", "ttl": None}),
    ("events", {"_id": OID, "_v": "ours", "_t": 1, "": 2, "~x": 3}),
)

FRAME: Final = (
    "ASi1L/1k2wBNCQDiTzMkEK3WAeSWRMx2NHEXecOtQQ7jnpuKsAkbGIGDuy8BElVVVRXcc+rSphAJCePt8AyUzHu4IbMFCBP+7W3Z6DyCiL0ydS"
    "3lAGg4HM5zAQLQTRwHLugolqY+cNQ0lS39br3y+wpKqUapxhqNrQS2FEspGgzF+EdkdqbpfzkS8e2i7F8nH34ayogS4wNayHvUEJKu4YcCLQQP"
    "xLhPL8SsYSxtCunHkdM0GRaaGji7c/Teappz6mu5Ft6wv9A0lZ9JRT5tGuFIOl8c6KXpS/QSJSBAAoKUOj4INEZAcNcuGl9ccBRSj8vb2A6TPD"
    "AQtEMCvgPwxsaVbEMCOmka75AkGB3CIIAoKaQINgZ9RQhVuGlltjACK24YKgF6xhFfva9vQzbdTkAESg5wmqy4"
)
"""One frame that holds what the first user holds: a library of another version makes another, which says the same."""


def documents() -> Any:
    """Documents and their items, both ways; what a digest is made of; which items fit together."""
    return {
        "collections": TREE["collections"],
        "tables": TREE["tables"],
        "cases": [_document(collection, document) for collection, document in DOCUMENTS],
        "digest": _digest(),
        "together": _together(),
        "designed": _designed(),
        "compressed": _compressed(),
        "split": _split(),
        "s3": _in_s3(),
    }


def compressing(overflow: Overflow = "compress") -> DocumentMapping:
    """Of `users`, which compresses what is too large, or splits it."""
    return DocumentMapping(replace(mapping("users").settings, overflow=overflow))


def _compressed() -> dict[str, Any]:
    """An item as it is kept that would be too large, as it is whole, and its document; and what is no item any more."""
    document = {**USER, "_id": 7, PACKED: 1, "addresses": []}
    (item,) = compressing().encode(document, VERSION)
    kept = {
        name: value
        for name, value in item.items()
        if name in ("PK", "SK", "entityType", "_id", "_v") or name[:3] == "GSI"
    }
    stored = kept | {PACKED: {"B": FRAME}}
    unreadable = [stored | {PACKED: {"B": one}} for one in (f"Ag{FRAME[2:]}", FRAME[:-8], "")]
    return {"document": extended(document), "stored": stored, "item": item, "unreadable": unreadable}


def _split() -> dict[str, Any]:
    """The same item with its parts; beside it what an item's parts may be that cannot be read: one is missing, or another's."""
    compressed = _compressed()
    item, named = cut(compressed["stored"], ("PK", "SK"), "_ttl", 150)
    parts = [
        dict(zip(("PK", "SK"), ({"S": one} for one in part_key(name)), strict=True)) | part for name, part in named
    ]
    swapped = [{**part, PACKED: other[PACKED]} for part, other in zip(parts, reversed(parts), strict=True)]
    return {"item": compressed["item"], "stored": item, "parts": parts, "unreadable": [parts[1:], swapped]}


def _in_s3() -> dict[str, Any]:
    """The same item with its object, whose bytes are in base64."""
    compressed = _compressed()
    item, ((name, part),) = cut(compressed["stored"], ("PK", "SK"), "_ttl", checked=True)
    key = dict(zip(("PK", "SK"), ({"S": one} for one in part_key(name)), strict=True))
    return {"item": compressed["item"], "stored": item, "object": base64_text(encode_object(key | part))}


def _designed() -> dict[str, Any]:
    """Documents and their items as a table keeps that names its keys itself; the digest is that of our own form, in `ours`."""
    posts = [{"votes": votes} for votes in (2, 10.0, 9.6, Decimal128("-1"))]
    documents: list[tuple[str, Document]] = [
        ("threads", {"_id": OID, "board": "news", "score": 9.6, "topic": "a#b", "part": 1, "PK": 2, "posts": posts}),
        ("threads", {"_id": 7, "board": "news", "score": "no number", "posts": []}),
        ("people", {"_id": b"\x01\xff", "person": "a field of this name"}),
    ]
    cases = []
    for collection, document in documents:
        one = mapping(collection, DESIGNED)
        items = one.encode(document, VERSION)
        cases.append({
            "collection": collection,
            "document": extended(document),
            "version": version_text(VERSION),
            "items": [one.layout.stored(item) for item in items],
            "ours": items,
            "tombstones": [one.layout.stored(timeless(tombstone(item, VERSION + 1, "_ttl"))) for item in items],
        })  # fmt: skip
    return {"collections": DESIGNED["collections"], "tables": DESIGNED["tables"], "cases": cases}


def _document(collection: str, document: Mapping[str, Any]) -> dict[str, Any]:
    items = mapping(collection).encode(dict(document), VERSION)
    return {
        "collection": collection,
        "document": extended(document),
        "version": version_text(VERSION),
        "items": items,
        "tombstones": [timeless(tombstone(item, VERSION + 1, "_ttl")) for item in items],
    }


def timeless(item: Item) -> Item:
    """The time at which it expires, in words."""
    return item | ({"_ttl": {"N": "NOW_S+2592000"}} if "_ttl" in item else {})


def _digest() -> dict[str, Any]:
    children = mapping("users").encode(dict(USER), VERSION)[1:]
    respelled = [one | {"_i": {"N": f"{one['_i']['N']}.0"}, "_v": {"S": "f" * 22}} for one in reversed(children)]
    return {
        "children": children,
        "digest": digest(children),
        "same": respelled,
        "other": [children[0]],
        "other_digest": digest([children[0]]),
    }


def _together() -> list[dict[str, Any]]:
    root, first, second = mapping("users").encode(dict(USER), VERSION)
    grave = timeless(tombstone(second, VERSION + 1, "_ttl"))
    (alone,) = mapping("users").encode({**USER, "addresses": []}, VERSION)
    return [
        {"items": [root, first, second], "whole": True},
        {"items": [root, first], "whole": False},
        {"items": [root, first, grave], "whole": False},
        {"items": [root, first, second | {"city": {"S": "Rome"}}], "whole": False},
        {"items": [root, first, second | {"_v": {"S": "f" * 22}}], "whole": True},
        {"items": [alone], "whole": True},
        {"items": [alone, grave], "whole": True},
        {"items": [alone, first], "whole": False},
    ]
