"""What the transcoder packs is what the mapping makes, or it says nothing."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import islice
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from bson import DBRef, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.limits import ITEM_BYTES
from docferry.core.mapping.items import key_of
from docferry.core.mapping.learnt.transcoder import MOST_LESSONS, MOST_SHAPES, Transcoder
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw
from docferry.errors import DocumentError
from docferry.rehearsal.shop import ShopPlan, shop_documents
from docferry.testing import strategies as draw
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.mappings import DROPPING, GENERIC, ODD, OF_NUMBERS, REFUSING, REVERSIBLE
from support.shop_indexes import shop_without_guards

SHOP = shop_without_guards()
PRODUCTS, USERS = SHOP.mapping("products"), SHOP.mapping("users")
MAPPINGS = {name: mapping for name, mapping in REVERSIBLE.items() if name != "odd"} | {"computed": OF_NUMBERS}
MAPPINGS["in order"] = DocumentMapping(replace(PRODUCTS.settings, order="keep"))
DOCUMENTS = {name: draw.documents_for(mapping) for name, mapping in MAPPINGS.items()}
VERSION = 0xABC << 24

_texts = st.one_of(
    draw.texts(),
    st.sampled_from(
        (
            "",
            "a#b",
            "~",
            '"',
            "back\\slash",
            "tab\t",
            "\x7f",
            "\u2028",
            "é",
            "a" * 300,
            "5" * 24,
            "2024-01-15T15:45:00.000Z",
            "%s%%",
            "1",
        )
    ),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
_SAME_KIND: dict[type, st.SearchStrategy[Any]] = {
    str: _texts,
    int: draw.int32s(),
    Int64: draw.int64s(),
    float: st.one_of(
        draw.doubles(), st.sampled_from((0.0, -0.0, 1.0, 1.5, 1e16, 1e-5, 1e22, float("nan"), float("inf")))
    ),
    Decimal128: st.one_of(
        draw.decimal128s(), st.sampled_from([Decimal128(text) for text in ("1.50", "1.55", "0.00", "0.05")])
    ),
    ObjectId: draw.object_ids(),
    datetime: draw.dates(),
    bool: st.booleans(),
}


def sibling(value: Any, pick: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """Another document with the same names and, mostly, values of the same types."""
    if isinstance(value, dict):
        return {name: sibling(inner, pick) for name, inner in value.items()}
    if isinstance(value, list):
        if all(isinstance(inner, str) for inner in value):
            return pick(st.lists(_texts, max_size=4))
        return [sibling(inner, pick) for inner in value]
    strategy = _SAME_KIND.get(type(value))
    return value if strategy is None or pick(st.integers(0, 9)) == 0 else pick(strategy)


def whole(mapping: DocumentMapping, data: bytes) -> list[Any] | None:
    """What the mapping makes of a document, None if it cannot be stored."""
    try:
        return encode_raw(mapping, data, VERSION)
    except DocumentError:
        return None


def agrees(transcoder: Transcoder, mapping: DocumentMapping, data: bytes) -> bool:
    """Whether it was packed; then it must be what the mapping makes."""
    packed = transcoder.pack(data, VERSION)
    if packed is None:
        return False
    items = whole(mapping, data)
    assert items is not None
    assert len(items) == 1
    assert json.loads(packed[1]) == mapping.layout.stored(items[0])
    assert packed[0] == key_of(items[0])
    return True


SEEN: Counter[str] = Counter()


@pytest.mark.parametrize("name", MAPPINGS)
@examples(1)
@given(data=st.data())
def test_documents_of_a_learnt_shape_are_packed_as_the_mapping_encodes_them(name: str, data: st.DataObject) -> None:
    mapping = MAPPINGS[name]
    transcoder = Transcoder(mapping)
    first = data.draw(DOCUMENTS[name])
    family = [first, *(sibling(first, data.draw) for _ in range(data.draw(st.integers(1, 3))))]
    for document in family:
        raw = bson.encode(document)
        SEEN[name] += agrees(transcoder, mapping, raw)
        items = whole(mapping, raw)
        if items is not None and len(items) == 1:
            transcoder.learn(raw)
            SEEN[name] += agrees(transcoder, mapping, raw)


def product(**changes: Any) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "sku": "S-1",
        "name": "Lamp",
        "description": "of brass",
        "price": Decimal128("12.50"),
        "categoryId": ObjectId(),
        "stock": 3,
        "attributes": {"colour": "red", "weightKg": 1.5, "big": Int64(2**40), "ok": True, "none": None},
        "tags": ["a", "b"],
        "sizes": [1, 2.5],
        "createdAt": datetime(2024, 1, 15, 15, 45, 0, 123000),
    } | changes


@pytest.fixture
def transcoder() -> Transcoder:
    learnt = Transcoder(PRODUCTS)
    learnt.learn(bson.encode(product()))
    assert agrees(learnt, PRODUCTS, bson.encode(product()))
    return learnt


@pytest.mark.parametrize(
    "changes",
    [
        {"description": 'with "quotes", \\ and \n'},
        {"description": ""},
        {"description": "ünïcödé \U0001f600 \u2028 %s %%"},
        {"price": Decimal128("12.55")},
        {"price": Decimal128("0.01")},
        {"stock": -(2**31)},
        {"tags": []},
        {"tags": ['"', "é", ""]},
        {"createdAt": datetime(1, 1, 1)},
        {"createdAt": datetime(9999, 12, 31, 23, 59, 59, 999000)},
        {"createdAt": datetime(1969, 12, 31, 23, 59, 59, 999000)},
    ],
)
def test_unusual_values_of_a_learnt_shape_are_packed(transcoder: Transcoder, changes: dict[str, Any]) -> None:
    assert agrees(transcoder, PRODUCTS, bson.encode(product(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a#b"},
        {"name": "~tilde"},
        {"name": "x" * 2000},
        {"price": Decimal128("12.5")},
        {"price": Decimal128("-12.50")},
        {"price": Decimal128("0.00")},
        {"price": Decimal128("NaN")},
        {"stock": 2.0},
        {"stock": Int64(3)},
        {"attributes": {"colour": "red"}},
        {"attributes": {"colour": "red", "weightKg": 2.0, "big": Int64(2**40), "ok": True, "none": None}},
        {"attributes": {"colour": "red", "weightKg": 1e300, "big": Int64(2**40), "ok": True, "none": None}},
        {"attributes": {"colour": "red", "weightKg": 1.5, "big": Int64(1), "ok": True, "none": None}},
        {"attributes": {"colour": "red", "weightKg": 1.5, "big": Int64(2**40), "ok": False, "none": None}},
        {"more": 1},
        {"tags": [1]},
        {"description": "x" * ITEM_BYTES},
        {"description": "a\x00b"},
        {"tags": ["a\x00b"]},
    ],
)
def test_what_needs_a_closer_look_is_left_to_the_mapping(transcoder: Transcoder, changes: dict[str, Any]) -> None:
    assert transcoder.pack(bson.encode(product(**changes)), VERSION) is None


def test_a_text_that_looks_like_the_fields_behind_it_is_not_taken_for_them() -> None:
    """Its zero bytes end it only in appearance."""
    transcoder = Transcoder(GENERIC)
    transcoder.learn(bson.encode({"_id": 1, "a": "x", "b": "y"}))
    forged = "x\x00\x02b\x00" + struct.pack("<i", 2).decode() + "z"
    for document in ({"_id": 1, "a": forged, "b": "y"}, {"_id": 1, "a": forged}, {"_id": 1, "b": "y", "a": forged}):
        data = bson.encode(document, codec_options=BSON_OPTIONS)
        assert transcoder.pack(data, VERSION) is None
    assert agrees(transcoder, GENERIC, bson.encode({"_id": 2, "a": "long", "b": ""}))


def test_an_element_that_looks_like_two_is_not_taken_for_them(transcoder: Transcoder) -> None:
    forged = "x\x00\x021\x00" + struct.pack("<i", 2).decode() + "z"
    data = bson.encode(product(tags=["marker"]))
    assert agrees(transcoder, PRODUCTS, data)
    assert transcoder.pack(bson.encode(product(tags=[forged])), VERSION) is None


def test_minus_zero_is_not_taken_for_zero() -> None:
    transcoder = Transcoder(GENERIC)
    transcoder.learn(bson.encode({"_id": 1, "x": 2.0}))
    assert agrees(transcoder, GENERIC, bson.encode({"_id": 1, "x": 0.0}))
    assert transcoder.pack(bson.encode({"_id": 1, "x": -0.0}), VERSION) is None


@pytest.mark.parametrize("text", ["507f1f77bcf86cd799439011", "2024-01-15T15:45:00.000Z", "five and twenty, not four"])
def test_key_that_may_look_like_another_type_is_left_to_the_mapping(text: str) -> None:
    transcoder = Transcoder(GENERIC)
    transcoder.learn(bson.encode({"_id": "plain"}))
    assert agrees(transcoder, GENERIC, bson.encode({"_id": "as plain"}))
    assert agrees(transcoder, GENERIC, bson.encode({"_id": text})) is (len(text) != 24)
    other = Transcoder(GENERIC)
    other.learn(bson.encode({"_id": text}))
    assert agrees(other, GENERIC, bson.encode({"_id": text})) is (len(text) != 24)


def test_text_that_is_not_utf_8_and_deprecated_types_are_left_to_the_mapping(transcoder: Transcoder) -> None:
    good = bson.encode(product(description="marker"))
    assert transcoder.pack(good, VERSION) is not None
    assert transcoder.pack(good.replace(b"marker", b"mark\xff\xfe"), VERSION) is None
    symbol = good.replace(b"\x02description\x00", b"\x0edescription\x00")
    assert transcoder.pack(symbol, VERSION) is None
    assert whole(PRODUCTS, symbol) is None


def test_what_decides_about_an_index_is_part_of_the_shape() -> None:
    def user(status: str) -> bytes:
        return bson.encode(
            {
                "_id": ObjectId(),
                "username": "ann",
                "email": "a@b",
                "status": status,
                "profile": {"firstName": "Ann", "location": {"city": "Oslo"}},
                "lastLoginAt": datetime(2024, 1, 1),
            }
        )

    transcoder = Transcoder(USERS)
    transcoder.learn(user("active"))
    assert agrees(transcoder, USERS, user("active"))
    assert not agrees(transcoder, USERS, user("closed"))
    transcoder.learn(user("closed"))
    assert agrees(transcoder, USERS, user("closed"))
    assert agrees(transcoder, USERS, user("active"))


def test_children_and_types_that_are_rare_are_not_learnt() -> None:
    transcoder = Transcoder(USERS)
    for more in ({"addresses": [{"type": "home"}]}, {"raw": b"x"}, {"never": DatetimeMS(2**60)}):
        data = bson.encode({"_id": ObjectId(), "username": "ann", **more})
        transcoder.learn(data)
        assert transcoder.pack(data, VERSION) is None


def test_what_is_inside_a_reference_is_left_to_the_mapping() -> None:
    for inner in ([Int64(1)], {"deep": [Int64(1)]}, Int64(1)):
        transcoder = Transcoder(GENERIC)
        data = bson.encode({"_id": 1, "owner": DBRef("users", inner)})
        transcoder.learn(data)
        assert transcoder.pack(data, VERSION) is None


def test_wide_document_is_not_learnt_at_length() -> None:
    """Each number costs two encodings of the document: an embedding of 1,536 took six seconds, and nothing came of it."""
    transcoder, encoded = Transcoder(GENERIC), Counter[str]()
    encode = transcoder._mapping.encode
    transcoder._mapping = SimpleNamespace(encode=lambda *given: encoded.update("1") or encode(*given))  # type: ignore[assignment]
    data = bson.encode({"_id": 1, "v": [1.5] * 1_536, "w": [Int64(1)] * 1_000})
    transcoder.learn(data)
    assert transcoder.pack(data, VERSION) is None
    assert encoded["1"] < 10


def test_learning_comes_to_an_end() -> None:
    transcoder = Transcoder(GENERIC)
    documents = [bson.encode({"_id": 1, f"field{number}": 1}) for number in range(MOST_LESSONS + 1)]
    for data in documents:
        transcoder.learn(data)
    assert sum(transcoder.pack(data, VERSION) is not None for data in documents) == MOST_SHAPES


@pytest.mark.parametrize("mapping", [ODD, DROPPING, REFUSING])
def test_mappings_in_which_values_decide_are_left_alone(mapping: DocumentMapping) -> None:
    """Numbers in keys with a format, and fields that are dropped or refused."""
    transcoder = Transcoder(mapping)
    data = bson.encode({"_id": 1, "n": 5, "whole": "x"})
    transcoder.learn(data)
    assert transcoder.pack(data, VERSION) is None


ONE: dict[str, Any] = {
    "_id": Int64(2**40), "n": 5, "a": {"b": {"c": "x"}}, "price": 1.5, "score": Decimal128("9.50"), "flag": True,
}  # fmt: skip
COMPUTED: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "computed": (ONE, [{"n": 6, "price": -2.75}, {"score": Decimal128("0.50")}, {"_id": Int64(2**50)}]),
    "sharded": (
        ONE | {"_id": "an id", "note": "a", "when": datetime(2024, 1, 1)},
        [{"_id": "another"}, {"when": datetime(1969, 5, 5, 5)}, {"note": "b", "n": -7}],
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_keys_of_numbers_and_shards_are_computed_and_all_else_is_copied(name: str) -> None:
    first, changes = COMPUTED[name]
    transcoder, mapping = Transcoder(MAPPINGS[name]), MAPPINGS[name]
    transcoder.learn(bson.encode(first))
    assert all(agrees(transcoder, mapping, bson.encode(first | change)) for change in ({}, *changes))
    assert not agrees(transcoder, mapping, bson.encode(first | {"a": {"b": {"c": 'what "JSON" escapes'}}, "_id": '"'}))


def test_number_that_has_no_such_key_is_left_to_the_mapping() -> None:
    mapping = MAPPINGS["computed"]
    transcoder = Transcoder(mapping)
    transcoder.learn(bson.encode(ONE | {"n": 5.5}))
    assert agrees(transcoder, mapping, bson.encode(ONE | {"n": 6.5}))
    for number in (float("nan"), 1e300, -1e300):
        assert not agrees(transcoder, mapping, bson.encode(ONE | {"n": number}))


def test_the_property_was_not_empty() -> None:
    """Documents were packed."""
    if not SEEN:
        pytest.skip("runs after the property")
    assert SEEN.total() > 20, SEEN


@pytest.mark.parametrize("collection", ["products", "categories"])
def test_a_real_collection_is_nearly_all_packed(collection: str) -> None:
    mapping, transcoder, packed = SHOP.mapping(collection), Transcoder(SHOP.mapping(collection)), 0
    documents = [bson.encode(made.document) for made in islice(shop_documents(collection, ShopPlan(awkward=0)), 500)]
    for data in documents:
        if agrees(transcoder, mapping, data):
            packed += 1
        elif whole(mapping, data) is not None:
            transcoder.learn(data)
    assert packed > len(documents) * 0.95
