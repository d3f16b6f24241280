"""MongoDB's update language: what each operator makes of a document, what it refuses and with which code."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import bson
import pytest
from bson import DBRef, Decimal128, Int64, Timestamp
from docferry.core.updates import apply_update, check_replacement, upsert_document
from docferry.errors import CallRefused, UpdateRefused

NOW = datetime(2024, 1, 15, 15, 45, 30, 123_000)
D = Decimal128
Document = dict[str, Any]

APPLIED: list[tuple[Document, Document, Document]] = [
    ({"a": 1}, {"$set": {"a": 1.0}}, {"a": 1.0}),
    ({}, {"$set": {"b": 1, "a.c": 2}}, {"a": {"c": 2}, "b": 1}),
    ({"z": 1}, {"$set": {"a10": 1, "a2": 1, "b.10": 1, "b.2": 1}}, {"z": 1, "a10": 1, "a2": 1, "b": {"2": 1, "10": 1}}),
    ({"a": [1]}, {"$set": {"a.3": 2}}, {"a": [1, None, None, 2]}),
    ({"a": [1]}, {"$set": {"a.1.b": 2}}, {"a": [1, {"b": 2}]}),
    ({"a": DBRef("c", 1)}, {"$set": {"a.x": 2}}, {"a": DBRef("c", 1, x=2)}),
    ({"a": 1, "b": [1, 2]}, {"$unset": {"a": "", "b.0": "", "c.d": ""}}, {"b": [None, 2]}),
    ({"a": 5}, {"$unset": {"a.b": ""}}, {"a": 5}),
    ({"a": 1}, {"$inc": {"a": 2, "b": 3}}, {"a": 3, "b": 3}),
    ({"a": 2**31 - 1}, {"$inc": {"a": 1}}, {"a": Int64(2**31)}),
    ({"a": Int64(1)}, {"$inc": {"a": 1}}, {"a": Int64(2)}),
    ({"a": 1}, {"$inc": {"a": 0.5}}, {"a": 1.5}),
    ({"a": D("1.50")}, {"$inc": {"a": 1}}, {"a": D("2.50")}),
    (
        {"a": 3},
        {"$mul": {"a": 2, "b": 1.5, "c": D("1.05"), "d": Int64(1)}},
        {"a": 6, "b": 0.0, "c": D("0.00"), "d": Int64(0)},
    ),
    ({"a": 2**20}, {"$mul": {"a": 2**20}}, {"a": Int64(2**40)}),
    ({"a": 5, "b": 5, "d": "x"}, {"$min": {"a": 4, "b": 6, "c": 1, "d": 1}}, {"a": 4, "b": 5, "d": 1, "c": 1}),
    ({"a": 5, "b": 5, "c": 1}, {"$max": {"a": 4, "b": 6, "c": 1.0}}, {"a": 5, "b": 6, "c": 1}),
    ({"a": 1, "b": 2}, {"$rename": {"a": "c.d", "x": "y"}}, {"b": 2, "c": {"d": 1}}),
    ({"a": 1, "b": 2}, {"$rename": {"b": "a"}}, {"a": 2}),
    ({"a": [1]}, {"$push": {"a": [2], "b": 1}}, {"a": [1, [2]], "b": [1]}),
    ({"a": [1, 4]}, {"$push": {"a": {"$each": [2, 3], "$position": 1}}}, {"a": [1, 2, 3, 4]}),
    ({"a": [1, 4]}, {"$push": {"a": {"$each": [2], "$position": -1}}}, {"a": [1, 2, 4]}),
    ({"a": [1, 4]}, {"$push": {"a": {"$each": [2], "$position": -5}}}, {"a": [2, 1, 4]}),
    ({"a": [3, 1]}, {"$push": {"a": {"$each": [2], "$sort": -1, "$slice": 2}}}, {"a": [3, 2]}),
    ({"a": [3, 1]}, {"$push": {"a": {"$each": [], "$slice": -1}}}, {"a": [1]}),
    (
        {"a": [{"b": 1, "c": 1}, {"b": 2, "c": 1}]},
        {"$push": {"a": {"$each": [{"c": 0}, 7], "$sort": {"c": 1, "b": -1}}}},
        {"a": [7, {"c": 0}, {"b": 2, "c": 1}, {"b": 1, "c": 1}]},
    ),
    ({"a": [1, 2, 1.0, "x"]}, {"$pull": {"a": 1, "b": 2}}, {"a": [2, "x"]}),
    ({"a": [1, 2, 3]}, {"$pull": {"a": {"$gte": 2}}}, {"a": [1]}),
    ({"a": [{"b": 1, "c": 2}, {"b": 2}, 5]}, {"$pull": {"a": {"b": 1}}}, {"a": [{"b": 2}, 5]}),
    ({"a": [{"b": 1}, {"b": 2}]}, {"$pull": {"a": {"$or": [{"b": 1}]}}}, {"a": [{"b": 2}]}),
    ({"a": [1]}, {"$addToSet": {"a": {"$each": [1.0, 2, 2]}, "b": 1}}, {"a": [1, 2], "b": [1]}),
    ({"a": [{"b": 1, "c": 1}]}, {"$addToSet": {"a": {"c": 1, "b": 1}}}, {"a": [{"b": 1, "c": 1}, {"c": 1, "b": 1}]}),
    ({"a": [1, 2], "b": [1, 2], "c": []}, {"$pop": {"a": 1, "b": -1, "c": 1, "d": 1}}, {"a": [1], "b": [2], "c": []}),
    ({}, {"$currentDate": {"a": True, "b": {"$type": "date"}}}, {"a": NOW, "b": NOW}),
    ({}, {"$currentDate": {"a": {"$type": "timestamp"}}}, {"a": Timestamp(1_705_333_530, 1)}),
    ({"a": 1}, {"$setOnInsert": {"a": 2}}, {"a": 1}),
    ({"a": 1}, {"$set": {}}, {"a": 1}),
    ({"_id": 1}, {"$set": {"_id": 1}, "$inc": {"n": 1}}, {"_id": 1, "n": 1}),
]

REFUSED: list[tuple[Document, Document, int]] = [
    ({}, {}, 9),
    ({}, {"$foo": {"a": 1}}, 9),
    ({}, {"a": 1}, 9),
    ({}, {"$set": 1}, 9),
    ({}, {"$set": {"": 1}}, 56),
    ({}, {"$set": {"a..b": 1}}, 56),
    ({}, {"$set": {"$a": 1}}, 52),
    ({}, {"$set": {"a": 1, "a.b": 1}}, 40),
    ({}, {"$set": {"a.b": 1}, "$inc": {"a": 1}}, 40),
    ({}, {"$set": {"a": 1}, "$setOnInsert": {"a": 1}}, 40),
    ({}, {"$rename": {"a": "b"}, "$set": {"a": 1}}, 40),
    ({"a": 1}, {"$set": {"a.b": 1}}, 28),
    ({"a": [1]}, {"$set": {"a.b": 1}}, 28),
    ({"a": 1}, {"$pop": {"a.b": 1}}, 28),
    ({"a": []}, {"$set": {"a.1500001": 1}}, 37),
    ({"a": "x"}, {"$inc": {"a": 1}}, 14),
    ({"a": None}, {"$mul": {"a": 1}}, 14),
    ({"a": True}, {"$inc": {"a": 1}}, 14),
    ({}, {"$inc": {"a": "1"}}, 14),
    ({"a": Int64(2**63 - 1)}, {"$inc": {"a": 1}}, 2),
    ({"a": 1}, {"$push": {"a": 1}}, 2),
    ({}, {"$push": {"a": {"$each": 1}}}, 2),
    ({}, {"$push": {"a": {"$each": [], "$foo": 1}}}, 2),
    ({}, {"$push": {"a": {"$each": [], "$slice": 1.5}}}, 2),
    ({}, {"$push": {"a": {"$each": [], "$sort": 2}}}, 2),
    ({}, {"$push": {"a": {"$each": [], "$sort": {}}}}, 2),
    ({"a": 1}, {"$addToSet": {"a": 1}}, 2),
    ({}, {"$addToSet": {"a": {"$each": 1}}}, 14),
    ({}, {"$addToSet": {"a": {"$each": [], "$slice": 1}}}, 2),
    ({"a": 1}, {"$pull": {"a": 1}}, 2),
    ({"a": 1}, {"$pop": {"a": 1}}, 14),
    ({"a": [1]}, {"$pop": {"a": 2}}, 9),
    ({}, {"$currentDate": {"a": 1}}, 2),
    ({}, {"$currentDate": {"a": {"$type": "time"}}}, 2),
    ({}, {"$rename": {"a": 1}}, 2),
    ({}, {"$rename": {"a": "a"}}, 2),
    ({}, {"$rename": {"a": "a.b"}}, 2),
    ({"a": [{"b": 1}]}, {"$rename": {"a.0.b": "c"}}, 2),
    ({"a": [1], "b": 1}, {"$rename": {"b": "a.0"}}, 2),
    ({"_id": 1}, {"$set": {"_id": 2}}, 66),
    ({"_id": 1}, {"$set": {"_id": 1.0}}, 66),
    ({"_id": 1}, {"$unset": {"_id": ""}}, 66),
    ({"_id": 1}, {"$rename": {"_id": "a"}}, 66),
    ({"_id": {"a": 1}}, {"$set": {"_id.b": 1}}, 66),
]

NOT_HERE: list[tuple[Any, str]] = [
    ({"$bit": {"a": {"and": 1}}}, r"\$bit"),
    ({"$pullAll": {"a": [1]}}, r"\$pullAll"),
    ({"$set": {"a.$": 1}}, "positional"),
    ({"$set": {"a.$[].b": 1}}, "positional"),
    ({"$set": {"a.$[x].b": 1}}, "positional"),
    ([{"$set": {"a": 1}}], "pipeline"),
    ({"$pull": {"a": {"b": {"$regex": "x"}}}}, r"\$regex"),
]


@pytest.mark.parametrize(("before", "update", "after"), APPLIED, ids=str)
def test_update_makes_of_the_document_what_mongodb_makes(before: Document, update: Document, after: Document) -> None:
    kept = bson.encode(before)
    assert bson.encode(apply_update(before, update, now=NOW)) == bson.encode(after)
    assert bson.encode(before) == kept


@pytest.mark.parametrize(("document", "update", "code"), REFUSED, ids=str)
def test_update_that_mongodb_refuses_is_refused_with_its_code(document: Document, update: Document, code: int) -> None:
    with pytest.raises(UpdateRefused) as caught:
        apply_update(document, update, now=NOW)
    assert caught.value.code == code


@pytest.mark.parametrize(("update", "name"), NOT_HERE, ids=str)
def test_update_with_anything_else_is_refused_by_name(update: Any, name: str) -> None:
    with pytest.raises(CallRefused, match=name):
        apply_update({"a": [1]}, update, now=NOW)


def test_update_that_changes_nothing_gives_back_the_document_itself() -> None:
    document = {"_id": 1, "a": 1, "b": [1]}
    assert apply_update(document, {"$set": {"a": 1}, "$addToSet": {"b": 1.0}}, now=NOW) is document
    assert apply_update(document, {"$set": {"a": 1.0}}, now=NOW) is not document


def test_refusal_shows_nothing_of_the_document() -> None:
    with pytest.raises(UpdateRefused) as caught:
        apply_update({"_id": "s3cr3t", "a": "s3cr3t"}, {"$inc": {"a": 1}}, now=NOW)
    assert "s3cr3t" not in f"{caught.value!s}{vars(caught.value)}"


# --- upserts and replacements ----------------------------------------------------------------------------------------


def test_upsert_starts_from_the_equalities_of_the_filter_and_has_its_id_first() -> None:
    found = upsert_document(
        {"n": 1, "b.c": "x", "_id": 7, "d": {"$gt": 1}, "$and": [{"e": {"$in": [2]}}]},
        {"$inc": {"n": 2}, "$setOnInsert": {"f": 1}},
        now=NOW,
    )
    assert list(found.items()) == [("_id", 7), ("b", {"c": "x"}), ("e", 2), ("n", 3), ("f", 1)]


def test_upsert_takes_the_id_of_the_update_where_the_filter_has_none() -> None:
    assert list(upsert_document({"a": 1}, {"$setOnInsert": {"_id": 5}}, now=NOW).items()) == [("_id", 5), ("a", 1)]


@pytest.mark.parametrize(
    ("query", "update", "code"),
    [
        ({"_id": 1}, {"$set": {"_id": 2}}, 66),
        ({"a": 1, "$and": [{"a": 2}]}, {"$set": {"b": 1}}, 54),
        ({"a": {"b": 1}, "a.c": 1}, {"$set": {"b": 1}}, 54),
        ({"a": 1}, {"$set": {"_id": [1]}}, 53),
    ],
)
def test_upsert_that_mongodb_refuses_is_refused_with_its_code(query: Document, update: Document, code: int) -> None:
    with pytest.raises(UpdateRefused) as caught:
        upsert_document(query, update, now=NOW)
    assert caught.value.code == code


def test_replacement_keeps_the_id_first_and_nothing_else() -> None:
    assert list(check_replacement({"_id": 1, "a": 1}, {"b": 2, "_id": 1}).items()) == [("_id", 1), ("b", 2)]
    assert list(check_replacement({}, {"b": 2, "_id": 1}).items()) == [("_id", 1), ("b", 2)]


@pytest.mark.parametrize(("replacement", "code"), [({"_id": 2}, 66), ({"$set": {"a": 1}}, 52), ({"a": 1, "$b": 1}, 52)])
def test_replacement_that_mongodb_refuses_is_refused_with_its_code(replacement: Document, code: int) -> None:
    with pytest.raises(UpdateRefused) as caught:
        check_replacement({"_id": 1}, replacement)
    assert caught.value.code == code


def test_empty_timestamp_that_mongodb_would_fill_in_is_refused_by_name() -> None:
    with pytest.raises(CallRefused, match="'a'"):
        check_replacement({"_id": 1}, {"a": Timestamp(0, 0)})
