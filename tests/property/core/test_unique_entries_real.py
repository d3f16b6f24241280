"""A real mongod's unique indexes and our guards, side by side: which of some documents are refused as duplicates."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from docferry.config import parse_migration
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.mapping.items import ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.values import as_bson
from docferry.core.settings import UniqueSettings
from docferry.errors import DocumentError
from docferry.sandbox import SandboxStack
from docferry.testing.strategies import values as drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

Document = dict[str, Any]

BASE = parse_migration(b"""
migration: unique
source: {database: unique}
tables: {Unique: {}}
collections: {things: {item: {entity: THING, key: {PK: "T#{_id}", SK: ROOT}}}}
""").mapping("things")
INDEXES = {
    "plain": UniqueSettings(name="plain", key={"a": 1}),
    "deep": UniqueSettings(name="deep", key={"a.b": 1}),
    "several": UniqueSettings(name="several", key={"a": 1, "b": -1}),
    "below one array": UniqueSettings(name="below", key={"a.b": 1, "a.c": 1, "b": 1}),
    "sparse": UniqueSettings(name="sparse", key={"a": 1}, sparse=True),
    "sparse, several": UniqueSettings(name="sparse", key={"a.b": 1, "b": 1}, sparse=True),
    "partial": UniqueSettings(name="partial", key={"a": 1}, partial={"b": {"$gt": 0}}),
    "partial, by existence": UniqueSettings(name="partial", key={"a": 1}, partial={"b": {"$exists": True}}),
    "partial, by type and value": UniqueSettings(
        name="partial", key={"a": 1}, partial={"$and": [{"b": {"$type": "string"}}, {"a.b": 5}]}
    ),
}
OID = ObjectId("65a0000000000000000000aa")
ALIKE: list[Any] = [
    None, 0, -0.0, Decimal128("-0E+3"), 5, 5.0, Int64(5), Decimal128("5.00"), 0.1, Decimal128("0.1"), float("nan"),
    Decimal128("0.1000000000000000055511151231257827"), Decimal128("NaN"), float("inf"), Decimal128("Infinity"), 1e20,
    Decimal128("1E+20"), 10**18, Decimal128("1E+18"), 1e300, "", "5", "a#b", "a~hb", "~n", "~i5", "é", "e\u0301", OID, str(OID),
    True, False, b"x", Binary(b"x", 5), Binary(b"x", 2), datetime(2024, 1, 1), "2024-01-01T00:00:00.000Z", Timestamp(1, 2),
    Regex("a", 2), Regex("a", 0), Code("a"), "a", MinKey(), MaxKey(), {}, {"b": 5}, {"b": 5.0}, {"b": "5"}, {"b": {"c": [1]}},
    DBRef("x", 1), [], [5, 5.0], [[]], [[5]], [{"b": 5}], [{"b": 5, "c": 1}, {"b": 6}], [{"c": 5}], [{"b": []}], [None],
]  # fmt: skip
"""Values of which some are equal to MongoDB, and others only look so."""


Things = Collection[Document]


@pytest.fixture(scope="module")
def indexed(stack: SandboxStack) -> Iterator[dict[str, Things]]:
    """A collection for each index."""
    client: MongoClient[Document] = MongoClient(stack.env()["DOCFERRY_MONGO_URI"])
    name = f"unique{uuid.uuid4().hex}"
    found = {}
    for place, (title, index) in enumerate(INDEXES.items()):
        found[title] = client.get_database(name, BSON_OPTIONS).create_collection(f"things{place}")
        options: dict[str, Any] = {"sparse": True} if index.sparse else {}
        options |= {"partialFilterExpression": index.partial} if index.partial is not None else {}
        found[title].create_index(list(index.key.items()), unique=True, **options)
    yield found
    client.drop_database(name)
    client.close()


def refused_by_mongodb(things: Things, documents: list[Document]) -> set[int]:
    things.delete_many({})
    try:
        things.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return {one["index"] for one in error.details["writeErrors"]}
    return set()


def refused_by_guards(index: UniqueSettings, documents: list[Document]) -> set[int]:
    mapping = DocumentMapping(replace(BASE.settings, unique=(index,)))
    taken: set[ItemKey] = set()
    refused = set()
    for place, document in enumerate(documents):
        try:
            guards = mapping.guards(as_bson(document)).keys()
        except DocumentError:
            refused.add(place)
            continue
        if guards & taken:
            refused.add(place)
        else:
            taken |= guards
    return refused


def things() -> st.SearchStrategy[list[Document]]:
    value = st.one_of(
        st.sampled_from(ALIKE), st.sampled_from(ALIKE), drawn.decimal128s(), drawn.doubles(), drawn.texts()
    )
    bodies = st.lists(st.dictionaries(st.sampled_from("ab"), value), min_size=20, max_size=60)
    return bodies.map(lambda found: [{"_id": place, **one} for place, one in enumerate(found)])


@pytest.mark.parametrize("name", INDEXES)
@given(documents=things())
@settings(max_examples=6)
def test_guards_meet_where_mongodb_finds_a_duplicate(
    name: str, indexed: dict[str, Things], documents: list[Document]
) -> None:
    assert refused_by_guards(INDEXES[name], documents) == refused_by_mongodb(indexed[name], documents)


@pytest.mark.parametrize("name", INDEXES)
def test_each_pair_of_values_is_equal_to_guards_where_it_is_to_mongodb(name: str, indexed: dict[str, Things]) -> None:
    documents = [
        {"a": one, **({"b": other} if other is not None else {})} for one in ALIKE for other in (None, 1, "x", 5)
    ]
    documents = [{"_id": place, **one} for place, one in enumerate(documents)]
    mine, theirs = refused_by_guards(INDEXES[name], documents), refused_by_mongodb(indexed[name], documents)
    assert [documents[at] for at in sorted(mine ^ theirs)] == []
