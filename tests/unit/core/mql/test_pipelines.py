"""What of a pipeline's $matches is asked first: as much as MongoDB 6.0 asks first (its explain)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from docferry.core.mql.pipelines import compile_pipeline

X = {"$set": {"x": {"$divide": ["$a", "$b"]}}}
LEADING: list[tuple[list[dict[str, Any]], dict[str, Any], int]] = [
    ([{"$match": {"z": 1}}, X, {"$match": {"x": 1, "a": 1}}], {"z": 1, "a": 1}, 2),
    ([X, {"$match": {"$and": [{"a": 1}, {"x": 2}, {"$or": [{"c": 1}, {"x": 3}]}]}}], {"a": 1}, 2),
    ([X, {"$match": {"$nor": [{"a": 1}, {"x": 2}]}}], {"$nor": [{"a": 1}]}, 2),
    ([X, {"$match": {"$or": [{"a": 1}, {"x": 2}]}}], {}, 2),
    ([X, {"$match": {"$expr": {"$eq": ["$$ROOT.a", 1]}, "x": 1}}], {"$expr": {"$eq": ["$$ROOT.a", 1]}}, 2),
    ([X, {"$match": {"$expr": {"$eq": [{"$getField": "x"}, 1]}}}], {}, 2),
    ([X, {"$match": {"a": {"$elemMatch": {"k": 1}}}}], {}, 2),
    ([X, {"$match": {"x": 1}}, {"$match": {"a": 1}}], {"a": 1}, 2),
    ([X, {"$sort": {"q": 1}}, {"$match": {"a": 1}}, {"$match": {"a": {"$gt": 0}}}], {"a": 1, "$and": [{"a": {"$gt": 0}}]}, 2),
    ([{"$set": {"a.x": 1}}, {"$match": {"a.y": 1, "a.x": 1, "a": {"$ne": 1}}}], {"a.y": 1}, 2),
    ([{"$project": {"a": 1, "x": "$c"}}, {"$match": {"a.b": 1, "b": 2, "_id": 3}}], {"a.b": 1, "_id": 3}, 2),
    ([{"$project": {"b.c": 0}}, {"$match": {"b": 1, "b.d": 2}}], {"b.d": 2}, 2),
    ([{"$project": {"_id": 0}}, {"$match": {"_id": 1, "b": 2}}], {"b": 2}, 2),
    ([{"$unwind": {"path": "$a.b", "includeArrayIndex": "i"}}, {"$match": {"a.c": 1, "a": 3, "i": 1}}], {"a.c": 1}, 2),
    ([{"$limit": 3}, {"$sort": {"a": 1}}, {"$match": {"a": 1}}], {}, 3),
    ([{"$group": {"_id": "$a"}}, {"$match": {"_id": 1}}], {}, 2),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "leading", "left"), LEADING, ids=str)
def test_what_no_stage_changes_is_asked_first(stages: list[dict[str, Any]], leading: dict[str, Any], left: int) -> None:
    pipeline = compile_pipeline(stages, now=datetime(2024, 1, 1))
    assert pipeline.match == leading
    assert len(pipeline.stages) == left
