"""Keys and indexes of tables: what is read, and what is refused with its line."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import pytest
from docferry.config import parse_migration
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.values import spec_digest
from docferry.core.settings import IndexSettings, KeyAttribute, KeyDesign, TableSettings
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of
from docferry.testing.fakes import FakeTarget
from support.config import problems_of

TEXT = """migration: m
source: {database: d}
tables:
  Tab: TABLE
collections:
  c: {item: ITEM}
"""
PLAIN = '{entity: C, key: {PK: "C#{_id}", SK: R}}'


def text(table: str, item: str = PLAIN) -> str:
    return TEXT.replace("TABLE", table).replace("ITEM", item)


def test_names_types_and_projections_are_read() -> None:
    table = parse_migration(
        text(
            "{key: {PK: pk, SK: sk}, indexes: {GSI1: , by_x: {key: {PK: x, SK: {name: y, type: N}}, projection: INCLUDE, include: [t]}}}"
        ).encode()
    ).tables[0]
    assert table.key == KeyDesign(PK=KeyAttribute(name="pk"), SK=KeyAttribute(name="sk"))
    assert table.indexes == ("GSI1", "by_x")
    by_x = KeyDesign(PK=KeyAttribute(name="x"), SK=KeyAttribute(name="y", type="N"))
    assert table.designs == {"by_x": IndexSettings(key=by_x, projection="INCLUDE", include=("t",))}


def test_a_list_of_names_is_a_mapping_of_names_to_nothing() -> None:
    listed, mapped = (
        parse_migration(text(one).encode()) for one in ("{indexes: [A12, B12]}", "{indexes: {A12: , B12: {}}}")
    )
    assert listed.tables == mapped.tables
    assert fingerprint_of(listed.collections[0]) == fingerprint_of(mapped.collections[0])
    assert listed.layouts == {}


def test_table_of_before_has_the_digest_of_before() -> None:
    """Tables that are half provisioned bear it."""
    file = parse_migration(text("{indexes: [GSI1]}").encode())
    spec = desired_estate(file.tables, file.ledger, file.target).tables[1]
    assert spec_digest(spec) == "45afdf3673b8302c"
    named = TableSettings(name="Tab", indexes=("GSI1",), key=KeyDesign(PK=KeyAttribute(name="pk")))
    assert spec_digest(desired_estate([named], file.ledger, file.target).tables[1]) != spec_digest(spec)


@pytest.mark.parametrize(
    ("table", "item", "where", "word"),
    [
        ("{key: {PK: pk, SK: pk}}", PLAIN, "tables.Tab.key.SK", "an attribute of its own"),
        ("{key: {PK: pk, SK: sk}, indexes: {inverted: {key: {PK: sk}}}}", PLAIN, "tables.Tab.indexes.inverted.key.PK", "sk is also key.SK"),
        ("{key: {PK: _v, SK: sk}}", PLAIN, "tables.Tab.key.PK", "docferry needs itself"),
        ("{key: {PK: SK, SK: sk}}", PLAIN, "tables.Tab.key.PK", "docferry needs itself"),
        ("{key: {PK: ~pk, SK: sk}}", PLAIN, "tables.Tab.key.PK", "no name of a key attribute"),
        ("{key: {PK: expires, SK: sk}, ttl_attribute: expires}", PLAIN, "tables.Tab.key.PK", "TTL attribute"),
        ("{key: {PK: {name: pk, type: X}, SK: sk}}", PLAIN, "tables.Tab.key.PK.type", "'S', 'N' or 'B'"),
        ("{key: {PK: {name: pk, typ: N}, SK: sk}}", PLAIN, "tables.Tab.key.PK.typ", "not known here"),
        ("{key: {SK: sk}}", PLAIN, "tables.Tab.key.PK", "is missing"),
        ("{key: {PK: pk}}", PLAIN, "collections.c.item.key.SK", "is not known here"),
        ("{key: {PK: pk, SK: {name: sk, type: N}}}", PLAIN, "collections.c.item.key.SK", "one field and nothing else"),
        ("{key: {PK: pk, SK: {name: sk, type: B}}}", '{entity: C, key: {PK: "C#{_id}", SK: "{a:number}"}}', "collections.c.item.key.SK", "bytes, which have no number"),
        ("{}", '{entity: C, key: {PK: "C#{_id}", SK: "{a:date}"}}', "collections.c.item.key.SK", "sorts as it is"),
        ("{}", '{entity: C, key: {PK: "C#{_id}", SK: "{a:number}x"}}', "collections.c.item.key.SK", "only a # may follow"),
        ("{indexes: {by_x: {local: true}}}", PLAIN, "tables.Tab.indexes.by_x.local", "local secondary index"),
        ("{indexes: {by_x: {projection: INCLUDE}}}", PLAIN, "tables.Tab.indexes.by_x", "names no attribute"),
        ("{indexes: {by_x: {include: [a]}}}", PLAIN, "tables.Tab.indexes.by_x.include", "this is ALL"),
        ("{indexes: {by_x: {projection: INCLUDE, include: [a, a]}}}", PLAIN, "tables.Tab.indexes.by_x.include", "names a twice"),
        ("{indexes: {by_x: {projection: INCLUDE, include: [PK]}}}", PLAIN, "tables.Tab.indexes.by_x.include", "is a key"),
        ("{indexes: {by_x: {projection: SOME}}}", PLAIN, "tables.Tab.indexes.by_x.projection", "'ALL', 'KEYS_ONLY' or 'INCLUDE'"),
        ("{indexes: {by_x: {projektion: ALL}}}", PLAIN, "tables.Tab.indexes.by_x.projektion", "not known here"),
        ("{indexes: {by_x: {key: {PK: x}}}}", '{entity: C, key: {PK: "C#{_id}", SK: R}, index: {by_x: {PK: "X#{x}", SK: R}}}', "collections.c.item.index.by_x", "has an SK"),
        ("{indexes: {by_x: }}", '{entity: C, key: {PK: "C#{_id}", SK: R}, index: {by_x: {PK: "X#{x}"}}}', "collections.c.item.index.by_x", "has no SK"),
        ("{key: {PK: {name: pk, type: N}, SK: sk}}", "null", "collections.c", "not all texts"),
        ("{key: {PK: pk}}", '{entity: C, key: {PK: "C#{_id}"}}, children: {a: {entity: A, key: {}}}', "collections.c.children.a", "a partition holds one item"),
        ("{key: {PK: pk, SK: sk}}", '{entity: C, key: {PK: "C#{_id}", SK: R}, attributes: {pk: a}}', "collections.c.item.attributes.pk", "docferry needs itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_line(table: str, item: str, where: str, word: str) -> None:
    (problem,) = problems_of(text(table, item))
    assert (problem.where, word in f"{problem.what} {problem.suggestion}") == (where, True), problem
    assert problem.line == (4 if where.startswith("tables") else 6)


def test_pattern_with_a_sort_key_where_there_is_none_is_refused() -> None:
    more = 'access_patterns:\n  p: {collection: c, PK: "C#{_id}", SK: R}\n'
    (problem,) = problems_of(text("{key: {PK: pk}}", '{entity: C, key: {PK: "C#{_id}"}}') + more)
    assert (problem.where, problem.line) == ("access_patterns.p.SK", 8)


def test_fake_target_keeps_what_a_table_would_and_gives_it_back() -> None:
    file = parse_migration(text("{key: {PK: pk}}", '{entity: C, key: {PK: "C#{_id}"}}').encode())
    target = FakeTarget(layouts=file.layouts)
    items = file.mapping("c").encode({"_id": 1, "pk": 2}, 1)
    (packed,) = target.pack(items, "Tab")
    assert b'"pk": {"S": "C#~i1"}' in packed.json
    assert file.layouts["Tab"].stored(items[0]).keys() == {"pk", "entityType", "_id", "_v", "~pk"}
