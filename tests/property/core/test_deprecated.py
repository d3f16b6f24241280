"""Symbol, undefined and DBPointer are found wherever they are, and nothing else is taken for one."""

from __future__ import annotations

import struct

import bson
import pytest
from docferry.core.bson_codec.deprecated_types import refuse_deprecated
from docferry.core.mapping.items import Document
from docferry.core.mapping.raw import decode_document
from docferry.errors import UnsupportedType
from docferry.testing import strategies as draw
from docferry.testing.strategies import raw_document, raw_element
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples

NAMES = {0x06: "undefined", 0x0C: "DBPointer", 0x0E: "symbol"}
_names = st.one_of(st.just(""), st.sampled_from(("a", "abcd", "name", "\x0e", "\x06", "~")), draw.field_names())


def raw_string(text: bytes) -> bytes:
    return struct.pack("<i", len(text) + 1) + text + b"\0"


def deprecated_value(kind: int, text: bytes) -> bytes:
    return {0x06: b"", 0x0C: raw_string(text) + b"\1" * 12, 0x0E: raw_string(text)}[kind]


# Elements as drivers write them, under any name.
ordinary_elements = st.dictionaries(_names, draw.bson_values(max_leaves=3), max_size=2).map(
    lambda values: [bson.encode({name: value})[4:-1] for name, value in values.items()]
)


@st.composite
def hidden(pick: st.DrawFn) -> tuple[bytes, str, str]:
    """(a document with one deprecated value somewhere, its path, its type)."""
    kind = pick(st.sampled_from(sorted(NAMES)))
    text = b"x" * pick(st.sampled_from((0, 1, 4, 5, 255, 65_535, 131_071)))
    name = pick(_names)
    before, after = pick(ordinary_elements), pick(ordinary_elements)
    document = raw_document(*before, raw_element(kind, name, deprecated_value(kind, text)), *after)
    path = name
    for _ in range(pick(st.integers(0, 4))):
        outer, around = pick(_names), pick(st.sampled_from((0x03, 0x04, 0x0F)))
        value = document
        if around == 0x0F:
            code = raw_string(b"return 1")
            value = struct.pack("<i", 4 + len(code) + len(document)) + code + document
        elements = [*pick(ordinary_elements), raw_element(around, outer, value), *pick(ordinary_elements)]
        document, path = raw_document(*elements), f"{outer}.{path}"
    return document, path, NAMES[kind]


_behind_two_ends = raw_document(
    raw_element(3, "x", raw_document(raw_element(3, "y", raw_document(raw_element(6, ""))))),
    raw_element(2, "abcd", raw_string(b"v")),
)


@given(hidden())
@examples(3)
@example((_behind_two_ends, "x.y.", "undefined"))
@example((raw_document(raw_element(0x0E, "", deprecated_value(0x0E, b"a" * 65_535))), "", "symbol"))
def test_deprecated_value_is_found_with_its_path(case: tuple[bytes, str, str]) -> None:
    document, path, kind = case
    with pytest.raises(UnsupportedType, match=kind) as caught:
        refuse_deprecated(document, decode_document(document))
    assert caught.value.path == path


@given(draw.documents())
@examples(3)
def test_document_without_deprecated_values_passes(document: Document) -> None:
    refuse_deprecated(data := bson.encode(document), decode_document(data))


@given(
    st.dictionaries(
        _names, st.sampled_from((6, 12, 14, "12345", "12345678901", "1234567890123", b"\x06\0\x0e\0", {}, []))
    )
)
def test_values_that_look_like_a_type_byte_pass(document: Document) -> None:
    data = bson.encode({"a": document, "b": [document, {"": document}]})
    refuse_deprecated(data, decode_document(data))
