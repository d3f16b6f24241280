"""What another program wrote into an item is read without an error, and never as if it had not been written."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import bson
import pytest
from boto3.dynamodb.types import Binary as BotoBinary
from bson import Decimal128, Int64, MinKey
from docferry.core.bson_codec.decode import decode_value
from docferry.core.bson_codec.hints import HintTree
from docferry.core.bson_codec.plain import from_plain, plain_number, to_plain
from docferry.errors import InvariantBroken
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.mappings import ODD

_HINTS = ("double", "-double", "long", "int", "string", "decimal", "decimal:-2", "decimal:3", "-decimal", "-decimal:-2", "oid",
    "date", "datems", "binary:5", "binary:4", "binary:x", "binary:999", "timestamp", "code", "regex:2", "regex:99999999999999",
    "regex:x", "dbref", "minkey", "maxkey", "bson", "nonsense", "", "decimal:99999", "decimal:-99999", "decimal:x")  # fmt: skip
_numbers = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12),
    st.builds(
        lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(0, 10**38 - 1), st.integers(-130, 88)
    ),
).map(plain_number)
_leaves = st.one_of(
    st.sampled_from(("", "x", "1:2", "2024-01-01", "MinKey", "nan", "1e5", "a\0b", "507f1f77bcf86cd799439011")).map(
        lambda text: {"S": text}
    ),
    _numbers.map(lambda text: {"N": text}),
    st.binary(max_size=8).map(from_plain),
    st.builds(lambda key, value: from_plain(bson.encode({key: value})), st.sampled_from(("", "a")), st.integers(0, 5)),
    st.sampled_from(({"BOOL": True}, {"NULL": True}, {"SS": ["a", "b"]}, {"NS": ["1", "2"]}, {"BS": ["AA==", "AQ=="]})),
)
_names = st.sampled_from(("$ref", "$id", "$db", "a", "b", "~", "-", "0", "/"))
wire_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.dictionaries(_names, inner, max_size=3).map(lambda content: {"M": content}),
        st.lists(inner, max_size=3).map(lambda content: {"L": content}),
    ),
    max_leaves=5,
)
_pointers = st.lists(st.sampled_from(("x", "a", "$ref", "-", "0", "", "~0", "~", "~1")), max_size=4).map(
    lambda steps: "".join("/" + step for step in steps)
)
hint_maps = st.dictionaries(
    st.one_of(_pointers, st.just("/x"), st.text(max_size=3)), st.sampled_from(_HINTS), max_size=4
)


@given(
    wire_values, hint_maps, st.sampled_from((None, "oid", "date", "double", "long", "decimal", "decimal:-2", "code"))
)
@examples(8)
def test_any_value_under_any_hints_is_read_as_bson(wire: Any, hints: dict[str, str], declared: str | None) -> None:
    tree = HintTree(hints)
    bson.encode({"x": decode_value(wire, tree.root.get("x"), tree, declared)})


def read(wire: Any, hint: str, declared: str | None = None) -> tuple[Any, int]:
    tree = HintTree({"/x": hint} if hint else {})
    return decode_value(wire, tree.root.get("x"), tree, declared), tree.misfits


@pytest.mark.parametrize(
    ("wire", "hint", "expected"),
    [
        ({"N": "12.345"}, "decimal:-2", Decimal128("12.345")),
        ({"N": "5"}, "-decimal:-2", Decimal128("5.00")),
        ({"N": "5"}, "-double", 5.0),
        ({"S": "hello"}, "minkey", "hello"),
        ({"S": "5"}, "double", "5"),
        ({"S": "5.0e0"}, "decimal", "5.0e0"),
        ({"N": "7"}, "oid", 7),
        ({"S": "not hex"}, "oid", "not hex"),
        ({"N": "4294967296"}, "int", Int64(2**32)),
        ({"N": "1.5"}, "long", 1.5),
        ({"N": "1234567890123456789012345678901234567"}, "", Decimal128("1.234567890123456789012345678901235E+36")),
    ],
)
def test_value_that_outgrew_its_hint_is_read_as_what_it_is_and_counted(wire: Any, hint: str, expected: Any) -> None:
    value, misfits = read(wire, hint)
    assert (type(value), value, misfits) == (type(expected), expected, 1)


def test_value_that_outgrew_its_declared_type_is_read_as_what_it_is() -> None:
    assert read({"N": "12.345"}, "", "decimal:-2")[0] == Decimal128("12.345")
    assert read({"N": "13"}, "", "decimal:-2")[0].bid == Decimal128("13.00").bid


@pytest.mark.parametrize("pointer", ["", "x", "/", "/x/", "//x", "/x//y"])
def test_malformed_pointer_is_ignored_and_counted(pointer: str) -> None:
    tree = HintTree({"/x": "minkey", pointer: "oid"})
    assert decode_value({"S": "MinKey"}, tree.root.get("x"), tree) == MinKey()
    assert tree.misfits == 1


@given(wire_values)
def test_plain_values_lead_back_to_the_wire_form(wire: Any) -> None:
    assert from_plain(to_plain(wire)) == _sets_sorted(wire)


def _sets_sorted(wire: Any) -> Any:
    ((tag, content),) = wire.items()
    if tag == "M":
        return {"M": {name: _sets_sorted(inner) for name, inner in content.items()}}
    return {"L": [_sets_sorted(inner) for inner in content]} if tag == "L" else wire


def test_set_of_boto3_binaries_is_read() -> None:
    assert from_plain({BotoBinary(b"\1"), BotoBinary(b"\0")}) == {"BS": ["AA==", "AQ=="]}


# --- whole items -----------------------------------------------------------------------------------------------------


def test_root_without_id_and_missing_root_are_refused() -> None:
    root = ODD.encode({"_id": 1}, 1)[0]
    with pytest.raises(InvariantBroken):
        ODD.decode([{name: value for name, value in root.items() if name != "_id"}])
    with pytest.raises(InvariantBroken):
        ODD.decode([])
    with pytest.raises(InvariantBroken):
        ODD.decode([root, root])


def test_child_without_position_comes_last_and_is_counted() -> None:
    items = ODD.encode({"_id": 1, "cart": {"lines": [{"n": 1}, {"n": 2}]}}, 1)
    del items[1]["_i"]
    decoded = ODD.decode(items)
    assert decoded.document["cart"]["lines"] == [{"n": 2}, {"n": 1}]
    assert decoded.misfits == 1


def test_item_of_an_unknown_entity_is_left_out() -> None:
    items = ODD.encode({"_id": 1, "a": 1}, 1)
    stranger = {**items[0], "entityType": {"S": "SOMETHING_ELSE"}}
    assert ODD.decode([*items, stranger]).document == {"_id": 1, "a": 1}
