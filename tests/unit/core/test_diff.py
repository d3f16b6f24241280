"""Comparing without a server: what counts as equal, what a difference is called, and what a mask hides."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from docferry.config import load_migration
from docferry.core.compare.diff import (
    MISSING,
    DifferenceKind,
    Wire,
    compare_item,
    compare_values,
    compare_wire,
    differences_of,
    is_version,
    same_value,
    shown,
)
from docferry.core.compare.keysum import KeySum
from docferry.core.compare.masking import is_masked, shown_key, shown_strange_key
from support.place import ROOT

SHOP = load_migration(ROOT / "include" / "migrations" / "shop.yaml")
USERS = SHOP.mapping("users")
Item = dict[str, Any]

USER = {
    "_id": ObjectId("507f1f77bcf86cd799439011"),
    "username": "ada",
    "email": "ada@example.com",
    "profile": {"firstName": "Ada", "location": {"city": "London"}},
    "addresses": [{"type": "home", "street": "1 First St"}],
    "lastLoginAt": datetime(2024, 1, 15, tzinfo=UTC),
    "status": "active",
    "score": 1.5,
    "tags": ["a", "b"],
}


def found(change: Callable[[Item], Item | None], child: bool = False) -> list[tuple[str, str, str]]:
    expected = USERS.encode(USER, 1)[child]
    stored = change(USERS.encode(USER, 2)[child])
    return [
        (one.path, one.expected, one.actual) for one in differences_of(USERS, expected, stored, USERS.id_text(USER), ())
    ]


# --- equal -----------------------------------------------------------------------------------------------------------


def test_item_of_another_version_is_equal() -> None:
    assert found(lambda item: item) == []
    assert found(lambda item: item, child=True) == []


@pytest.mark.parametrize("number", ["1.5", "1.50", "15E-1"])
def test_numbers_are_compared_as_numbers(number: str) -> None:
    assert found(lambda item: {**item, "score": {"N": number}}) == []


def test_order_of_attributes_does_not_matter() -> None:
    assert found(lambda item: dict(reversed(item.items()))) == []


def test_hint_that_fits_nothing_is_no_difference() -> None:
    assert found(lambda item: {**item, "_t": {"M": {"/nowhere": {"S": "oid"}, "/email": {"N": "1"}}}}) == []


# --- different -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": {"N": "2"}}, ("score", "double 1.5", "int32 2")),
        ({"score": {"S": "1.5"}}, ("score", "double 1.5", "string 1.5")),
        ({"email": {"NULL": True}}, ("email", "string ada@example.com", "null None")),
        ({"firstName": {"S": "Eve"}}, ("profile.firstName", "string Ada", "string Eve")),
        ({"tags": {"L": [{"S": "a"}, {"S": "c"}]}}, ("tags.1", "string b", "string c")),
        ({"tags": {"SS": ["a", "b"]}}, ("tags", "attribute L [{'S': 'a'}, {'S': 'b'}]", "attribute SS ['a', 'b']")),
        ({"lastLoginAt": {"S": "2024-01-15T00:00:00Z"}},
         ("lastLoginAt", "attribute S 2024-01-15T00:00:00.000Z", "attribute S 2024-01-15T00:00:00Z")),
        ({"GSI1PK": {"S": "EMAIL#x"}}, ("GSI1PK", "string EMAIL#ada@example.com", "string EMAIL#x")),
        ({"_digest": {"S": "x"}}, ("_digest",)),
        ({"extra": {"S": "x"}}, ("extra", "missing", "string x")),
        ({"_ttl": {"N": "1"}}, ("_ttl", "missing", "int32 1")),
        ({"_v": {"S": "zz"}}, ("_v", "a version", "attribute S zz")),
        ({"entityType": {"S": "ORDER"}}, ("entityType", "string USER_PROFILE", "string ORDER")),
    ],
    ids=str,
)  # fmt: skip
def test_difference_has_its_path_and_both_values(change: Item, expected: tuple[str, ...]) -> None:
    (one,) = found(lambda item: {**item, **change})
    assert one[: len(expected)] == expected


@pytest.mark.parametrize(("name", "path"), [("email", "email"), ("_v", "_v"), ("_id", "_id"), ("userId", "_id")])
def test_missing_attribute_is_named(name: str, path: str) -> None:
    (one,) = found(lambda item: {key: value for key, value in item.items() if key != name})
    assert (one[0], one[2]) == (path, "missing")


def test_path_of_a_child_counts_from_its_place_in_the_array() -> None:
    assert found(lambda item: {**item, "street": {"S": "x"}}, child=True) == [
        ("addresses.0.street", "string 1 First St", "string x")
    ]


@pytest.mark.parametrize("change", [lambda item: None, lambda item: {**item, "_deleted": {"BOOL": True}}])
def test_no_item_or_a_tombstone_is_one_missing_item(change: Callable[[Item], Item | None]) -> None:
    expected = USERS.encode(USER, 1)[1]
    (one,) = differences_of(USERS, expected, change(expected), "id", ())
    assert (one.kind, one.path, one.expected, one.actual) == (
        DifferenceKind.MISSING,
        "addresses.0",
        "an item",
        "missing",
    )


def test_text_that_reads_like_our_words_is_only_a_value() -> None:
    (expected, *_) = USERS.encode({**USER, "note": "an item"}, 1)
    (one,) = differences_of(USERS, expected, {k: v for k, v in expected.items() if k != "note"}, "id", ("note",))
    assert (one.kind, one.path, one.expected) == (DifferenceKind.DIFFERENT, "note", "string (masked)")


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 10_000, masked=False)) < 140
    assert shown("x" * 10_000, masked=False).endswith("…")


# --- values ----------------------------------------------------------------------------------------------------------

DISTINCT: list[Any] = [
    None, True, False, 0, 1, Int64(1), 1.0, -0.0, 0.0, math.nan, math.inf, Decimal128("1"), Decimal128("1.0"), "1", "",
    b"1", Binary(b"1", 2), Binary(b"1", 128), ObjectId("5" * 24), "5" * 24, datetime(1970, 1, 1), DatetimeMS(2**60),
    Timestamp(1, 1), Regex("1"), Regex("1", "i"), Code("1"), Code("1", {}), Code("1", {"a": 1}), Code("1", {"a": 1.0}),
    DBRef("c", 1), DBRef("c", 1.0), MinKey(), MaxKey(), [], [1], [1.0], [[1]], {}, {"a": 1}, {"a": 1.0}, {"a": None},
]  # fmt: skip


@pytest.mark.parametrize("one", DISTINCT, ids=repr)
def test_values_are_the_same_only_as_themselves(one: Any) -> None:
    # NaN is itself, though Python says it is not; 1, 1.0, Int64(1) and "1" are four.
    assert [other is one for other in DISTINCT] == [not list(compare_values(one, other, "")) for other in DISTINCT]
    assert same_value(one, one)


def test_values_inside_are_named() -> None:
    assert list(compare_values({"a": [1, {"b": 2}], "c": 3}, {"a": [1, {"b": 2.0}], "d": 4}, "x")) == [
        ("x.a.1.b", 2, 2.0),
        ("x.c", 3, MISSING),
        ("x.d", MISSING, 4),
    ]


def test_wire_differences_are_named_inside_maps_and_lists() -> None:
    mine = {"M": {"a": {"L": [{"N": "1.50"}, {"N": "2"}]}, "~~x": {"S": "s"}}}
    other = {"M": {"a": {"L": [{"N": "1.5"}, {"S": "2"}]}, "~~x": {"S": "t"}}}
    assert list(compare_wire(mine, other, "m")) == [
        ("m.a.1", Wire({"N": "2"}), Wire({"S": "2"})),
        ("m.~x", Wire({"S": "s"}), Wire({"S": "t"})),
    ]


@pytest.mark.parametrize("value", [{"S": ""}, {"S": "zz"}, {"N": "1"}, {"S": "0" * 23}, {"S": "A" * 22}], ids=str)
def test_only_22_lowercase_hex_digits_are_a_version(value: Item) -> None:
    assert not is_version(value)
    assert is_version({"S": "0123456789abcdef012345"})


# --- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "mask", "hidden"),
    [
        ("email", "email", True),
        ("emails", "email", False),
        ("profile.email", "email", False),
        ("profile.location.city", "profile", True),
        ("profile", "profile.location.city", True),
        ("profile.location", "profile.location.city", True),
        ("addresses.0.street", "addresses.street", True),
        ("addresses.0", "addresses.street", True),
        ("addresses.10.zip", "addresses.street", False),
        ("years.2024.total", "years.2024.total", True),
        ("years.2024", "years.2024.total", True),
        ("years.2024.count", "years.2024.total", False),
    ],
)
def test_mask_covers_the_field_what_is_below_and_what_holds_it(path: str, mask: str, hidden: bool) -> None:
    assert is_masked(path, (mask,)) is hidden
    assert not is_masked(path, ())


def test_keys_made_of_masked_fields_show_their_template() -> None:
    child = next(iter(USERS.children.values()))
    key = ("USER#ada", "ADDRESS#home#000")
    assert shown_key(child, key, ()) == key
    assert shown_key(child, key, ("email",)) == key
    assert shown_key(child, key, ("username",)) == ("USER#{username}", key[1])
    assert shown_key(child, key, ("addresses",)) == (key[0], "ADDRESS#{type}#{index:03d}")


def test_key_of_a_stranger_is_hidden_where_it_looks_like_a_masked_one() -> None:
    mappings = list(SHOP.mappings.values())
    assert shown_strange_key(mappings, ("USER#eve", "X"), ("username",)) == ("USER#{username}", "X")
    assert shown_strange_key(mappings, ("ORDER#1", "X"), ("username",)) == ("ORDER#1", "X")


@pytest.mark.parametrize("kind", ["GSI1PK", "GSI2PK", "GSI2SK"])
def test_index_key_made_of_a_masked_field_is_hidden(kind: str) -> None:
    expected, *_ = USERS.encode(USER, 1)
    masked = ("email", "profile.location", "lastLoginAt")
    (one,) = differences_of(USERS, expected, {**expected, kind: {"S": "secret"}}, "id", masked)
    assert (one.expected, one.actual) == ("string (masked)", "string (masked)")


def test_mask_of_the_id_hides_it_and_its_copies() -> None:
    expected, *_ = USERS.encode(USER, 1)
    changed = {**expected, "_id": {"S": "x"}, "userId": {"S": "y"}}
    found = differences_of(USERS, expected, changed, str(USER["_id"]), ("_id",))
    assert str(USER["_id"]) not in repr(found)
    assert {one.id for one in found} == {"(masked)"}


# --- sums of keys ----------------------------------------------------------------------------------------------------


def test_sums_are_equal_in_any_order_and_for_the_same_keys_only() -> None:
    def of(*keys: tuple[str, str]) -> KeySum:
        total = KeySum()
        for key in keys:
            total.add_all([key])
        return total

    assert of(("a", "b"), ("c", "d")) == of(("c", "d"), ("a", "b"))
    assert of(("a", "b")) != of(("ab", ""))
    assert of(("a", "b")) != of(("a", "b"), ("a", "b"))
    assert of() == KeySum()


def test_comparison_changes_neither_item() -> None:
    expected, stored = USERS.encode(USER, 1)[0], USERS.encode(USER, 2)[0]
    before = (dict(expected), dict(stored))
    list(compare_item(USERS, expected, stored))
    assert (expected, stored) == before
