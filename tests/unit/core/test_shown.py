"""A document that no driver reads, or reads as something else, is shown as it is."""

from __future__ import annotations

import json
import struct
from typing import Any

import bson
import pytest
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from docferry.core.bson_codec.bson_bytes import document_of
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.shown import invalid_text_path, show_document
from docferry.core.mapping.raw import decode_document
from docferry.errors import UnsupportedType
from docferry.testing.vectors_documents import VALUES


def text(value: bytes) -> bytes:
    return struct.pack("<i", len(value) + 1) + value + b"\x00"


INNER = document_of((0x02, b"name", text(b"ab\xffc")))
BROKEN = document_of((0x10, b"_id", struct.pack("<i", 7)), (0x04, b"lines", document_of((0x03, b"0", INNER))))


def test_text_that_is_not_utf8_is_shown_with_its_place() -> None:
    shown = show_document(BROKEN)
    assert shown.document == {"_id": 7, "lines": [{"name": "ab\\xffc"}]}
    assert shown.invalid_text == ["lines.0.name"]


def test_a_document_that_cannot_be_decoded_names_the_field() -> None:
    with pytest.raises(UnsupportedType, match="UTF-8") as refused:
        decode_document(BROKEN)
    assert refused.value.path == "lines.0.name"


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (0x06, b"", {"$undefined": True}),
        (0x0E, text(b"red"), {"$symbol": "red"}),
        (0x0C, text(b"shop.users") + b"\x01" * 12, {"$dbPointer": {"$ref": "shop.users", "$id": {"$oid": "01" * 12}}}),
    ],
)
def test_deprecated_types_look_as_extended_json_writes_them(kind: int, value: bytes, wanted: Any) -> None:
    shown = show_document(document_of((kind, b"x", value)))
    assert json.loads(dumps(shown.document, json_options=CANONICAL_JSON_OPTIONS)) == {"x": wanted}


def test_what_is_no_bson_has_no_place() -> None:
    assert invalid_text_path(b"\x05\x00\x00\x00") == ""
    assert invalid_text_path(bson.encode({"a": "b"})) == ""


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_other_value_looks_as_the_driver_reads_it(value: Any) -> None:
    data = bson.encode({"x": {"y": [value]}})
    read = bson.decode(data, BSON_OPTIONS)
    shown = show_document(data)
    assert dumps(shown.document, json_options=CANONICAL_JSON_OPTIONS) == dumps(
        read, json_options=CANONICAL_JSON_OPTIONS
    )
    assert shown.invalid_text == []
