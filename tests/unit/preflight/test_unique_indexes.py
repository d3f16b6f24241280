"""The file's unique indexes against MongoDB's: a difference is refused, and what nothing keeps."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.errors import PreflightFailed
from docferry.flows.preflight.mongodb import index_problems, require_indexes, require_source
from docferry.testing.fakes import FakeSource

ID: dict[str, Any] = {"name": "_id_", "key": {"_id": 1}}
NAME: dict[str, Any] = {"name": "name_1", "key": {"name": 1}, "unique": True}
MAIL: dict[str, Any] = {
    "name": "mail_1", "key": {"mail": 1}, "unique": True, "partialFilterExpression": {"mail": {"$gt": ""}}, "v": 2,
}  # fmt: skip
TAGS: dict[str, Any] = {"name": "tags", "key": {"tags": 1, "b": -1}, "unique": True, "sparse": True}
FILE = """
migration: unique
source: {database: unique}
tables: {Unique: {}}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{name}", SK: PROFILE}}
    unique:
      _id_: [_id]
      mail_1: {key: [mail], partial: {mail: {$gt: ""}}}
      tags: {key: {tags: 1, b: -1}, sparse: true}
"""


def problems(*indexes: dict[str, Any], file: str = FILE) -> list[str]:
    source = FakeSource({"users": []})
    source.indexes["users"] = indexes
    fields = [frozenset(one["key"]) for one in indexes if one.get("unique")]
    source.unique["users"] = tuple(fields)
    migration = parse_migration(file.encode())
    require_source(migration, source)  # whatever follows MongoDB goes on: its application may make an index at any time
    facts = source.facts_of(["users"])
    told = [str(one) for one in index_problems(migration, facts)]
    if told:
        with pytest.raises(PreflightFailed):
            require_indexes(migration, source)
    return told


def test_the_same_indexes_are_no_problem_whatever_their_options_of_storage() -> None:
    assert problems(ID, NAME, MAIL, {**TAGS, "hidden": True}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (None, "MongoDB has no such index"),
        ({**MAIL, "unique": False}, "it is not unique"),
        ({**MAIL, "key": {"mail": 1, "b": 1}}, "its key is"),
        ({**MAIL, "key": {"mail": "hashed"}}, "its key is"),
        ({**MAIL, "sparse": True}, "it is sparse"),
        ({**MAIL, "partialFilterExpression": {"mail": {"$gt": "a"}}}, "its filter is"),
        ({**MAIL, "partialFilterExpression": None}, "it has no filter"),
        ({**MAIL, "collation": {"locale": "de"}}, "the collation de"),
    ],
)
def test_an_index_that_is_another_in_mongodb_is_named(changed: dict[str, Any] | None, said: str) -> None:
    found = problems(ID, NAME, TAGS, *([changed] if changed else []))
    assert any("users.unique.mail_1" in one and said in one for one in found), found


def test_an_index_of_mongodb_that_nothing_keeps_is_refused_where_the_file_names_any() -> None:
    (found,) = problems(ID, NAME, MAIL, TAGS, {"name": "phone_1", "key": {"phone": 1}, "unique": True})
    assert "users.phone" in found
    assert "waived_unique: [users.phone]" in found


def test_the_id_is_kept_or_waived_too_where_the_file_names_any() -> None:
    bare = FILE.replace("      _id_: [_id]\n", "")
    (found,) = problems(ID, NAME, MAIL, TAGS, file=bare)
    assert "waived_unique: [users._id]" in found
    assert problems(ID, NAME, MAIL, TAGS, file=bare + "cutover: {waived_unique: [users._id]}") == []
