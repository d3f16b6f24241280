"""MongoDB's projections and sorts."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.core.mql.projection import project, sort_documents
from docferry.errors import CallRefused
from support.mongodb_cases.cases import ANN, SHOWN, Document

REFUSED: list[tuple[Any, str]] = [
    ({"l": {"$slice": 1}}, r"\$slice"),
    ({"l": {"$elemMatch": {"x": 1}}}, r"\$elemMatch"),
    ({"s": {"$meta": "textScore"}}, r"\$meta"),
    ({"l.$": 1}, r"l\.\$"),
    ({"n": "$a"}, "expression"),
    ({"n": 1, "a": 0}, "excludes"),
    ({"a": 1, "a.b": 1}, "part of it"),
    ({"a.b": 1, "a": 1}, "part of it"),
    ({"": 1}, "empty name"),
]


@pytest.mark.parametrize(("projection", "expected"), SHOWN, ids=str)
def test_projection_shows_what_mongodb_shows(projection: Any, expected: Document) -> None:
    found = project(ANN, projection)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(("projection", "name"), REFUSED, ids=str)
def test_projection_of_any_other_kind_is_refused_by_name(projection: Any, name: str) -> None:
    with pytest.raises(CallRefused, match=name):
        project(ANN, projection)


def sorted_values(values: list[Any], direction: int) -> list[Any]:
    documents: list[Document] = [{"v": value} if value != "missing" else {} for value in values]
    return [document.get("v", "missing") for document in sort_documents(documents, [("v", direction)])]


def test_sort_takes_missing_as_null_and_an_array_by_its_smallest_or_largest() -> None:
    values = [5, [9, 1], "missing", None, [], "x", [4]]
    assert sorted_values(values, 1) == [[], "missing", None, [9, 1], [4], 5, "x"]
    assert sorted_values(values, -1) == ["x", [9, 1], 5, [4], "missing", None, []]


def test_sort_goes_by_its_fields_in_order_and_keeps_what_is_equal_as_it_came() -> None:
    documents: list[Document] = [
        {"i": 0, "a": 1, "b": 1},
        {"i": 1, "a": 0},
        {"i": 2, "a": 1, "b": 2},
        {"i": 3, "a": 1, "b": 1.0},
    ]
    assert [one["i"] for one in sort_documents(documents, {"a": -1, "b": -1})] == [2, 0, 3, 1]


def test_sort_leads_through_arrays_by_name_and_by_place() -> None:
    documents: list[Document] = [{"i": 0, "a": [{"b": 3}, {"b": 9}]}, {"i": 1, "a": [{"b": 5}, {"b": 2}]}]
    assert [one["i"] for one in sort_documents(documents, [("a.b", 1)])] == [1, 0]
    assert [one["i"] for one in sort_documents(documents, [("a.0.b", 1)])] == [0, 1]
    assert [one["a"] for one in sort_documents([{"a": 0}, {"a": []}], [("a.b", 1)])] == [0, []]


@pytest.mark.parametrize(
    ("document", "sort"),
    [
        ({"a": [1], "b": [2]}, [("a", 1), ("b", 1)]),
        ({"a": [{"0": 1}]}, [("a.0", 1)]),
        ({}, [("a", "text")]),
        ({}, [("$a", 1)]),
    ],
)
def test_sort_by_other_rules_is_refused(document: Document, sort: Any) -> None:
    with pytest.raises(CallRefused, match="sort"):
        sort_documents([document], sort)
