"""Access patterns: what their parameters stand for, and which keys and queries they become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId
from docferry.config import load_migration, parse_migration
from docferry.core.access.page_tokens import decode_token, encode_token, question_id
from docferry.core.access.parameters import typed
from docferry.core.access.patterns import Pattern, compile_pattern
from docferry.core.settings import AccessPattern
from docferry.errors import CallRefused
from hypothesis import given
from hypothesis import strategies as st
from support.place import ROOT

SHOP = load_migration(ROOT / "include" / "migrations" / "shop.yaml")
HEX = "507f1f77bcf86cd799439011"


def of_the_shop(name: str) -> Pattern:
    settings = next(one for one in SHOP.access_patterns if one.name == name)
    return compile_pattern(SHOP.mapping(settings.collection), settings)


@pytest.mark.parametrize("name", [one.name for one in SHOP.access_patterns])
def test_every_pattern_of_the_shop_lines_up(name: str) -> None:
    pattern = of_the_shop(name)
    assert len(pattern.names) == 1
    assert pattern.bind({pattern.names[0]: HEX}).query


def test_placeholder_stands_for_the_field_that_the_mapping_has_there() -> None:
    asked = of_the_shop("active_users_in_city").bind({"city": "Seattle"})
    assert asked.query == {"profile.location.city": "Seattle", "status": "active"}
    assert (asked.index, asked.partition, asked.low, asked.high) == ("GSI2", "CITY#Seattle", None, None)


def test_pattern_of_the_table_key_has_the_root_items_key() -> None:
    assert of_the_shop("user_by_username").bind({"username": "a#b"}).key == ("USER#a~hb", "PROFILE")
    assert of_the_shop("order_with_items").bind({"orderId": HEX}).key == (f"ORDER#{HEX}", "METADATA")


def test_hex_text_is_an_object_id_only_where_the_field_is_one() -> None:
    assert of_the_shop("orders_of_user").bind({"userId": HEX}).query == {"userId": ObjectId(HEX)}
    assert of_the_shop("orders_of_user").bind({"userId": ObjectId(HEX)}).partition == f"USER#{HEX}"
    assert of_the_shop("orders_by_status").bind({"status": HEX}).query == {"status": HEX}
    assert of_the_shop("user_by_username").bind({"username": HEX}).key == (f"USER#~s{HEX}", "PROFILE")


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-01", "2024-01-01T00:00:00Z", datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 1, 1, 0, 0, 0, 999),
    ],
)  # fmt: skip
def test_since_is_a_moment_however_it_is_written(value: Any) -> None:
    asked = of_the_shop("active_users_in_city").bind({"city": "Seattle"}, since=value)
    assert asked.low == "ACTIVE#2024-01-01T00:00:00.000Z"
    assert asked.high == "ACTIVE#9999-12-31T23:59:59.999Z"
    assert asked.query["lastLoginAt"] == {"$gte": datetime(2024, 1, 1)}


def test_until_alone_begins_with_the_first_of_its_type() -> None:
    asked = of_the_shop("orders_by_status").bind({"status": "paid"}, until=HEX)
    assert (asked.low, asked.high) == (f"ORDER#{'0' * 24}", f"ORDER#{HEX}")


@pytest.mark.parametrize(
    ("name", "given", "bounds", "says"),
    [
        ("orders_of_user", {}, {}, "it takes userId"),
        ("orders_of_user", {"userId": None}, {}, "misses userId"),
        ("orders_of_user", {"userId": HEX, "color": 1}, {}, "has no parameter color"),
        ("orders_of_user", {"userId": [HEX]}, {}, "give one value"),
        ("orders_of_user", {"userId": HEX}, {"since": 7}, "cannot be bounded by int"),
        ("orders_of_user", {"userId": HEX}, {"since": "soon"}, "cannot be bounded by str"),
        ("orders_of_user", {"userId": HEX}, {"since": "2024-01-01", "until": ObjectId(HEX)}, "ObjectId, datetime"),
        ("products_in_category", {"categoryId": HEX}, {"since": "A"}, "cannot be bounded by str"),
        ("user_by_email", {"email": "a@b.c"}, {"since": "2024-01-01"}, "its sort key is USER"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    name: str, given: dict[str, Any], bounds: dict[str, Any], says: str
) -> None:
    with pytest.raises(CallRefused, match=says):
        of_the_shop(name).bind(given, **bounds)


def test_empty_value_has_no_place_in_an_index() -> None:
    assert of_the_shop("user_by_email").bind({"email": ""}).partition is None
    assert of_the_shop("user_by_username").bind({"username": ""}).key is None


FILE = """
migration: odd
source: {database: odd}
tables: {Odd: {indexes: [GSI1]}}
collections:
  members:
    item:
      entity: MEMBER
      key: {PK: "ORG#{org}", SK: "MEMBER#{_id}"}
  bills:
    item: {entity: BILL, key: {PK: "BILL#{_id}", SK: DATA}, index: {}}
    children:
      lines:
        entity: LINE
        key: {SK: "LINE#{index:03d}"}
        index: {GSI1: {PK: "SKU#{sku}-x", SK: "AT#{at}"}}
        types: {at: date}
  seats:
    item: {entity: SEAT, key: {PK: "HALL#{hall}", SK: "SEAT#{_id}"}}
    children:
      bookings:
        entity: BOOKING
        key: {SK: "BOOKING#{index:03d}"}
        index: {GSI1: {PK: "GUEST#{guest}", SK: BOOKING}}
access_patterns: {}
"""
ODD = parse_migration(FILE.encode(), "odd.yaml")


def odd(collection: str, index: str | None = None, **key: str) -> Pattern:
    settings = AccessPattern(name="it", collection=collection, index=index, key=key)
    return compile_pattern(ODD.mapping(collection), settings)


def test_pattern_of_a_partition_leads_to_many() -> None:
    pattern = odd("members", PK="ORG#{org}")
    assert not pattern.names_one
    asked = pattern.bind({"org": "acme"}, until=HEX)
    assert (asked.key, asked.index, asked.partition) == (None, "", "ORG#acme")
    assert (asked.low, asked.high) == (f"MEMBER#{'0' * 24}", f"MEMBER#{HEX}")
    assert odd("members", PK="ORG#{o}", SK="MEMBER#{m}").bind({"o": "acme", "m": HEX}).key == (
        "ORG#acme",
        f"MEMBER#{HEX}",
    )


def test_fixed_text_in_place_of_a_placeholder_is_its_value() -> None:
    pattern = odd("members", PK="ORG#acme")
    assert pattern.names == ()
    assert pattern.bind({}).query == {"org": "acme"}


def test_pattern_of_an_element_leads_to_its_document() -> None:
    pattern = odd("bills", "GSI1", PK="SKU#{sku}-x")
    asked = pattern.bind({"sku": "s1"}, since="2024-01-01")
    assert asked.partition == "SKU#s1-x"
    assert asked.query == {"lines": {"$elemMatch": {"sku": "s1", "at": {"$gte": datetime(2024, 1, 1)}}}}
    assert pattern.root_key(("BILL#1", "LINE#000")) == ("BILL#1", "DATA")
    assert not pattern.names_one


@pytest.mark.parametrize(
    ("collection", "index", "key"),
    [
        ("members", None, {"PK": "{org}#{x}"}),
        ("members", None, {"PK": "ORG#{org}#{x}"}),
        ("bills", "GSI1", {"PK": "SKU#{sku}"}),
        ("bills", None, {"PK": "BILL#{_id}", "SK": "LINE#{n}"}),
        ("bills", None, {"PK": "BILL#{_id}", "SK": "{anything}"}),
        ("seats", "GSI1", {"PK": "GUEST#{guest}"}),  # the item does not tell which seat it belongs to
    ],
)
def test_pattern_that_lines_up_with_nothing_is_refused(collection: str, index: str | None, key: dict[str, str]) -> None:
    with pytest.raises(CallRefused, match="leads to no whole document"):
        odd(collection, index, **key)


def test_value_of_no_declared_type_stays_as_it_is() -> None:
    assert typed(ODD.mapping("members").root, "org", "2024-01-01") == "2024-01-01"
    assert typed(ODD.mapping("members").root, "_id", HEX) == ObjectId(HEX)


# --- tokens ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(), min_size=2, max_size=3))
def test_token_comes_back_as_it_was_and_prints(place: list[str]) -> None:
    question = question_id("orders", "USER#x", None, None, True)
    token = encode_token(question, place)
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum()
    assert decode_token(token, question, len(place)) == place


def test_token_of_another_question_is_refused() -> None:
    token = encode_token(question_id("orders", "USER#x"), ["a", "b"])
    with pytest.raises(CallRefused, match="another question"):
        decode_token(token, question_id("orders", "USER#y"), 2)


@given(st.text() | st.sampled_from(["bnVsbA", "WyJhIl0", "W1tdLFtdLFtdXQ", "e30"]))
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(CallRefused, match="`start`"):
        decode_token(token, question_id("orders"), 2)
