"""A collection's filter: what it may say, what it takes, and which queries stay within it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import ObjectId
from docferry.core.mapping.document_filter import DocumentFilter, compile_document_filter
from docferry.core.mql.filters import compile_filter
from docferry.errors import FilterUndecided, OutsideFilter


def made(said: dict[str, Any]) -> DocumentFilter:
    found = compile_document_filter(said)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"a": {"$regex": "x"}}, "wants a single value"),
        ({"a": {"$ne": 1}}, "$ne is not served"),
        ({"a": {"$eq": 1, "$gt": 0}}, "is not served"),
        ({"$or": [{"a": 1}]}, "is no plain path"),
        ({"$where": "true"}, "is no plain path"),
        ({"a.0": 1}, "is no plain path"),
        ({"a": [1]}, "wants a single value"),
        ({"a": {"b": 1}}, "wants a single value"),
        ({"a": {"$in": []}}, "at least one value"),
        ({"a": {"$in": [[1]]}}, "wants a single value"),
        ({"a": {"$gt": None}}, "wants a text, a number, a date or an ObjectId"),
        ({"a": {"$gt": True}}, "wants a text, a number, a date or an ObjectId"),
        ({"a": float("nan")}, "wants a single value"),
        ({"a": {"$regularExpression": {"pattern": "x", "options": ""}}}, "wants a single value"),
        ({"a": datetime(2024, 1, 1)}, "is no value here"),  # as YAML reads a bare date
        ({"a": {"$oid": "zz"}}, "is no value here"),
        ({"a": 2**70}, "is no value here"),
    ],
)
def test_what_could_not_be_asked_everywhere_is_refused(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        compile_document_filter(said)
    assert told in str(caught.value)


def test_several_fields_must_all_hold_and_values_are_extended_json() -> None:
    one = made({"region": {"$in": ["eu", None]}, "at": {"$gte": {"$date": "2024-01-01T00:00:00Z"}}})
    assert one.holds({"region": "eu", "at": datetime(2024, 1, 1)})
    assert one.holds({"at": datetime(2025, 1, 1)})
    assert not one.holds({"region": "eu", "at": datetime(2023, 12, 31)})
    assert not one.holds({"region": "eu", "at": "2024-01-01"})
    assert not one.holds({"region": "us", "at": datetime(2025, 1, 1)})
    assert made({"_id": {"$gt": {"$oid": "650000000000000000000000"}}}).holds({"_id": ObjectId()})
    assert compile_document_filter({}) is None


@pytest.mark.parametrize("document", [{"a": {"b": [1]}}, {"a": [{"b": 1}]}, {"a": []}, {"a": {"b": []}}])
def test_an_array_is_neither_in_nor_out(document: dict[str, Any]) -> None:
    with pytest.raises(FilterUndecided) as caught:
        made({"a.b": 1}).require(document)
    assert caught.value.path == "a.b"


def test_what_another_field_keeps_out_is_outside_whatever_arrays_it_has() -> None:
    with pytest.raises(OutsideFilter):
        made({"a": 1, "kind": "order"}).require({"a": [1], "kind": "note"})


@pytest.mark.parametrize(
    ("said", "query", "within"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}, True),
        ({"a": 1}, {"b": 2}, False),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": {"$in": [1]}}, True),
        ({"a": {"$in": [1, 2]}}, {"a": {"$in": [1, 2]}}, True),
        ({"a": {"$in": [1, 2]}}, {"a": {"$in": [1, 3]}}, False),
        ({"a": 1}, {"$or": [{"a": 1}, {"b": 1}]}, False),
        ({"a": {"$gte": 5}}, {"a": {"$gte": 5}}, True),
        ({"a": {"$gt": 5}}, {"a": {"$gt": 5}}, True),
        ({"a": {"$gt": 5}}, {"a": {"$gte": 5}}, False),
        ({"a": {"$gte": 5}}, {"a": {"$gt": 4}}, False),
        ({"a": {"$gte": 5}}, {"a": {"$gte": "5"}}, False),
        ({"a": {"$gte": 5}}, {"a": {"$lt": 9}}, False),
        ({"a": {"$gte": 5, "$lt": 9}}, {"a": {"$gt": 5, "$lte": 8}}, True),
        ({"a": {"$gte": 5, "$lt": 9}}, {"a": {"$gt": 5}}, False),
        ({"a": {"$lt": 9}}, {"a": {"$lt": 9}}, True),
        ({"a": {"$lt": 9}}, {"a": {"$lte": 9}}, False),
        ({"a": {"$gte": 5}}, {"a": {"$exists": True}}, False),
        ({"a": None}, {"a": None}, True),
    ],
)  # fmt: skip
def test_a_query_is_within_the_filter_if_all_that_it_finds_is(
    said: dict[str, Any], query: dict[str, Any], within: bool
) -> None:
    assert made(said).is_implied_by(query, compile_filter(query).equalities) is within
