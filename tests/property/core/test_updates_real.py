"""A real mongod and ours, side by side: what is found, what an update makes of a document, or the code of the refusal.

An example is a batch, as most of the time goes into waiting for the server.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import bson
import pytest
from bson import ObjectId
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.mql.array_filters import parse_array_filters
from docferry.core.mql.filters import Filter, compile_filter
from docferry.core.mql.projection import project, sort_documents
from docferry.core.mql.update_plan import parse_update
from docferry.core.mql.updates import Changed, Updating, apply_update, replaced
from docferry.errors import CallRefused, UpdateRefused
from docferry.sandbox import SandboxStack
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient, ReplaceOne, ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure
from support.examples import examples
from support.mongodb_cases import draws
from support.mongodb_cases.cases import ANN, APPLIED, FOUND, NOW, PASSED_OVER, REFUSED_UPDATES, SHOWN, Document
from support.mongodb_cases.elements import ELEMENTS, element_updates
from support.mongodb_cases.pipelines import PIPED, piped_updates

Things = Collection[Document]
Outcome = bytes | int
"""The document in BSON, or the code with which it was refused."""


@pytest.fixture(scope="module")
def things(stack: SandboxStack) -> Iterator[Things]:
    client: MongoClient[Document] = MongoClient(stack.env()["DOCFERRY_MONGO_URI"])
    name = f"speaking{uuid.uuid4().hex}"
    yield client.get_database(name, BSON_OPTIONS).create_collection("things")
    client.drop_database(name)
    client.close()


def fill(things: Things, documents: list[Document]) -> list[Document]:
    """The collection holds these documents, numbered, and nothing else."""
    things.delete_many({})
    numbered = [{"_id": index, **document} for index, document in enumerate(documents)]
    things.insert_many(numbered)
    return numbered


def outcome(make: Callable[[], Document]) -> Outcome:
    try:
        return bson.encode(make())
    except UpdateRefused as refusal:
        return refusal.code


def written(things: Things, requests: list[Any]) -> list[Outcome]:
    """What each request left of the document with its index as `_id`."""
    return written_and_counted(things, requests)[0]


def written_and_counted(things: Things, requests: list[Any]) -> tuple[list[Outcome], int]:
    """What each request left of the document with its index as `_id`; and how many of them MongoDB counts as modified."""
    refused: dict[int, int] = {}
    try:
        modified = things.bulk_write(requests, ordered=False).modified_count
    except BulkWriteError as error:
        refused = {one["index"]: one["code"] for one in error.details["writeErrors"]}
        modified = error.details["nModified"]
    left = {document["_id"]: bson.encode(document) for document in things.find()}
    return [refused.get(index, left.get(index, b"")) for index in range(len(requests))], modified


class Ours:
    """What we make of documents, and how many of them MongoDB would count as modified."""

    def __init__(self) -> None:
        self.modified: int | None = 0
        """None: one was refused here that MongoDB takes."""

    def make(self, document: Document, change: Callable[[Document], Changed]) -> Outcome | None:
        """None: it is refused here."""
        try:
            done = change(document)
        except UpdateRefused as refusal:
            return refusal.code
        except CallRefused:
            self.modified = None
            return None
        made = bson.encode(done.document)
        if self.modified is not None:
            self.modified += done.counted or made != bson.encode(document)
        return made


def shown(outcomes: list[Outcome]) -> list[Any]:
    return [one if isinstance(one, int) else bson.decode(one, BSON_OPTIONS) for one in outcomes]


# --- drawn -----------------------------------------------------------------------------------------------------------


@given(case=draws.documents_with_queries())
@examples(2)
def test_query_finds_the_documents_that_mongodb_finds(
    things: Things, case: tuple[list[Document], list[Document]]
) -> None:
    documents, queries = case
    stored = fill(things, documents)
    for query in queries:
        found = compile_filter(query)
        ours = [document["_id"] for document in stored if found.matches(document)]
        assert ours == sorted(document["_id"] for document in things.find(query, {"_id": 1})), query


@given(pairs=draws.documents_with_updates)
@examples(2)
def test_update_leaves_the_document_that_mongodb_leaves(things: Things, pairs: list[tuple[Document, Document]]) -> None:
    stored, ours = fill(things, [document for document, _ in pairs]), Ours()
    requests = [UpdateOne({"_id": index}, update) for index, (_, update) in enumerate(pairs)]
    theirs, modified = written_and_counted(things, requests)
    for document, (_, update), theirs_one in zip(stored, pairs, theirs, strict=True):
        mine = ours.make(document, partial(apply_update, update=update, now=NOW))
        assert mine in (theirs_one, None), (document, update, *shown([mine or b"", theirs_one]))
    assert ours.modified in (modified, None), pairs


@given(cases=st.lists(element_updates(), min_size=1, max_size=6))
@examples(2)
def test_update_of_elements_leaves_what_mongodb_leaves(
    things: Things, cases: list[tuple[Document, Document, Document, list[Any]]]
) -> None:
    stored = fill(things, [document for document, _, _, _ in cases])
    requests = [
        UpdateOne({"$and": [{"_id": index}, query]}, update, array_filters=filters or None)
        for index, (_, query, update, filters) in enumerate(cases)
    ]
    theirs, modified = written_and_counted(things, requests)
    ours = Ours()
    for document, (_, query, update, filters), theirs_one in zip(stored, cases, theirs, strict=True):
        found = compile_filter(query)

        def change(
            document: Document, found: Filter = found, update: Document = update, filters: Any = filters
        ) -> Changed:
            if not found.matches(document):  # refused for itself, or nothing
                apply_nothing(update, filters)
                return Changed(document, counted=False)
            return apply_update(document, update, now=NOW, array_filters=filters, query=found)

        mine = ours.make(document, change)
        assert mine in (theirs_one, None), (document, query, update, filters, *shown([mine or b"", theirs_one]))
    assert ours.modified in (modified, None), cases


def apply_nothing(update: Document, filters: list[Document]) -> None:
    """What of an update is refused before any document is looked at."""
    parse_update(update, NOW, False, parse_array_filters(filters))


@given(cases=st.lists(piped_updates(), min_size=1, max_size=6))
@examples(2)
def test_update_by_a_pipeline_leaves_what_mongodb_leaves(
    things: Things, cases: list[tuple[Document, list[Document]]]
) -> None:
    stored = fill(things, [document for document, _ in cases])
    requests = [UpdateOne({"_id": index}, stages) for index, (_, stages) in enumerate(cases)]
    theirs, modified = written_and_counted(things, requests)
    ours = Ours()
    for document, (_, stages), theirs_one in zip(stored, cases, theirs, strict=True):
        mine = ours.make(document, Updating(query=compile_filter({}), update=stages, now=NOW).apply)
        if mine is not None:
            assert canonical(mine) == canonical(theirs_one), (document, stages, *shown([mine, theirs_one]))
    assert ours.modified in (modified, None), cases


@given(query=draws.queries, update=draws.updates())
@examples(2)
def test_upsert_inserts_the_document_that_mongodb_inserts(things: Things, query: Document, update: Document) -> None:
    things.delete_many({})
    try:
        ours = outcome(lambda: Updating(query=compile_filter(query), update=update, now=NOW).inserted())
    except CallRefused:
        return
    assert without_made_id(ours) == without_made_id(upserted(things, query, update)), (query, update)


def upserted(things: Things, query: Document, update: Document) -> Outcome:
    try:
        found = things.find_one_and_update(query, update, upsert=True, return_document=ReturnDocument.AFTER)
        assert found is not None
        return bson.encode(found)
    except OperationFailure as refusal:
        return refusal.code or 0


def without_made_id(found: Outcome) -> Any:
    """The server makes an `_id` where there is none, ours leaves that to the caller."""
    if isinstance(found, int):
        return found
    document = bson.decode(found, BSON_OPTIONS)
    if isinstance(document.get("_id"), ObjectId) and document["_id"] != ObjectId("0" * 24):
        del document["_id"]
    return bson.encode(document)


@given(
    pairs=st.lists(st.tuples(draws.fields, st.none() | st.builds(dict, draws.fields)), min_size=1, max_size=4),
    place=st.sampled_from(["first", "last", "nowhere"]),
)
@examples(1)
def test_replacement_leaves_the_document_that_mongodb_leaves_and_is_counted_as_there(
    things: Things, pairs: list[tuple[Document, Document | None]], place: str
) -> None:
    """A replacement by None is one by the fields that are there."""
    stored, ours = fill(things, [document for document, _ in pairs]), Ours()
    replacements = [with_id_at(place, old if new is None else new, index) for index, (old, new) in enumerate(pairs)]
    requests = [ReplaceOne({"_id": index}, new) for index, new in enumerate(replacements)]
    made = [ours.make(old, partial(replaced, replacement=new)) for old, new in zip(stored, replacements, strict=True)]
    assert (made, ours.modified) == written_and_counted(things, requests)


def with_id_at(place: str, fields: Document, index: int) -> Document:
    return {"_id": index, **fields} if place == "first" else {**fields, "_id": index} if place == "last" else fields


@given(
    documents=st.lists(draws.fields, min_size=1, max_size=3),
    projections=st.lists(draws.projections, min_size=1, max_size=4),
)
@examples(2)
def test_projection_shows_what_mongodb_shows(
    things: Things, documents: list[Document], projections: list[Document]
) -> None:
    stored = fill(things, documents)
    for projection in projections:
        try:
            ours = [bson.encode(project(document, projection)) for document in stored]
        except CallRefused:
            with pytest.raises(OperationFailure):
                list(things.find({}, projection))
            continue
        assert ours == [bson.encode(one) for one in things.find({}, projection).sort("_id", 1)], projection


@given(documents=st.lists(draws.fields, min_size=1, max_size=8), sort=draws.sorts)
@examples(2)
def test_sort_gives_the_order_that_mongodb_gives(
    things: Things, documents: list[Document], sort: list[tuple[str, int]]
) -> None:
    stored = fill(things, documents)
    whole = [*sort, ("_id", 1)]
    try:
        ours = [document["_id"] for document in sort_documents(stored, whole)]
    except CallRefused:
        return
    assert ours == [document["_id"] for document in things.find({}, {"_id": 1}).sort(whole)]


# --- every pair ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["$inc", "$mul", "$min", "$max"])
def test_any_two_numbers_make_what_they_make_in_mongodb(things: Things, word: str) -> None:
    pairs = [(one, other) for one in draws.NUMBERS for other in draws.NUMBERS]
    stored = fill(things, [{"a": one} for one, _ in pairs])
    updates: list[Document] = [{word: {"a": other, "b": other}} for _, other in pairs]
    theirs = written(things, [UpdateOne({"_id": index}, update) for index, update in enumerate(updates)])
    for document, update, theirs_one in zip(stored, updates, theirs, strict=True):
        ours = outcome(lambda document=document, update=update: apply_update(document, update, now=NOW).document)  # type: ignore[misc]
        assert canonical(ours) == canonical(theirs_one), (document, update, *shown([ours, theirs_one]))


def canonical(found: Outcome) -> Any:
    """With one NaN for all: which bits a NaN has is the processor's choice."""
    if isinstance(found, int):
        return found
    document = bson.decode(found, BSON_OPTIONS)
    return bson.encode({name: math.nan if value != value else value for name, value in document.items()})


@pytest.mark.parametrize("word", ["$eq", "$gt", "$gte", "$lt", "$lte", "$in"])
def test_any_two_values_compare_as_they_compare_in_mongodb(things: Things, word: str) -> None:
    known = [*draws.SCALARS, [], [1], [None], [[1]], {}, {"a": 1}, {"a": 1.0, "b": 2}]
    if word not in ("$eq", "$in"):  # DynamoDB does not keep the order of fields, so no equality depends on it
        known.append({"b": 2, "a": 1})
    stored = fill(things, [{"a": value} for value in known] + [{}])
    for value in known:
        query: Document = {"a": {word: [value] if word == "$in" else value}}
        found = compile_filter(query)
        theirs = sorted(document["_id"] for document in things.find(query, {"_id": 1}))
        assert [document["_id"] for document in stored if found.matches(document)] == theirs, query


# --- named -----------------------------------------------------------------------------------------------------------


def test_mongodb_finds_as_the_named_cases_say(things: Things) -> None:
    for cases, expected in ((FOUND, 1), (PASSED_OVER, 0)):
        for query, document in cases:
            fill(things, [document])
            assert things.count_documents(query) == expected, query


def test_mongodb_updates_as_the_named_cases_say(things: Things) -> None:
    for before, update, after in APPLIED:
        key = before.get("_id", 0)
        things.delete_many({})
        things.insert_one({"_id": key, **before})
        things.update_one({"_id": key}, update)
        found = things.find_one({})
        assert found is not None
        if "$currentDate" in update:
            assert {name: type(value) for name, value in found.items()} == {"_id": int} | {
                n: type(v) for n, v in after.items()
            }
        else:
            assert bson.encode(found) == bson.encode({"_id": key, **after}), update


def test_mongodb_refuses_updates_as_the_named_cases_say(things: Things) -> None:
    for document, update, code in REFUSED_UPDATES:
        if not update or not next(iter(update)).startswith("$"):
            continue  # pymongo refuses these itself
        key = document.get("_id", 0)
        things.delete_many({})
        things.insert_one({"_id": key, **document})
        with pytest.raises(OperationFailure) as caught:
            things.update_one({"_id": key}, update)
        assert caught.value.code == code, (document, update)


def test_mongodb_updates_elements_as_the_named_cases_say(things: Things) -> None:
    for document, query, update, filters, after in ELEMENTS:
        fill(things, [document])
        try:
            things.update_one(query, update, array_filters=filters)
            left: Any = things.find_one({}, {"_id": 0})
        except OperationFailure as refused:
            left = refused.code
        assert left == after, (document, query, update, filters)


def test_mongodb_updates_by_pipelines_as_the_named_cases_say(things: Things) -> None:
    for document, stages, after in PIPED:
        fill(things, [document])
        try:
            things.update_one({"_id": 0}, stages)
            left: Any = things.find_one({}, {"_id": 0})
        except OperationFailure as refused:
            left = refused.code
        if "$$NOW" in str(stages):
            assert type(left["a"]) is type(NOW)
        else:
            assert left == after, (document, stages)


def test_mongodb_projects_as_the_named_cases_say(things: Things) -> None:
    things.delete_many({})
    things.insert_one(ANN)
    for projection, expected in SHOWN:
        found = things.find_one({}, projection)
        assert found is not None
        assert list(found.items()) == list(expected.items()), projection
