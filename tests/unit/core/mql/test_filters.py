"""MongoDB's query language: what each operator means, and that nothing else is taken for one."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from bson import Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from docferry.core.bson_codec.order import order_key, same
from docferry.core.mql.filters import compile_filter
from docferry.errors import CallRefused
from support.mongodb_cases.cases import FOUND, PASSED_OVER

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"$where": "1"}, r"\$where"),
    ({"a": {"$elemMatch": {"$expr": True}}}, r"\$expr"),
    ({"$comment": "x"}, r"\$comment"),
    ({"a": {"$mod": [0, 1]}}, r"\$mod"),
    ({"a": {"$gt": 1, "b": 2}}, "operator b"),
    ({"a": {"$in": 1}}, r"\$in"),
    ({"a": {"$in": [{"$gt": 1}]}}, r"\$in"),
    ({"a": {"$not": {}}}, r"\$not"),
    ({"a": {"$not": 1}}, r"\$not"),
    ({"a": {"$size": -1}}, r"\$size"),
    ({"a": {"$size": "1"}}, r"\$size"),
    ({"a": {"$all": 1}}, r"\$all"),
    ({"a": {"$elemMatch": 1}}, r"\$elemMatch"),
    ({"a": {"$type": "text"}}, r"\$type"),
    ({"a": {"$type": []}}, r"\$type"),
    ({"$and": []}, r"\$and"),
    ({"$or": {"a": 1}}, r"\$or"),
]


@pytest.mark.parametrize(("query", "document"), FOUND, ids=str)
def test_filter_finds_what_mongodb_finds(query: dict[str, Any], document: dict[str, Any]) -> None:
    assert compile_filter(query).matches(document)


@pytest.mark.parametrize(("query", "document"), PASSED_OVER, ids=str)
def test_filter_passes_over_what_mongodb_passes_over(query: dict[str, Any], document: dict[str, Any]) -> None:
    assert not compile_filter(query).matches(document)


INSTEAD: list[tuple[dict[str, Any], str]] = [
    ({"a": Regex(r"(a)\1")}, "a prefix, a part"),
    ({"a": {"$regex": "a(?=b)"}}, "a prefix, a part"),
    ({"a": {"$not": Regex("a++")}}, "a prefix, a part"),
    ({"$text": {"$search": "x"}}, "search service"),
    ({"a": {"$elemMatch": {"$expr": True}}}, "at the top level"),
    ({"a": {"$near": [1, 2]}}, "geohash"),
    ({"$comment": "x"}, "an option of the call"),
]


@pytest.mark.parametrize(("query", "advice"), INSTEAD, ids=str)
def test_refusal_says_what_to_write_instead(query: dict[str, Any], advice: str) -> None:
    with pytest.raises(CallRefused) as caught:
        compile_filter(query)
    assert advice in caught.value.suggestion


@pytest.mark.parametrize("word", ["$eq", "$in", "$all"])
def test_order_of_fields_which_dynamodb_does_not_keep_makes_no_difference(word: str) -> None:
    wanted = {"b": 1, "c": [{"d": 1, "e": 2}]}
    query = {"a": {word: wanted if word == "$eq" else [wanted]}}
    assert compile_filter(query).matches({"a": {"c": [{"e": 2, "d": 1}], "b": 1}})
    assert not compile_filter(query).matches({"a": {"c": [{"e": 2, "d": 2}], "b": 1}})
    in_order = compile_filter(query, ordered=True)
    assert not in_order.matches({"a": {"c": [{"e": 2, "d": 1}], "b": 1}})
    assert not in_order.matches({"a": {"b": 1, "c": [{"e": 2, "d": 1}]}})
    assert in_order.matches({"a": wanted})


@pytest.mark.parametrize(("query", "name"), REFUSED, ids=str)
def test_filter_with_anything_else_is_refused_by_name(query: dict[str, Any], name: str) -> None:
    with pytest.raises(CallRefused, match=name) as caught:
        compile_filter(query)
    assert "$elemMatch" in caught.value.suggestion


def test_regular_expression_is_refused_wherever_it_stands() -> None:

    for query in ({"a": re.compile("x")}, {"a": {"$in": [re.compile("x")]}}, {"a": {"$not": re.compile("x")}}):
        with pytest.raises(CallRefused, match="regular expression"):
            compile_filter(query)


def test_equalities_are_what_every_found_document_has() -> None:
    query = {
        "a": 1,
        "b.c": {"$eq": "x", "$gt": "a"},
        "d": {"$in": [7]},
        "$and": [{"e": {"$all": [2]}}, {"f": {"$gt": 1}}, {"$or": [{"g": 3}]}],
        "$or": [{"h": 1}, {"i": 1}],
        "j": {"$not": {"$eq": 1}},
        "k": {"$elemMatch": {"l": 1}},
        "$nor": [{"m": 1}],
    }
    assert compile_filter(query).equalities == {"a": 1, "b.c": "x", "d": 7, "e": 2, "g": 3}


def test_values_of_all_types_are_in_mongodb_order() -> None:
    values = [
        MinKey(), None, float("nan"), float("-inf"), Decimal128("-1E+400"), -1, 0.0, Decimal128("0.1"), 0.1, Int64(1), 1.5,
        float("inf"), "", "a", {}, {"a": 1}, {"b": 0}, {"a": "x"}, [], [1], b"", ObjectId("0" * 24), False, True,
        datetime(1970, 1, 1), Timestamp(0, 1), Code("f"), Code("f", {}), MaxKey(),
    ]  # fmt: skip
    assert sorted(reversed(values), key=order_key) == values


def test_double_equals_the_decimal_of_its_first_34_digits() -> None:
    assert same(0.1, Decimal128("0.1000000000000000055511151231257827"))
    assert not same(0.1, Decimal128("0.1"))
    assert same(2.0**60, Int64(2**60))
    assert not same(2.0**53, Int64(2**53 + 1))
