"""MongoDB's update language: what each operator makes of a document, what it refuses and with which code."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Timestamp
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.updates import Updating, apply_update, check_replacement
from docferry.errors import CallRefused, UpdateRefused
from support.mongodb_cases.cases import APPLIED, NOW, REFUSED_UPDATES, Document
from support.mongodb_cases.elements import ELEMENTS
from support.mongodb_cases.pipelines import PIPED

NOT_HERE: list[tuple[Any, str]] = [
    ([{"$match": {"a": 1}}], "pipeline"),
    ({"$pull": {"a": {"b": {"$regex": r"(a)\1"}}}}, "groupref"),
]


@pytest.mark.parametrize(("before", "update", "after"), APPLIED, ids=str)
def test_update_makes_of_the_document_what_mongodb_makes(before: Document, update: Document, after: Document) -> None:
    kept = bson.encode(before)
    assert bson.encode(apply_update(before, update, now=NOW).document) == bson.encode(after)
    assert bson.encode(before) == kept


@pytest.mark.parametrize(("document", "update", "code"), REFUSED_UPDATES, ids=str)
def test_update_that_mongodb_refuses_is_refused_with_its_code(document: Document, update: Document, code: int) -> None:
    with pytest.raises(UpdateRefused) as caught:
        apply_update(document, update, now=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize(("document", "query", "update", "filters", "after"), ELEMENTS, ids=str)
def test_update_of_elements_makes_what_mongodb_makes(
    document: Document, query: Document, update: Document, filters: list[Document] | None, after: Document | int
) -> None:
    found = compile_filter(query)
    assert found.matches(document)
    try:
        made: Any = apply_update(document, update, now=NOW, array_filters=filters, query=found).document
    except UpdateRefused as refused:
        made = refused.code
    assert made == after


def test_position_that_several_conditions_give_differently_is_refused() -> None:
    found = compile_filter({"a": 2, "b": 5})
    assert found.position({"a": [1, 2], "b": [4, 5]}) == 1
    with pytest.raises(CallRefused, match="positional"):
        found.position({"a": [1, 2], "b": [5]})


@pytest.mark.parametrize(("document", "stages", "after"), PIPED, ids=str)
def test_update_by_a_pipeline_makes_what_mongodb_makes(
    document: Document, stages: list[Document], after: Document | int
) -> None:
    by = Updating(query=compile_filter({}), update=stages, now=NOW)
    try:
        made: Any = by.apply({"_id": 0, **document}).document
    except UpdateRefused as refused:
        made = refused.code
    assert made == (after if isinstance(after, int) else {"_id": 0, **after})


def test_update_by_a_pipeline_inserts_what_the_query_pins_and_it_computes() -> None:
    by = Updating(query=compile_filter({"_id": 1, "a": 2}), update=[{"$set": {"b": {"$add": ["$a", 1]}}}], now=NOW)
    assert list(by.inserted().items()) == [("_id", 1), ("a", 2), ("b", 3)]


@pytest.mark.parametrize(("update", "name"), NOT_HERE, ids=str)
def test_update_with_anything_else_is_refused_by_name(update: Any, name: str) -> None:
    with pytest.raises(CallRefused, match=name):
        Updating(query=compile_filter({}), update=update, now=NOW).apply({"a": [1]})


def test_order_of_fields_which_dynamodb_does_not_keep_makes_no_difference() -> None:
    document = {"_id": 1, "a": [{"b": 1, "c": 1}, {"b": 2}]}
    other = {"c": 1, "b": 1}
    assert apply_update(document, {"$addToSet": {"a": other}}, now=NOW).document is document
    assert apply_update(document, {"$pull": {"a": {"$in": [other]}}}, now=NOW).document["a"] == [{"b": 2}]
    assert len(apply_update(document, {"$addToSet": {"a": other}}, now=NOW, ordered=True).document["a"]) == 3
    for update in ({"$pull": {"a": {"$in": [other]}}}, {"$pullAll": {"a": [other]}}):
        assert apply_update(document, update, now=NOW, ordered=True).document is document


def test_update_that_changes_nothing_gives_back_the_document_itself() -> None:
    document = {"_id": 1, "a": 1, "b": [1]}
    assert apply_update(document, {"$set": {"a": 1}, "$addToSet": {"b": 1.0}}, now=NOW).document is document
    assert apply_update(document, {"$set": {"a": 1.0}}, now=NOW).document is not document


def test_refusal_shows_nothing_of_the_document() -> None:
    with pytest.raises(UpdateRefused) as caught:
        apply_update({"_id": "s3cr3t", "a": "s3cr3t"}, {"$inc": {"a": 1}}, now=NOW)
    assert "s3cr3t" not in f"{caught.value!s}{vars(caught.value)}"


# --- upserts and replacements ----------------------------------------------------------------------------------------


def test_upsert_starts_from_the_equalities_of_the_filter_and_has_its_id_first() -> None:
    query = compile_filter({"n": 1, "b.c": "x", "_id": 7, "d": {"$gt": 1}, "$and": [{"e": {"$in": [2]}}]})
    found = Updating(query=query, update={"$inc": {"n": 2}, "$setOnInsert": {"f": 1}}, now=NOW).inserted()
    assert list(found.items()) == [("_id", 7), ("b", {"c": "x"}), ("e", 2), ("n", 3), ("f", 1)]


def test_upsert_takes_the_id_of_the_update_where_the_filter_has_none() -> None:
    assert list(
        Updating(query=compile_filter({"a": 1}), update={"$setOnInsert": {"_id": 5}}, now=NOW).inserted().items()
    ) == [("_id", 5), ("a", 1)]


@pytest.mark.parametrize(
    ("query", "update", "code"),
    [
        ({"_id": 1}, {"$set": {"_id": 2}}, 66),
        ({"a": 1, "$and": [{"a": 2}]}, {"$set": {"b": 1}}, 54),
        ({"a": {"b": 1}, "a.c": 1}, {"$set": {"b": 1}}, 54),
        ({"a": 1}, {"$set": {"_id": [1]}}, 54),
        ({"$and": [{"a": 0}, {"a": 0}]}, {"$addToSet": {"a": {"$each": {"a": 1}}}}, 14),  # the update comes first
    ],
)
def test_upsert_that_mongodb_refuses_is_refused_with_its_code(query: Document, update: Document, code: int) -> None:
    with pytest.raises(UpdateRefused) as caught:
        Updating(query=compile_filter(query), update=update, now=NOW).inserted()
    assert caught.value.code == code


def test_upsert_of_a_name_with_a_dollar_is_refused_by_name() -> None:
    with pytest.raises(CallRefused, match=r"'\$a'"):
        Updating(query=compile_filter({}), update={"$set": {"$a": 1}}, now=NOW).inserted()


def test_replacement_keeps_the_id_first_and_nothing_else() -> None:
    assert list(check_replacement({"_id": 1, "a": 1}, {"b": 2, "_id": 1}).items()) == [("_id", 1), ("b", 2)]
    assert list(check_replacement({"_id": 1, "a": 1}, {"b": 2}).items()) == [("_id", 1), ("b", 2)]
    assert list(check_replacement({}, {"b": 2, "_id": 1}).items()) == [("_id", 1), ("b", 2)]


@pytest.mark.parametrize(("replacement", "code"), [({"_id": 2}, 66), ({"$set": {"a": 1}}, 52), ({"a": 1, "$b": 1}, 52)])
def test_replacement_that_mongodb_refuses_is_refused_with_its_code(replacement: Document, code: int) -> None:
    with pytest.raises(UpdateRefused) as caught:
        check_replacement({"_id": 1}, replacement)
    assert caught.value.code == code


def test_empty_timestamp_that_mongodb_would_fill_in_is_refused_by_name() -> None:
    with pytest.raises(CallRefused, match="'a'"):
        check_replacement({"_id": 1}, {"a": Timestamp(0, 0)})
