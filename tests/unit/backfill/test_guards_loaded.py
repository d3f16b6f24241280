"""A load puts a document's guards beside it, whether the mapping itself or what it has learnt makes the document's item."""

from __future__ import annotations

import asyncio
from typing import Any

import bson
import pytest
from bson import Int64
from docferry.config import parse_migration
from docferry.core.mapping.items import Item, is_guard, key_of
from docferry.core.mapping.raw import encode_raw, guards_in
from docferry.flows.backfill.load import backfill_collection
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job

MIGRATION = parse_migration(b"""
migration: unique
source: {database: unique}
tables: {Unique: {}}
backfill: {budget_wcu: 0}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{_id}", SK: PROFILE}}
    unique:
      mail_1: {key: [mail], partial: {mail: {$gt: ""}}}
      tags_1: {key: [tags.name, owner.id], sparse: true}
""")
MAPPING = MIGRATION.mapping("users")
INDEXES = (
    {"name": "_id_", "key": {"_id": 1}},
    {"name": "mail_1", "key": {"mail": 1}, "unique": True, "partialFilterExpression": {"mail": {"$gt": ""}}},
    {"name": "tags_1", "key": {"tags.name": 1, "owner.id": 1}, "unique": True, "sparse": True},
)


def loaded(*documents: dict[str, Any]) -> list[Item]:
    source, target = FakeSource({"users": list(documents)}), FakeTarget()
    source.indexes["users"] = INDEXES
    target.create_table("Unique")
    job = make_job(migration=MIGRATION, source=source, ledger=FakeLedger())
    report = asyncio.run(backfill_collection(job, target, "users"))
    assert report.counts.dead == 0
    return list(target.tables["Unique"].values())


def content(items: list[Item]) -> dict[Any, Item]:
    return {key_of(item): {name: value for name, value in item.items() if name != "_v"} for item in items}


@pytest.mark.parametrize(
    "fields", [{}, {"tags": [{"name": "a"}, {"name": "b"}, 3]}, {"mail": None}, {"mail": Int64(5)}]
)
def test_all_guards_are_loaded_and_nothing_else(fields: dict[str, Any]) -> None:
    documents = [{"_id": n, "mail": f"m{n}@x", "owner": {"id": n, "n": 1}, "n": n, **fields} for n in range(40)]
    expected = [item for one in documents for item in encode_raw(MAPPING, bson.encode(one), 0)]
    assert any(map(is_guard, expected))
    assert content(loaded(*documents)) == content(expected)


def test_guards_without_the_rest_of_the_document_are_the_same() -> None:
    data = bson.encode({"x": 1, "mail": "a", "tags": [{"name": "b", "n": 1}], "_id": 7, "owner": {"id": 2.5}, "y": "z"})
    assert guards_in(MAPPING, data, 9) == [item for item in encode_raw(MAPPING, data, 9) if is_guard(item)]


def test_a_duplicate_that_mongodb_has_let_in_is_no_dead_letter_and_one_of_the_two_has_the_guard() -> None:
    items = loaded({"_id": 1, "mail": "a"}, {"_id": 2, "mail": "a"})
    assert [item["PK"]["S"] for item in items if is_guard(item)] == ["UNIQUE#users.mail_1#a"]
    assert sum(not is_guard(item) for item in items) == 2
