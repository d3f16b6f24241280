"""Items over 400 KB: compressed as they go to the table, whole as they come back, and told if they cannot be read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bson
import pytest
import zstandard
from bson import Binary, Decimal128, Int64, ObjectId
from docferry.config import parse_migration
from docferry.core.bson_codec.options import sorted_bytes
from docferry.core.compare.diff import compare_item, differences_of
from docferry.core.limits import ITEM_BYTES, item_bytes
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import Item, tombstone
from docferry.core.mapping.large.overflow import PACKED
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw
from docferry.errors import ConfigError, ItemsUnreadable, ItemTooLarge
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of

FILE = """
migration: overflow
source: {database: overflow}
tables:
  Large: {indexes: [GSI1]}
  Designed: {key: {PK: owner, SK: {name: number, type: N}}, indexes: {by_day: {key: {PK: day}}}}
collections:
  notes:
    table: Large
    overflow: compress
    item:
      entity: NOTE
      key: {PK: "NOTE#{name}", SK: NOTE}
      index: {GSI1: {PK: "OWNER#{owner}", SK: "{name}"}}
      types: {price: decimal}
    children: {parts: {entity: PART, key: {SK: "PART#{index:03d}"}}}
  pages:
    table: Designed
    overflow: compress
    item:
      entity: PAGE
      key: {PK: "PAGE#{book}", SK: "{number}"}
      index: {by_day: {PK: "DAY#{day}"}}
  small:
    table: Large
    item: {entity: SMALL, key: {PK: "SMALL#{_id}", SK: SMALL}}
"""
MIGRATION = parse_migration(FILE.encode())
NOTES, PAGES, SMALL = (MIGRATION.mapping(name) for name in ("notes", "pages", "small"))
TEXT = "a text that says itself again, and again. " * 20_000
NOTE: dict[str, Any] = {
    "_id": ObjectId("64b000000000000000000001"), "name": "one", "owner": "ann", "price": Decimal128("1.50"),
    "count": Int64(7), "text": TEXT, "parts": [{"n": 1}, {"n": 2, "text": TEXT}],
}  # fmt: skip


def stored(mapping: DocumentMapping, document: dict[str, Any]) -> list[Item]:
    return [mapping.layout.stored(item) for item in encode_raw(mapping, bson.encode(document), 7)]


def read(mapping: DocumentMapping, items: list[Item]) -> list[Item]:
    return [mapping.layout.read(json.loads(json.dumps(item))) for item in items]


def test_a_large_document_fits_and_comes_back_by_type() -> None:
    items = stored(NOTES, NOTE)
    assert [PACKED in item for item in items] == [True, False, True]
    assert max(map(item_bytes, items)) < ITEM_BYTES / 10
    assert sorted_bytes(NOTES.decode(read(NOTES, items)).document) == sorted_bytes(NOTE)
    assert read(NOTES, items) == NOTES.encode(NOTE, 7)


def test_keys_versions_and_the_id_stay_where_queries_and_scans_find_them() -> None:
    root = stored(NOTES, NOTE)[0]
    whole = NOTES.encode(NOTE, 7)[0]
    kept = {"PK", "SK", "GSI1PK", "GSI1SK", "entityType", "_id", "_v", "_digest"}
    assert {name: root[name] for name in kept} == {name: whole[name] for name in kept}
    assert set(root) == {*kept, PACKED}


def test_an_id_that_needs_a_hint_keeps_it_outside() -> None:
    root = stored(NOTES, {**NOTE, "_id": Int64(5)})[0]
    assert root["_t"] == {"M": {"/_id": {"S": "long"}}}
    assert NOTES.decode(read(NOTES, [root])).document["count"] == Int64(7)


def test_a_table_with_keys_of_its_own_keeps_them() -> None:
    page = {"_id": 1, "book": "b", "number": 3, "day": "monday", "text": TEXT}
    (item,) = stored(PAGES, page)
    assert (item["owner"], item["number"], item["day"]) == ({"S": "PAGE#b"}, {"N": "3"}, {"S": "DAY#monday"})
    assert PACKED in item
    assert PAGES.decode(read(PAGES, [item])).document == page
    assert MIGRATION.layouts["Designed"].read(item) == PAGES.encode(page, 7)[0]


def test_only_what_is_too_large_is_compressed_to_the_byte() -> None:
    rest = item_bytes(NOTES.encode({"_id": 1, "name": "x", "text": ""}, 7)[0])
    for more in (0, 1):
        text = "t" * (ITEM_BYTES - rest + more)
        assert (PACKED in stored(NOTES, {"_id": 1, "name": "x", "text": text})[0]) == bool(more)


def test_what_does_not_compress_is_refused_as_it_was(random_bytes: bytes) -> None:
    with pytest.raises(ItemTooLarge, match="more than the 409600"):
        stored(NOTES, {**NOTE, "scan": Binary(random_bytes)})
    with pytest.raises(ItemTooLarge):
        stored(SMALL, {"_id": 1, "text": TEXT})


@pytest.fixture
def random_bytes() -> bytes:
    import random

    return random.Random(7).randbytes(420_000)


def test_one_document_is_one_frame_whatever_the_order_of_its_fields() -> None:
    turned = dict(reversed(NOTE.items()))
    assert stored(NOTES, turned)[0][PACKED] == stored(NOTES, NOTE)[0][PACKED]


def test_the_digest_is_of_what_the_children_hold_however_they_were_compressed() -> None:
    root, *children = stored(NOTES, NOTE)
    frame = zstandard.ZstdDecompressor().decompress(base64.b64decode(children[1][PACKED]["B"])[1:])
    other = zstandard.ZstdCompressor(level=19).compress(frame)
    children[1] = {**children[1], PACKED: {"B": base64.b64encode(b"\x01" + other).decode()}}
    assert root["_digest"] == {"S": digest(read(NOTES, children))}
    expected = NOTES.encode(NOTE, 7)[2]
    assert not list(compare_item(NOTES, expected, read(NOTES, children)[1]))


def test_a_field_of_that_name_is_escaped_only_where_it_must_be() -> None:
    document = {"_id": 1, "name": "x", PACKED: "mine"}
    assert NOTES.encode(document, 7)[0]["~_z"] == SMALL.encode(document, 7)[0][PACKED] == {"S": "mine"}
    assert NOTES.decode(NOTES.encode(document, 7)).document == document
    assert SMALL.decode(read(SMALL, stored(SMALL, document))).document == document
    shared = MIGRATION.layouts["Large"].read(SMALL.encode(document, 7)[0])
    assert shared[PACKED] == {"S": "mine"}


def test_a_tombstone_of_a_large_document_is_plain() -> None:
    grave = tombstone(NOTES.encode(NOTE, 7)[0], 8, "_ttl")
    assert NOTES.layout.stored(grave) == grave


def flipped(data: bytes) -> bytes:
    return data[:400] + bytes([data[400] ^ 1]) + data[401:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-9],
    "one bit": flipped,
    "empty": lambda data: b"",
    "another format": lambda data: b"\x02" + data[1:],
    "no frame": lambda data: b"\x01 no frame",
    "no items": lambda data: b"\x01" + zstandard.compress(b"[1]"),
    "no JSON": lambda data: b"\x01" + zstandard.compress(b"{"),
    "too much": lambda data: b"\x01" + zstandard.ZstdCompressor().compress(b"")[:4] + b"\xe0" + b"\xff" * 8,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_cannot_be_read_is_one_difference_and_never_a_document(kind: str) -> None:
    items = stored(NOTES, {**NOTE, "noise": [{"n": n, "text": str(n * n)} for n in range(2_000)]})
    damaged = DAMAGE[kind](base64.b64decode(items[0][PACKED]["B"]))
    items[0] = {**items[0], PACKED: {"B": base64.b64encode(damaged).decode()}}
    found = read(NOTES, items)
    assert PACKED in found[0]
    with pytest.raises(ItemsUnreadable) as caught:
        NOTES.decode(found)
    assert (caught.value.id, caught.value.namespace) == (str(NOTE["_id"]), "notes")
    (told,) = differences_of(NOTES, NOTES.encode(NOTE, 7)[0], found[0], "one", ("text",))
    assert (told.kind.value, told.id, told.path, told.actual) == (
        "different",
        "one",
        "_z",
        "compressed, and cannot be read",
    )


def test_something_else_under_the_name_is_not_read_as_a_document() -> None:
    item = {**stored(NOTES, NOTE)[0], PACKED: {"S": "text"}}
    with pytest.raises(ItemsUnreadable):
        NOTES.decode(read(NOTES, [item]))


def test_what_is_compressed_cannot_take_an_items_key_or_version() -> None:
    root = stored(NOTES, NOTE)[0]
    frame = zstandard.compress(json.dumps({"PK": {"S": "OTHER"}, "_v": {"S": "0"}, "x": {"S": "y"}}).encode())
    found = NOTES.layout.read({**root, PACKED: {"B": base64.b64encode(b"\x01" + frame).decode()}})
    assert (found["PK"], found["_v"], found["x"]) == (root["PK"], root["_v"], {"S": "y"})


def test_another_setting_is_another_mapping() -> None:
    assert fingerprint_of(NOTES.settings) != fingerprint_of(replace(NOTES.settings, overflow=None))


@pytest.mark.parametrize(
    ("was", "then", "told"),
    [
        (
            "overflow: compress\n    item:\n      entity: NOTE",
            "overflow: zip\n    item:\n      entity: NOTE",
            "overflow",
        ),
        ("types: {price: decimal}", "attributes: {_z: zone}", "_z"),
        ("day: {key: {PK: day}}", "day: {key: {PK: _z}}", "_z"),
        ("indexes: [GSI1]", "indexes: [GSI1], ttl_attribute: _z", "_z"),
    ],
)
def test_a_file_that_needs_the_name_twice_is_refused(was: str, then: str, told: str) -> None:
    assert was in FILE
    with pytest.raises(ConfigError, match=told):
        parse_migration(FILE.replace(was, then, 1).encode())


@pytest.mark.parametrize(
    ("was", "then", "told"),
    [
        ("types: {price: decimal}", "attributes: {_p: zone}", "names parts in _p"),
        ("indexes: [GSI1]", "indexes: [GSI1], ttl_attribute: _of", "_of"),
        ("indexes: [GSI1]", "indexes: [GSI1], shared: true", "is shared"),
        ("overflow: compress", "overflow: split", "not all texts"),
        ('PK: "NOTE#{name}"', 'PK: "{kind}#{name}"', "as those of notes may"),
        ('PK: "NOTE#{name}"', 'PK: "PART#{name}"', "as those of notes may"),
    ],
)
def test_parts_need_names_and_keys_of_their_own(was: str, then: str, told: str) -> None:
    split = FILE.replace("overflow: compress", "overflow: split", 1)
    parse_migration(split.encode())
    assert was in split
    with pytest.raises(ConfigError, match=told):
        parse_migration(split.replace(was, then, 1).encode())
