"""What MongoDB has and DynamoDB will not is told by check, a line each, with what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from docferry.config import parse_migration
from docferry.flows.preflight.check import check_migration
from docferry.testing.fakes import FakeSource

WHOLE = "migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n"
MIGRATION = parse_migration(WHOLE.encode())
ID: dict[str, Any] = {"name": "_id_", "key": {"_id": 1}}

INDEXES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "TTL": ({"key": {"at": 1}, "expireAfterSeconds": 3600}, ("3,600 s after at", "nothing removes these documents")),
    "text": ({"key": {"_fts": "text", "_ftsx": 1}}, ("text index", "search engine")),
    "geo": ({"key": {"place": "2dsphere"}}, ("geo index", "geohash")),
    "wildcard": ({"key": {"$**": 1}}, ("wildcard index",)),
    "hashed": ({"key": {"a": "hashed"}}, ("hashed index",)),
    "partial": ({"key": {"a": 1}, "partialFilterExpression": {"b": 1}}, ("partial index", "`when`")),
    "unique in a part": ({"key": {"a": 1}, "unique": True, "partialFilterExpression": {"b": 1}}, ("waived_unique",)),
    "unique": ({"key": {"a": 1}, "unique": True}, ("unique over a", "or waived by name")),
    "collation": ({"key": {"a": 1}, "collation": {"locale": "de"}}, ("collation de", "compares bytes")),
}


def notes(source: FakeSource) -> list[str]:
    report = check_migration(MIGRATION, source)
    assert report.problems == []
    return report.notes


@pytest.mark.parametrize("kind", INDEXES)
def test_index_that_dynamodb_has_not_is_one_line_with_its_fate(kind: str) -> None:
    index, words = INDEXES[kind]
    source = FakeSource({"docs": []})
    source.indexes["docs"] = (ID, {"name": "x_1", **index})
    (line,) = notes(source)
    assert line.startswith("docs: index x_1 is ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("partial", [{}, {"partialFilterExpression": {"a": {"$gt": ""}}}], ids=["whole", "part"])
def test_unique_index_that_the_file_names_is_told_as_kept(partial: dict[str, Any]) -> None:
    named: dict[str, Any] = {"key": ["a"], "partial": partial["partialFilterExpression"]} if partial else {"key": ["a"]}
    unique = yaml.safe_dump({"_id_": ["_id"], "a_1": named}, default_flow_style=True)
    source = FakeSource({"docs": []})
    source.indexes["docs"] = (ID, {"name": "a_1", "key": {"a": 1}, "unique": True, **partial})
    migration = parse_migration(WHOLE.replace("{docs: {}}", f"{{docs: {{unique: {unique}}}}}").encode())
    (line,) = check_migration(migration, source).notes
    assert "kept once DynamoDB leads, for the file names it" in line


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"validator": {"a": {"$type": "int"}}}, "validator"),
        ({"collation": {"locale": "fr"}}, "collation fr"),
        ({"encryptedFields": {"fields": []}}, "ciphertext"),
    ],
)
def test_option_of_a_collection_that_dynamodb_has_not_is_one_line(options: dict[str, Any], word: str) -> None:
    source = FakeSource({"docs": []})
    source.options["docs"] = options
    source.indexes["docs"] = (ID, {"name": "a_1", "key": {"a": 1}, "collation": options.get("collation", {})})
    (line,) = notes(source)
    assert word in line


def test_what_the_file_does_not_name_stays_behind_and_is_told() -> None:
    source = FakeSource({"docs": [], "fs.files": [], "fs.chunks": [], "left": [], "other": []})
    source.kinds = {"seen": "view", "heat": "timeseries"}
    told = notes(source)
    assert [line.partition(":")[0] for line in told] == [
        "fs is a GridFS bucket", "seen (view)", "heat (timeseries)", "left, other (collection)",
    ]  # fmt: skip
    assert "S3" in told[0]


def test_ordinary_collection_has_nothing_to_tell() -> None:
    source = FakeSource({"docs": []})
    source.indexes["docs"] = (ID, {"name": "a_1", "key": {"a": 1, "b": -1}, "sparse": True})
    source.options["docs"] = {"changeStreamPreAndPostImages": {"enabled": True}}
    assert notes(source) == []
