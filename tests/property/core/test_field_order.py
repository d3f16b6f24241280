"""With `order: keep` fields come back in their order, however DynamoDB gives them."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import bson
import pytest
from bson import DBRef, ObjectId
from docferry.config import parse_migration
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.compare.diff import compare_item, compare_values
from docferry.core.mapping.field_order import orders_of
from docferry.core.mapping.items import Document
from docferry.core.mapping.learnt.transcoder import Transcoder
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, same_content
from docferry.errors import TransformFailed
from docferry.testing import strategies as draw
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.mappings import GENERIC, REVERSIBLE
from support.transforms import renamed, swapped

VERSION = 7 << 40
NOTES = parse_migration(b"""
migration: notes
source: {database: app}
tables: {Large: {}}
collections:
  notes:
    table: Large
    overflow: compress
    order: keep
    item: {entity: NOTE, key: {PK: "NOTE#{name}", SK: NOTE}}
    children: {parts: {entity: PART, key: {SK: "PART#{index:03d}"}}}
""").mapping("notes")
MAPPINGS = {
    name: DocumentMapping(replace(one.settings, order="keep"))
    for name, one in REVERSIBLE.items()
    if name in ("generic", "users", "products", "odd", "references", "designed")
} | {"turned": DocumentMapping(replace(REVERSIBLE["turned"].settings, order="keep"), renamed)}
DOCUMENTS = {
    name: draw.documents() if REVERSIBLE[name] is GENERIC else draw.documents_for(mapping)
    for name, mapping in MAPPINGS.items()
}


def mixed(value: Any, random: Random) -> Any:
    """A copy whose maps have another order, as DynamoDB may give them."""
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: mixed(value[name], random) for name in names}
    return [mixed(one, random) for one in value] if isinstance(value, list) else value


def shuffled(value: Any, random: Random) -> Any:
    """A document in any order of fields, but for its references."""
    if isinstance(value, DBRef):
        return value  # pymongo gives its own fields their order
    return mixed(value, random) if not isinstance(value, dict | list) else _shuffled(value, random)


def _shuffled(value: Any, random: Random) -> Any:
    if isinstance(value, list):
        return [shuffled(one, random) for one in value]
    names = list(value)
    random.shuffle(names)
    return {name: value[name] if name == "_id" else shuffled(value[name], random) for name in names}


def read_as_bson(document: Document) -> Document:
    return decode_document(bson.encode(document, codec_options=BSON_OPTIONS))


def in_order(document: Document) -> bytes:
    """A document's BSON as MongoDB has it, the `_id` first."""
    return bson.encode({"_id": document["_id"], **document}, codec_options=BSON_OPTIONS)


@pytest.mark.parametrize("name", MAPPINGS)
def test_subdocuments_come_back_in_their_order(name: str) -> None:
    mapping = MAPPINGS[name]

    def check(document: Document, seed: int) -> None:
        document = _shuffled(document, Random(seed))
        items = mapping.encode(document, VERSION)
        decoded = mapping.decode(mixed(items, Random(seed + 1)))
        assert decoded.misfits == 0
        assert in_order(decoded.document) == in_order(document)
        again = mapping.encode(decoded.document, VERSION)
        assert [list(compare_item(mapping, *pair)) for pair in zip(items, again, strict=True)] == [[]] * len(items)

    settings()(given(DOCUMENTS[name], st.integers(0, 99))(check))()


@given(DOCUMENTS["generic"], st.integers(0, 99))
def test_another_order_is_a_difference_where_it_is_kept_alone(document: Document, seed: int) -> None:
    other = _shuffled(document, Random(seed))
    assume(orders_of(other) != orders_of(document))
    for mapping, differs in ((MAPPINGS["generic"], True), (REVERSIBLE["generic"], False)):
        both = [mapping.encode(one, VERSION) for one in (document, other)]
        found = [list(compare_item(mapping, *pair)) for pair in zip(*both, strict=True)]
        assert any(found) is differs
        one, another = map(read_as_bson, (document, other))
        assert any(compare_values(one, another, "", ordered=mapping.keeps_order)) is differs
        assert same_content(*map(bson.encode, (document, other)), ordered=mapping.keeps_order) is not differs


def test_transform_that_changes_the_order_is_refused_where_it_is_kept() -> None:
    mapping = DocumentMapping(replace(REVERSIBLE["turned"].settings, order="keep"), swapped)
    assert mapping.encode({"_id": 1, "other": 1, "n": 2}, VERSION)  # as it was before
    with pytest.raises(TransformFailed, match="another order"):
        mapping.encode({"_id": 1, "n": 2, "other": 1}, VERSION)


def test_documents_of_a_learnt_shape_are_packed_with_their_order() -> None:
    mapping = MAPPINGS["products"]
    transcoder = Transcoder(mapping)
    document = {
        "_id": ObjectId(),
        "sku": "S-1",
        "name": "Lamp",
        "attributes": {"z": "red", "b": 1, "y": {"b": 1, "a": 2}},
    }
    transcoder.learn(bson.encode(document))
    packed = transcoder.pack(bson.encode(document | {"sku": "S-2"}), VERSION)
    assert packed is not None
    hints = json.loads(packed[1])["_t"]["M"]
    assert {name: hint["S"] for name, hint in hints.items()} == {
        "#": "210",
        "#/attributes": "201",
        "#/attributes/y": "10",
    }


def test_order_lies_with_what_is_compressed() -> None:
    mapping = NOTES
    document = {
        "_id": 1,
        "name": "n",
        "z": "long " * 100_000,
        "a": {"z": 1, "b": 2},
        "parts": [{"z": "y" * 500_000, "b": 2}],
    }
    items = [mapping.layout.fitted(item) for item in mapping.encode(document, VERSION)]
    assert all("_z" in item and not any(name[:1] == "#" for name in item.get("_t", {}).get("M", {})) for item in items)
    read = [mapping.layout.read(item) for item in items]
    assert in_order(mapping.decode(read).document) == in_order(document)


def test_unfit_hint_is_counted_and_passed_over() -> None:
    mapping = MAPPINGS["generic"]
    (item,) = mapping.encode({"_id": 1, "a": {"z": 1, "b": 2}}, VERSION)
    item["a"]["M"]["c"] = {"N": "3"}
    decoded = mapping.decode([item])
    assert (list(decoded.document["a"]), decoded.misfits) == (["b", "c", "z"], 1)


def test_document_in_the_order_of_its_names_has_no_hint() -> None:
    assert orders_of({"_id": 1, "a": {"a": 1, "b": {"x": 1, "y": 2}}, "b": [{"a": 1, "b": 2}]}) == {}


def test_top_level_has_a_hint_in_which_the_id_has_no_place() -> None:
    assert orders_of({"_id": 1, "b": 1, "a": 2}) == orders_of({"b": 1, "_id": 1, "a": 2}) == {"": "10"}


def test_elements_of_one_order_share_a_hint() -> None:
    item = {"sku": 1, "n": 2}
    assert orders_of({"items": [item, item, item], "o": {"z": 1, "a": item}}) == {
        "/items/-": "10",
        "/o": "10",
        "/o/a": "10",
    }
