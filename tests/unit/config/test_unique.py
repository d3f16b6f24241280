"""The unique indexes of a migration file: what is taken, and what is refused by name."""

from __future__ import annotations

import pytest
from docferry.config import parse_migration
from docferry.core.settings import UniqueSettings
from docferry.errors import ConfigError

FILE = """
migration: unique
source: {{database: unique}}
tables: {{Unique: {{{table}}}}}
collections:
  users:
    {collection}
    item: {{entity: USER, key: {{PK: "{key}", SK: PROFILE}}}}
    unique: {unique}
"""


def parsed(unique: str, collection: str = "unmapped: keep", key: str = "USER#{name}", table: str = "") -> object:
    text = FILE.format(unique=unique, collection=collection, key=key, table=table)
    return parse_migration(text.encode()).mapping("users").settings.unique


def test_an_index_is_named_by_its_fields_or_as_mongodb_shows_it() -> None:
    said = '{email_1: [email], a_1_b_-1: {key: {a: 1, b: -1}, sparse: true}, c: {key: [c], partial: {c: {$gt: ""}}}}'
    assert parsed(said) == (
        UniqueSettings(name="email_1", key={"email": 1}),
        UniqueSettings(name="a_1_b_-1", key={"a": 1, "b": -1}, sparse=True),
        UniqueSettings(name="c", key={"c": 1}, partial={"c": {"$gt": ""}}),
    )


def test_a_filter_may_hold_what_json_has_not() -> None:
    filtered = '{a_1: {key: [a], partial: {since: {$gt: {$date: "2024-01-01T00:00:00Z"}}}}}'
    assert parsed(filtered) != ()


@pytest.mark.parametrize(
    ("unique", "said"),
    [
        ("{a: []}", "at least 1"),
        ("{a: {key: {a: text}}}", "1 or -1"),
        ("{a: [b.0.c]}", "'b.0.c' is no plain path"),
        ('{a: ["$**"]}', "no plain path"),
        ("{a: {key: [a], sparse: true, partial: {a: 1}}}", "is sparse and partial"),
        ("{a: {key: [a], partial: {a: {$near: x}}}}", "cannot be kept"),
        ("{a: {key: [a], partial: {$expr: {$gt: [$a, 1]}}}}", "a filter with .expr"),
        ("{a: {key: [a], collation: {locale: en}}}", "collation: is not known here"),
        ('{"a#b": [a]}', "cannot stand in a key"),
    ],
)
def test_what_no_guard_can_keep_is_refused(unique: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parsed(unique)


def test_dropped_fields_and_keys_that_are_no_text_are_refused() -> None:
    with pytest.raises(ConfigError, match="the fields that are not mapped are dropped"):
        parsed("{a: [a]}", collection="unmapped: drop")
    with pytest.raises(ConfigError, match="a guard has a text for its key"):
        parsed("{a: [a]}", key="{name}", table="key: {PK: {name: id, type: N}, SK: SK}")


def test_a_key_that_could_be_a_guards_is_refused() -> None:
    with pytest.raises(ConfigError, match="could have the same key"):
        parse_migration(FILE.format(
            unique="{a: [a]}", collection="unmapped: keep", key="{x}#{y}#{z}", table=""
        ).replace("SK: PROFILE", 'SK: "{w}"').encode())  # fmt: skip


@pytest.mark.parametrize("name", [":", "a:b", "a}", "a#b"])
def test_a_field_may_have_a_name_that_no_template_of_a_key_can_hold(name: str) -> None:
    assert parsed(f'{{odd: ["{name}", b]}}') == (UniqueSettings(name="odd", key={name: 1, "b": 1}),)


@pytest.mark.parametrize("name", ["a#b", "{", "}"])
def test_an_index_has_a_name_that_a_key_can_hold(name: str) -> None:
    with pytest.raises(ConfigError, match="short name"):
        parsed(f'{{"{name}": [a]}}')
