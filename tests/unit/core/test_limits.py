"""DynamoDB's sizes, on examples counted by hand after AWS's rules for item sizes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from docferry.core.bson_codec.plain import from_plain
from docferry.core.limits import ITEM_BYTES, item_bytes, item_write_units, write_units
from docferry.core.mapping.items import Document, check_size
from docferry.errors import ItemTooLarge
from docferry.testing import strategies as draw
from hypothesis import given
from hypothesis import strategies as st
from support.mappings import GENERIC

# The value, and its bytes: strings in UTF-8; about one byte for two digits and one more (and one for a minus); raw binary;
# one for null and true; three for a map or list, one for each element.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html (from memory)
BY_HAND: list[tuple[Any, int]] = [
    ({"S": ""}, 0),
    ({"S": "abc"}, 3),
    ({"S": "é"}, 2),
    ({"S": "🦜"}, 4),
    ({"N": "0"}, 1),
    ({"N": "1"}, 2),
    ({"N": "12"}, 2),
    ({"N": "123"}, 3),
    ({"N": "-12"}, 3),
    ({"N": "1000000"}, 2),
    ({"N": "0.0000012"}, 2),
    ({"N": "12345678901234567890123456789012345678"}, 20),
    ({"B": ""}, 0),
    ({"B": "YQ=="}, 1),
    ({"B": "YWI="}, 2),
    ({"B": "YWJj"}, 3),
    ({"BOOL": False}, 1),
    ({"NULL": True}, 1),
    ({"L": []}, 3),
    ({"L": [{"S": "ab"}, {"NULL": True}]}, 3 + (1 + 2) + (1 + 1)),
    ({"M": {}}, 3),
    ({"M": {"k": {"S": "ab"}, "é": {"L": []}}}, 3 + (1 + 1 + 2) + (1 + 2 + 3)),
    ({"SS": ["a", "bc"]}, 3),
    ({"NS": ["1", "23"]}, 4),
    ({"BS": ["YQ==", "YWI="]}, 3),
]


@pytest.mark.parametrize(("value", "size"), BY_HAND, ids=lambda one: str(one))
def test_value_has_the_size_counted_by_hand(value: Any, size: int) -> None:
    assert item_bytes({"ä": value}) == 2 + size


@given(draw.documents())
def test_item_is_never_larger_than_its_json(document: Document) -> None:
    for item in GENERIC.encode(document, 1):
        assert item_bytes(item) <= len(orjson.dumps(item))


@given(st.binary(max_size=300))
def test_binary_counts_its_bytes_not_its_base64(data: bytes) -> None:
    assert item_bytes({"b": from_plain(data)}) == 1 + len(data)


@pytest.mark.parametrize("over", [0, 1])
def test_item_of_400_kib_is_the_largest(over: int) -> None:
    item = {"PK": {"S": "p"}, "SK": {"S": "s"}, "x": {"S": "a" * (ITEM_BYTES - 7 + over)}}
    assert item_bytes(item) == ITEM_BYTES + over
    if over:
        with pytest.raises(ItemTooLarge):
            check_size(item)
    else:
        check_size(item)


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (409_600, 400)])
def test_write_units_are_kib_rounded_up(size: int, units: int) -> None:
    assert write_units(size) == units


def test_each_index_that_the_item_is_in_costs_the_same_again() -> None:
    item = {"PK": {"S": "p"}, "SK": {"S": "s"}, "x": {"S": "a" * 1500}}
    assert item_write_units(item) == 2
    assert item_write_units({**item, "GSI1PK": {"S": "x"}, "GSI1SK": {"S": "x"}, "GSI2PK": {"S": "x"}}) == 6
