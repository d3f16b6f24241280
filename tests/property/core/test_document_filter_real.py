"""A real mongod's answer and our predicate, side by side: which of some documents a collection's filter takes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.mapping.document_filter import compile_document_filter
from docferry.core.mapping.raw import id_of
from docferry.errors import FilterUndecided
from docferry.sandbox import SandboxStack
from docferry.testing.strategies import values as drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection

Document = dict[str, Any]
Things = Collection[Document]

WHEN = datetime(2024, 1, 1)
OID = ObjectId("65a0000000000000000000aa")
VALUES: list[Any] = [
    0, -0.0, 5, 5.0, Int64(5), Decimal128("5.00"), 0.1, Decimal128("0.1"), float("inf"), Decimal128("-Infinity"), 1e20,
    "", "5", "a", "A", "é", OID, True, False, WHEN, datetime(2025, 1, 1), b"x", Binary(b"x", 5), uuid.UUID(int=5).bytes,
]  # fmt: skip
"""What a filter may name."""
OTHERS: list[Any] = [
    None, float("nan"), Decimal128("NaN"), MinKey(), MaxKey(), Regex("a"), Code("a"), Timestamp(1, 2), {}, {"b": 5}, {"b": "a"},
    {"b": None}, {"b": {"c": 5}}, DBRef("x", 5), [], [5], ["a"], [None], [[5]], [{"b": 5}], [{"c": 5}], {"b": [5]}, {"b": []},
]  # fmt: skip
ORDERED = [one for one in VALUES if not isinstance(one, bool | bytes)]


@pytest.fixture(scope="module")
def things(stack: SandboxStack) -> Iterator[Things]:
    """A collection with another collation of its own."""
    client: MongoClient[Document] = MongoClient(stack.env()["DOCFERRY_MONGO_URI"])
    name = f"filter{uuid.uuid4().hex[:8]}"
    yield client.get_database(name, BSON_OPTIONS).create_collection("things", collation={"locale": "en", "strength": 1})
    client.drop_database(name)
    client.close()


@pytest.fixture(scope="module")
def source(stack: SandboxStack, things: Things) -> Iterator[MongoSource]:
    made = MongoSource(stack.env()["DOCFERRY_MONGO_URI"], things.database.name)
    yield made
    made.close()


def conditions() -> st.SearchStrategy[Any]:
    equal = st.sampled_from([None, *VALUES])
    lower, upper = st.sampled_from(["$gt", "$gte"]), st.sampled_from(["$lt", "$lte"])
    bound = st.sampled_from(ORDERED)
    return st.one_of(
        equal,
        st.builds(lambda one: {"$eq": one}, equal),
        st.builds(lambda some: {"$in": some}, st.lists(equal, min_size=1, max_size=3)),
        st.builds(lambda word, one: {word: one}, st.one_of(lower, upper), bound),
        st.builds(lambda low, one, high, other: {low: one, high: other}, lower, bound, upper, bound),
    )


def filters() -> st.SearchStrategy[Document]:
    return st.dictionaries(st.sampled_from(["a", "a.b", "b", "_id"]), conditions(), min_size=1, max_size=2)


def documents() -> st.SearchStrategy[list[Document]]:
    scalar = st.one_of(st.sampled_from(VALUES), st.sampled_from(OTHERS), drawn.scalars())
    value = st.one_of(scalar, st.builds(lambda inner: {"b": inner}, scalar))
    bodies = st.lists(st.dictionaries(st.sampled_from("ab"), value), min_size=20, max_size=60)
    return bodies.map(lambda found: [{"_id": place, **one} for place, one in enumerate(found)])


@given(said=filters(), drawn_documents=documents())
@settings(max_examples=60)
def test_the_predicate_takes_what_mongodb_finds(
    things: Things, source: MongoSource, said: Document, drawn_documents: list[Document]
) -> None:
    made = compile_document_filter(bson_as_in_the_file(said))
    assert made is not None
    things.delete_many({})
    things.insert_many(drawn_documents)
    stored = list(things.find())
    found = {one["_id"] for one in things.find(made.query, collation={"locale": "simple"})}
    taken: set[Any] = set()
    undecided: set[Any] = set()
    for document in stored:
        try:
            taken |= {document["_id"]} if made.holds(document) else set()
        except FilterUndecided:
            undecided.add(document["_id"])
    assert taken - undecided == found - undecided
    assert all(_has_array(one, made.fields) for one in stored if one["_id"] in undecided)
    assert source.count("things", made.query, 60.0) == len(found)
    sampled = {bson.decode(id_of(one))[""] for one in source.sample_documents("things", 100, made.query)}
    assert sampled == found


def bson_as_in_the_file(said: Document) -> Document:
    """Values that YAML has not are extended JSON there."""
    read: Document = json.loads(json_util.dumps(said, json_options=json_util.CANONICAL_JSON_OPTIONS))
    return read


def _has_array(document: Document, fields: tuple[str, ...]) -> bool:
    ways = [[document.get(name.partition(".")[0])] for name in fields]
    inner = [one[0].get("b") for one in ways if isinstance(one[0], dict)]
    return any(isinstance(one, list) for one in [*(way[0] for way in ways), *inner])
