"""Pipelines of a real mongod and ours, side by side: the same documents, to the BSON type, or both refuse.

The order of fields is not compared, that of documents only behind a $sort by what tells all apart.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64
from docferry.core.bson_codec.options import BSON_OPTIONS, sorted_bytes
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.pipelines import STAGES, compile_pipeline, update_pipeline
from docferry.core.mql.pipelines.grouping import ACCUMULATORS
from docferry.errors import CallRefused, ExpressionRefused
from docferry.sandbox import SandboxStack
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from support.examples import examples
from support.mongodb_cases.expressions import EXPRESSIONS, NUMBERS, SCALARS, VALUES

NOW = datetime(2024, 1, 1)
SERVERS_OWN = 4822806
"""'duplicate field': a mistake of MongoDB 6.0's, where one expression is twice an operand within a $group."""
Things = Collection[dict[str, Any]]
Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def things(stack: SandboxStack) -> Iterator[Things]:
    with MongoClient[dict[str, Any]](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        name = f"pipelines{uuid.uuid4().hex}"
        yield client.get_database(name, BSON_OPTIONS).create_collection("things")
        client.drop_database(name)


def expect_same(things: Things, pipeline: Documents, documents: Documents, *, ordered: bool, **options: Any) -> bool:
    """Whether it could be compared."""
    try:
        compiled = compile_pipeline([{"$sort": {"_id": 1}}, *pipeline], now=NOW, let=options.get("let"))
        leading = compile_filter(compiled.match, compiled.variables)
        mine: Any = compiled.run(filter(leading.matches, documents))
    except CallRefused:
        return False
    except ExpressionRefused:
        mine = None
    try:
        theirs: Any = list(things.aggregate([{"$sort": {"_id": 1}}, *pipeline], **options))
    except OperationFailure as error:
        if error.code == SERVERS_OWN:
            return False
        theirs = None
    assert (mine is None) == (theirs is None), (pipeline, documents, mine, theirs)
    if mine is not None:
        found, wanted = ([sorted_bytes(one) for one in side] for side in (mine, theirs))
        same = found == wanted if ordered else sorted(found) == sorted(wanted)
        assert same, (pipeline, documents, mine, theirs)
    return True


def fill(things: Things, documents: Documents) -> Documents:
    things.delete_many({})
    numbered = [{"_id": at, **one} for at, one in enumerate(documents)]
    things.insert_many(numbered)
    return list(things.find(sort=[("_id", 1)]))


NAMES = st.sampled_from(["a", "b", "a.b", "c", "n1"])
FLAGS = st.dictionaries(NAMES, st.sampled_from([1, True]), min_size=1, max_size=2)
COMPUTED = st.dictionaries(st.sampled_from(["x", "a", "b.x", "a.b"]), EXPRESSIONS, min_size=1, max_size=2)
CONDITIONS = st.one_of(
    st.sampled_from(["n1", "n2", "a", "b.x", "x", "a.b"]).flatmap(
        lambda name: st.sampled_from([{"$gt": 0}, 1, None, {"$exists": True}, {"$ne": None}, {"$not": {"$lt": 2}}]).map(
            lambda one: {name: one}
        )
    ),
    EXPRESSIONS.map(lambda one: {"$expr": one}),
    st.sampled_from([{"a": {"$size": 1}}, {"a": {"$elemMatch": {"$gt": 0}}}, {"a": {"$elemMatch": {"b": 1}}}]),
)
MATCHES = st.one_of(
    CONDITIONS,
    st.tuples(st.sampled_from(["$and", "$and", "$or", "$nor"]), st.lists(CONDITIONS, min_size=1, max_size=3)).map(
        lambda one: {one[0]: one[1]}
    ),
)
STAGE = st.one_of(
    COMPUTED.map(lambda one: {"$addFields": one}),
    COMPUTED.map(lambda one: {"$set": one}),
    st.tuples(FLAGS, COMPUTED).map(lambda one: {"$project": {**one[1], **one[0]}}),
    FLAGS.map(lambda one: {"$project": dict.fromkeys(one, 0)}),
    NAMES.map(lambda one: {"$unset": one}),
    st.lists(NAMES, min_size=1, max_size=2, unique=True).map(lambda one: {"$unset": one}),
    st.integers(1, 3).map(lambda one: {"$limit": one}),
    st.integers(0, 2).map(lambda one: {"$skip": one}),
    MATCHES.map(lambda one: {"$match": one}),
    NAMES.map(lambda one: {"$sort": {"n1": -1, "_id": 1}}),
    st.tuples(NAMES, st.booleans(), st.booleans()).map(
        lambda one: {
            "$unwind": {"path": f"${one[0]}", "preserveNullAndEmptyArrays": one[1]}
            | ({"includeArrayIndex": "at"} if one[2] else {})
        }
    ),
    EXPRESSIONS.map(lambda one: {"$replaceWith": {"_id": "$_id", "r": one}}),
)
LAST = st.one_of(
    st.just({"$count": "n"}),
    st.tuples(
        EXPRESSIONS, st.sampled_from(["$sum", "$avg", "$min", "$max", "$first", "$last", "$push"]), EXPRESSIONS
    ).map(lambda one: {"$group": {"_id": one[0], "v": {one[1]: one[2]}, "n": {"$count": {}}}}),
)  # $addToSet gives its values in no order
DOCUMENTS = st.fixed_dictionaries({"n1": NUMBERS, "n2": NUMBERS}, optional={"a": VALUES, "b": VALUES, "c": SCALARS})


@examples(1)
@given(
    documents=st.lists(DOCUMENTS, min_size=4, max_size=4),
    asked=st.lists(st.tuples(st.lists(STAGE, max_size=2), st.lists(LAST, max_size=1)), min_size=3, max_size=3),
)
def test_pipelines_give_what_mongodb_gives(
    things: Things, documents: Documents, asked: list[tuple[Documents, Documents]]
) -> None:
    stored = fill(things, documents)
    for stages, last in asked:
        expect_same(things, [*stages, *last], stored, ordered=not last)


ORDERS: Documents = [
    {"user": "ann", "total": 5, "at": datetime(2024, 1, 3), "items": [{"sku": "x", "n": 2}, {"sku": "y", "n": 1}]},
    {"user": "bob", "total": 2.5, "at": datetime(2024, 1, 9), "items": []},
    {"user": "ann", "total": Int64(7), "at": datetime(2024, 2, 1), "items": [{"sku": "x", "n": 4}], "note": None},
    {"user": "cid", "total": Decimal128("1.10"), "at": datetime(2024, 2, 2), "items": [{"sku": "z"}], "note": "n"},
    {"total": "none", "at": datetime(2024, 2, 3)},
]
CASES: list[Documents] = [
    [
        {"$group": {"_id": "$user", "sum": {"$sum": "$total"}, "n": {"$sum": 1}, "avg": {"$avg": "$total"}}},
        {"$sort": {"_id": 1}},
    ],
    [
        {
            "$group": {
                "_id": None,
                "first": {"$first": "$note"},
                "last": {"$last": "$note"},
                "least": {"$min": "$total"},
                "most": {"$max": "$at"},
            }
        }
    ],
    [
        {"$group": {"_id": {"y": {"$year": "$at"}, "m": {"$month": "$at"}}, "users": {"$push": "$user"}}},
        {"$sort": {"_id.m": 1}},
    ],
    [
        {"$group": {"_id": None, "users": {"$addToSet": "$user"}, "n": {"$count": {}}}},
        {"$project": {"users": {"$sortArray": {"input": "$users", "sortBy": 1}}, "n": 1}},
    ],
    [
        {"$unwind": "$items"},
        {"$group": {"_id": "$items.sku", "n": {"$sum": "$items.n"}}},
        {"$sort": {"n": -1, "_id": 1}},
        {"$limit": 2},
    ],
    [{"$unwind": {"path": "$items", "includeArrayIndex": "at.i", "preserveNullAndEmptyArrays": True}}],
    [{"$match": {"user": "ann"}}, {"$project": {"_id": 0, "who": "$user", "n": {"$size": "$items"}, "items.sku": 1}}],
    [{"$set": {"items.n": "$total", "a.b.c": 1, "note": "$$REMOVE"}}, {"$unset": ["at", "items.sku"]}],
    [{"$project": {"items.twice": {"$sum": "$items.n"}}}],
    [{"$match": {"$expr": {"$gt": ["$total", "$$least"]}}}, {"$count": "n"}],
    [{"$match": {"$or": [{"$expr": {"$eq": ["$user", "bob"]}}, {"note": "n"}]}}, {"$sort": {"user": -1}}, {"$skip": 1}],
    [{"$sortByCount": "$user"}, {"$match": {"count": 2}}],
    [{"$match": {"user": "nobody"}}, {"$count": "n"}],
    [{"$replaceRoot": {"newRoot": {"$mergeObjects": ["$$ROOT", {"n": "$$least"}]}}}],
    [{"$replaceWith": "$note"}],
    [{"$addFields": {"x": {"y": 1, "z": "$user"}}}],
    [
        {"$addFields": {"x": {"$add": ["$total", 1]}}},
        {"$match": {"user": "ann"}},
    ],  # of another user it cannot be computed
    [{"$set": {"x": {"$size": "$note"}}}, {"$match": {"$expr": {"$eq": ["$user", "nobody"]}}}],
    [{"$set": {"user": {"$toUpper": "$user"}}}, {"$match": {"user": "ANN"}}],
    [{"$project": {"user": 1, "x": {"$toInt": "$total"}}}, {"$match": {"user": "ann"}}],
    [{"$set": {"x": {"$toInt": "$total"}}}, {"$match": {"user": "ann", "x": {"$gt": 5}}}],
    [{"$set": {"x": {"$toInt": "$total"}}}, {"$match": {"$nor": [{"total": "none"}, {"x": 7}]}}, {"$sort": {"x": 1}}],
    [{"$set": {"x": {"$toInt": "$total"}}}, {"$unwind": "$items"}, {"$match": {"items.n": 2, "user": "ann"}}],
    [{"$set": {"items.n": {"$toInt": "$total"}}}, {"$match": {"items.sku": "x", "items.n": 7}}],
    [{"$set": {"x": {"$toInt": "$total"}}}, {"$match": {"items": {"$size": 0}, "user": "bob"}}],
    [{"$match": {"$expr": {"$gt": [{"$toInt": "$total"}, 5]}, "user": "ann"}}],
    [{"$set": {"l": [1, {"x": 2, "y": 3}, [None]]}}, {"$project": {"l.x": "$user", "l.y": 1}}],
    [{"$set": {"l": [1, {"x": 2}, [None]]}}, {"$project": {"l.k.x": "$note"}}],
]


@pytest.mark.parametrize("pipeline", CASES, ids=repr)
def test_case_gives_what_mongodb_gives(things: Things, pipeline: Documents) -> None:
    assert expect_same(things, pipeline, fill(things, ORDERS), ordered=True, let={"least": {"$add": [1, 2]}})


def test_every_stage_and_accumulator_is_tried() -> None:
    assert [one for one in [*STAGES, *ACCUMULATORS] if f"'{one}'" not in str(CASES)] == []


@pytest.mark.parametrize(
    ("pipeline", "what"),
    [
        ([{"$lookup": {}}], r"the stage \$lookup"),
        ([{"$out": "x"}], r"the stage \$out"),
        ([{"$group": {"_id": 1, "s": {"$stdDevPop": "$a"}}}], r"\$stdDevPop"),
        ([{"$project": {"a": {"$function": {}}}}], r"the operator \$function"),
        ([{"$project": {"a": 0, "b": "$c"}}], "excludes fields"),
        ([{"$limit": 1}, {"$match": {"$text": {}}}], r"\$text"),
        ([{"$project": {"a": 1, "a.b": "$c"}}], "beside a part"),
        ([{"$sort": {"a": {"$meta": "textScore"}}}], "a direction other"),
        ([{}], "no document with one field"),
    ],
)
def test_what_is_not_known_is_refused_by_name_before_any_document_is_read(pipeline: Documents, what: str) -> None:
    with pytest.raises(CallRefused, match=what):
        compile_pipeline(pipeline, now=NOW)


def test_pipeline_past_its_memory_is_refused_as_mongodb_does() -> None:
    documents = [{"_id": at, "text": "x" * 1_000} for at in range(100)]
    for pipeline in ([{"$sort": {"_id": -1}}], [{"$group": {"_id": None, "all": {"$push": "$text"}}}]):
        compiled = compile_pipeline(pipeline, now=NOW)
        assert compiled.run(documents, most_bytes=300_000)
        with pytest.raises(ExpressionRefused) as caught:
            compiled.run(documents, most_bytes=50_000)
        assert caught.value.code == 292


def test_update_pipeline_makes_another_document_and_takes_no_other_stage() -> None:
    change = update_pipeline([{"$set": {"n": {"$add": ["$n", "$$by"]}}}, {"$unset": "old"}], now=NOW, let={"by": 2})
    document = {"_id": 1, "n": 1, "old": True}
    assert change(document) == {"_id": 1, "n": 3}
    assert document == {"_id": 1, "n": 1, "old": True}
    with pytest.raises(CallRefused, match="other stages"):
        update_pipeline([{"$group": {"_id": 1}}], now=NOW)
