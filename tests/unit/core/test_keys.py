"""Keys as the playbook writes them, and what is written out because it could be mistaken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, DBRef, Decimal128, Int64, ObjectId
from docferry.core.bson_codec.plain import iso_date
from docferry.core.mapping.key_templates import lookup, parse_template, render_value

OID = ObjectId("507f1f77bcf86cd799439011")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ann", "ann"),
        ("a#b~c", "a~hb~~c"),
        ("", "~s"),
        ("507f1f77bcf86cd799439011", "~s507f1f77bcf86cd799439011"),
        ("2024-01-15T15:45:00.000Z", "~s2024-01-15T15:45:00.000Z"),
        ("1", "1"),
        (OID, "507f1f77bcf86cd799439011"),
        (datetime(2024, 1, 15, 15, 45), "2024-01-15T15:45:00.000Z"),
        (1, "~i1"),
        (Int64(1), "~i1"),
        (1.0, "~d1.0"),
        (True, "~b1"),
        (None, "~n"),
        (Decimal128("1.50"), "~m1.50"),
        (Binary.from_uuid(UUID(int=1)), "~u00000000-0000-0000-0000-000000000001"),
    ],
)
def test_value_is_plain_where_nothing_else_looks_like_it(value: Any, text: str) -> None:
    assert render_value(value) == text


@pytest.mark.parametrize(
    ("source", "document", "text"),
    [
        ("USER#{username}", {"username": "ann"}, "USER#ann"),
        ("ITEM#{n:03d}", {"n": 7}, "ITEM#007"),
        ("ITEM#{n:03d}", {"n": 1234}, "ITEM#1234"),
        ("ITEM#{n:d}", {"n": Int64(-7)}, "ITEM#-7"),
        ("ITEM#{n:03d}", {"n": "007"}, "ITEM#~s007"),
        ("C#{a.b.c}", {"a": {"b": {"c": "x"}}}, "C#x"),
        ("C#{_id}#{a}", {"_id": OID, "a": "b"}, "C#507f1f77bcf86cd799439011#b"),
        ("FIXED", {}, "FIXED"),
        ("O#{owner.$id}", {"owner": DBRef("people", OID)}, "O#507f1f77bcf86cd799439011"),
        ("O#{a.$x.y}", {"a": {"$x": {"y": "z"}}}, "O#z"),
    ],
)
def test_template_is_filled_in(source: str, document: Any, text: str) -> None:
    template = parse_template(source)
    assert template.render(document) == template.render_key(document) == text


def test_index_is_the_position_not_a_field_of_that_name() -> None:
    template = parse_template("A#{index:03d}")
    assert template.render({"index": 99}, 4) == "A#004"
    assert template.render({"index": 99}) == "A#099"


@pytest.mark.parametrize(
    "source", ["", "{}", "{a}{b}", "{a}-{b}", "{a", "a}", "{a:s}", "{a:3d}", "{a:0d}", "{a:024d}", "~", "{a..b}", "{.}"]
)
def test_template_that_could_mislead_is_refused(source: str) -> None:
    with pytest.raises(ValueError):
        parse_template(source)


def test_path_leads_through_subdocuments_only() -> None:
    document = {"a": {"b": None}, "l": [{"x": 1}]}
    assert lookup(document, ("a", "b")) is None
    assert lookup(document, ("l", "0", "x")) is lookup(document, ("a", "b", "c")) is lookup(document, ("z",))


def test_date_is_utc_in_milliseconds() -> None:
    there = timezone(timedelta(hours=2))
    assert iso_date(datetime(2024, 1, 1, 1, 0, 0, 123_999, tzinfo=there)) == "2023-12-31T23:00:00.123Z"
    assert iso_date(datetime(1, 1, 1)) == "0001-01-01T00:00:00.000Z"
    assert iso_date(datetime(2024, 1, 1, tzinfo=UTC)) == iso_date(datetime(2024, 1, 1))
