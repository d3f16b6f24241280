"""Guards: what a document holds of MongoDB's unique indexes, and what a change of it does to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64
from docferry.config import parse_migration
from docferry.core.mapping.change_writes import DecodedChange
from docferry.core.mapping.items import Item, is_guard
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw
from docferry.core.settings import UniqueSettings
from docferry.errors import DocumentError, UnsupportedType

BASE = parse_migration(b"""
migration: unique
source: {database: unique}
tables: {Unique: {}}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{name}", SK: PROFILE}}
    children: {parts: {entity: PART, key: {SK: "PART#{index:03d}"}}}
""").mapping("users")
MAIL = UniqueSettings(name="email_1", key={"email": 1}, partial={"email": {"$gt": ""}})
USERS = DocumentMapping(replace(BASE.settings, unique=(UniqueSettings(name="_id_", key={"_id": 1}), MAIL)))
ANN = {"_id": 1, "name": "ann", "email": "ann@example.org", "parts": [{"n": 1}]}


def by(*indexes: UniqueSettings) -> DocumentMapping:
    return DocumentMapping(replace(BASE.settings, unique=indexes))


def keys_of(mapping: DocumentMapping, **fields: Any) -> set[str]:
    return {pk for pk, _ in mapping.guards({"_id": 1, "name": "ann", **fields})}


def shown(items: list[Item]) -> dict[str, str]:
    return {item["PK"]["S"]: "grave" if "_deleted" in item else item["_v"]["S"].lstrip("0") for item in items}


def change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> DecodedChange:
    new, old = (bson.encode(one) if one is not None else None for one in (after, before))
    return DecodedChange.of(USERS, new, old, 0xB)


def guards_written(decoded: DecodedChange, touched: tuple[str, ...] | None = None) -> dict[str, str]:
    writes = decoded.writes("_ttl", touched)
    return shown([item for item in writes.first if is_guard(item)])


def test_a_guard_says_whose_a_value_is_and_nothing_else() -> None:
    guard = encode_raw(USERS, bson.encode({**ANN, "_id": Int64(7)}), 0xA)[-1]
    assert guard == {
        "PK": {"S": "UNIQUE#users.email_1#ann@example.org"},
        "SK": {"S": "UNIQUE"},
        "entityType": {"S": "UNIQUE#users.email_1"},
        "_id": {"N": "7"},
        "_t": {"M": {"/_id": {"S": "long"}}},
        "_v": {"S": f"{0xA:022x}"},
    }


def test_guards_come_behind_the_items_of_their_document_and_are_in_no_digest() -> None:
    items = encode_raw(USERS, bson.encode(ANN), 0xA)
    bare = encode_raw(BASE, bson.encode(ANN), 0xA)
    assert items[: len(bare)] == bare
    assert [is_guard(item) for item in items] == [False, False, True, True]


def test_an_index_that_is_made_of_the_table_key_needs_no_guard() -> None:
    assert list(by(UniqueSettings(name="name_1", key={"name": 1}), MAIL).unique) == ["UNIQUE#users.email_1"]


@pytest.mark.parametrize("value", [5, 5.0, Int64(5), Decimal128("5"), Decimal128("5.00"), Decimal128("0.5E+1")])
def test_numbers_that_mongodb_holds_equal_have_one_guard(value: Any) -> None:
    assert keys_of(by(UniqueSettings(name="n", key={"n": 1})), n=value) == {"UNIQUE#users.n#~i5"}


def test_zero_has_no_sign_and_missing_is_null() -> None:
    mapping = by(UniqueSettings(name="n", key={"n": 1}))
    assert keys_of(mapping, n=-0.0) == keys_of(mapping, n=0) == {"UNIQUE#users.n#~i0"}
    assert keys_of(mapping) == keys_of(mapping, n=None) == {"UNIQUE#users.n#~n"}


def test_an_array_has_a_guard_for_each_distinct_element() -> None:
    mapping = by(UniqueSettings(name="n", key={"n.a": 1, "b": 1}))
    found = keys_of(mapping, n=[{"a": 1}, {"a": 1.0}, {"a": "x"}, 3], b="y")
    assert found == {"UNIQUE#users.n#~i1#y", "UNIQUE#users.n#x#y", "UNIQUE#users.n#~n#y"}


def test_two_arrays_side_by_side_are_refused_as_mongodb_refuses_them() -> None:
    with pytest.raises(DocumentError, match="two arrays"):
        keys_of(by(UniqueSettings(name="n", key={"a": 1, "b": 1})), a=[1], b=[2])


def test_sparse_and_partial_indexes_leave_out_what_mongodb_leaves_out() -> None:
    sparse = by(UniqueSettings(name="n", key={"a": 1, "b": 1}, sparse=True))
    assert keys_of(sparse) == set()
    assert len(keys_of(sparse, b=None)) == 1
    assert keys_of(by(MAIL), email="") == keys_of(by(MAIL), email=5) == set()


def test_values_for_which_a_key_has_no_room_are_digests_and_differ_still() -> None:
    mapping = by(UniqueSettings(name="n", key={"a": 1, "b": 1}))
    one, other = keys_of(mapping, a="x" * 2000, b="y" * 100), keys_of(mapping, a="x" * 2001, b="y" * 100)
    assert one != other
    assert all(pk.count("#") == 3 and len(pk) < 200 for pk in one | other)


def test_the_fields_of_indexes_and_of_their_filters_are_whole_in_a_pre_image() -> None:
    one = UniqueSettings(name="n", key={"a.b": 1}, partial={"$and": [{"c.d": 1}, {"e": {"$exists": True}}]})
    assert by(one).key_fields.whole == ("_id", "a", "c", "e")


# --- a change --------------------------------------------------------------------------------------------------------


def test_a_value_that_is_passed_on_leaves_a_tombstone_and_a_guard() -> None:
    written = guards_written(change(ANN, {**ANN, "email": "new@example.org"}), ("email",))
    assert written == {"UNIQUE#users.email_1#ann@example.org": "grave", "UNIQUE#users.email_1#new@example.org": "b"}


def test_an_update_that_touches_no_value_touches_no_guard() -> None:
    assert guards_written(change(ANN, {**ANN, "n": 2}), ("n",)) == {}


def test_a_change_that_touches_all_puts_all_guards_and_a_delete_buries_them() -> None:
    assert set(guards_written(change(ANN, ANN)).values()) == {"b"}
    assert guards_written(change(ANN, None)) == {
        "UNIQUE#users._id_#~i1": "grave", "UNIQUE#users.email_1#ann@example.org": "grave",
    }  # fmt: skip


def test_a_document_that_cannot_be_stored_has_no_guard() -> None:
    after = {**ANN, "email": "new@example.org"}
    buried = change(ANN, after).burial("_ttl", UnsupportedType("no", path="x")).first
    guards = shown([item for item in buried if is_guard(item)])
    assert set(guards.values()) == {"grave"}
    assert len(guards) == 3


def test_a_document_whose_guards_cannot_be_told_is_buried_all_the_same() -> None:
    mapping = by(UniqueSettings(name="n", key={"a": 1, "b": 1}))
    before = bson.encode({**ANN, "a": [1], "b": [2]})  # MongoDB has no such index, or it would have refused that
    writes = DecodedChange.of(mapping, None, before, 0xB).writes("_ttl")
    assert len(writes.first) == 1
    assert writes.root is not None


def test_a_moved_table_key_touches_no_guard() -> None:
    assert guards_written(change(ANN, {**ANN, "name": "anna"}), ("name",)) == {}


def test_subdocuments_of_two_orders_are_two_values_where_the_order_is_kept_alone() -> None:
    settings = replace(BASE.settings, unique=(UniqueSettings(name="a_1", key={"a": 1}),))
    for order, values in (("ignore", 1), ("keep", 2)):
        mapping = DocumentMapping(replace(settings, order=order))  # type: ignore[arg-type]
        assert len(keys_of(mapping, a={"x": 1, "y": 2}) | keys_of(mapping, a={"y": 2, "x": 1})) == values
