"""Which `create_index` may be passed over once DynamoDB leads, and which indexes it says that it has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from docferry.core.access.index_calls import AskedIndex, Kept, index_information, indexes_asked, needed
from docferry.core.settings import UniqueSettings
from pymongo import IndexModel

KEPT = Kept(
    key=frozenset({"username"}),
    guards=(UniqueSettings(name="email", key={"email": 1}, sparse=True),),
    waived=frozenset({frozenset({"phone"})}),
)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("n", "n_1"),
        ([("a", 1), ("b", -1)], "a_1_b_-1"),
        (["a", ("b", -1)], "a_1_b_-1"),
        ({"a": 1, "b": "hashed"}, "a_1_b_hashed"),
    ],
)
def test_an_index_that_only_makes_queries_fast_is_passed_over_under_mongodbs_name(keys: Any, name: str) -> None:
    (asked,) = indexes_asked("create_index", (keys,), {"background": True, "sparse": True})
    assert asked.name == name
    assert list(needed([asked], KEPT)) == []


def test_models_are_understood_and_names_of_ones_own_stay() -> None:
    asked = indexes_asked("create_indexes", ([IndexModel("a"), IndexModel([("b", -1)], name="by b")],), {})
    assert [one.name for one in asked] == ["a_1", "by b"]


@pytest.mark.parametrize(
    ("fields", "options", "told"),
    [
        ({"username": 1}, {"unique": True}, ""),
        ({"username": 1, "tenant": 1}, {"unique": True}, ""),
        ({"phone": 1}, {"unique": True}, ""),
        ({"email": 1}, {"unique": True, "sparse": True}, ""),
        (
            {"email": 1},
            {"unique": True},
            "email_1 is unique",
        ),  # a document without e-mail would be kept apart by MongoDB
        ({"tenant": 1}, {"unique": True}, "tenant_1 is unique"),
        ({"at": 1}, {"expireAfterSeconds": 60}, "lets documents expire"),
        ({"text": "text"}, {}, "of a kind that DynamoDB has not"),
        ({"place": "2dsphere"}, {}, "of a kind that DynamoDB has not"),
    ],
)
def test_an_index_that_decides_what_is_stored_or_found_is_passed_over_only_if_it_is_kept(
    fields: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    found = list(needed([AskedIndex(fields=fields, options=options)], KEPT))
    assert (told in found[0]) if told else found == []


@pytest.mark.parametrize("keys", [None, [], {}, 5, [5], [("a",)]])
def test_what_names_no_index_is_left_to_pymongo(keys: Any) -> None:
    assert indexes_asked("create_index", (keys,), {}) == []


SINCE = datetime(2024, 1, 1)
DATED = Kept(
    key=frozenset({"_id"}),
    guards=(
        UniqueSettings(name="_id_", key={"_id": 1}),
        UniqueSettings(name="by n", key={"n": -1}, partial={"at": {"$gt": {"$date": "2024-01-01T00:00:00Z"}}}),
    ),
)


def test_an_index_with_a_filter_that_json_has_no_types_for_is_kept() -> None:
    def asked(since: datetime) -> AskedIndex:
        return AskedIndex(fields={"n": -1}, options={"unique": True, "partialFilterExpression": {"at": {"$gt": since}}})

    assert list(needed([asked(SINCE)], DATED)) == []
    assert list(needed([asked(datetime(2025, 1, 1))], DATED)) != []


def test_the_indexes_that_are_kept_are_told_as_mongodb_lists_them() -> None:
    assert KEPT.listed() == [
        {"v": 2, "key": {"_id": 1}, "name": "_id_"},
        {"v": 2, "key": {"username": 1}, "name": "username_1", "unique": True},
        {"v": 2, "key": {"email": 1}, "name": "email", "unique": True, "sparse": True},
    ]
    assert index_information(DATED.listed()) == {
        "_id_": {"v": 2, "key": [("_id", 1)]},
        "by n": {"v": 2, "key": [("n", -1)], "unique": True, "partialFilterExpression": {"at": {"$gt": SINCE}}},
    }
