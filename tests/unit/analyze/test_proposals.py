"""What is proposed for unique indexes and for small collections: in the file, as it can be read, and why in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml
from docferry.config import Migration, parse_migration
from docferry.core.analyze.design import Design, design_of
from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, IndexFacts, PathFacts, QueryShape, Spread
from docferry.core.analyze.migration_text import migration_text

NAME = IndexFacts(name="name_1", keys=(("name", "1"),), unique=True)
MAIL = IndexFacts(name="mail_1", keys=(("mail", "1"),), unique=True)
ID = IndexFacts(name="_id_", keys=(("_id", "1"),), unique=True)
BY_NAME = QueryShape(collection="users", kind="find", equality=("name",), calls=50)


def collection(name: str, *indexes: IndexFacts, documents: int = 1_000_000, **more: Any) -> CollectionFacts:
    paths = [PathFacts(path=one, present=1.0, types={"string": 1.0}, distinct=9, values=9) for one in ("name", "mail")]
    return CollectionFacts(
        name=name, kind="collection", documents=documents, average_bytes=400.0, paths=paths, indexes=(ID, *indexes),
        item_bytes=Spread(count=9, p50=400.0, p95=400.0, p99=400.0, max=400.0), **more,
    )  # fmt: skip


def proposed(*collections: CollectionFacts) -> tuple[Design, Migration, str]:
    facts = DatabaseFacts(
        database="shop", server="MongoDB 6.0", began="2026-11-30", seconds=1.0, documents_read=9, bytes_read=9, yielded_s=0.0,
        collections=collections,
    )  # fmt: skip
    design = design_of(facts)
    text = migration_text(design)
    return design, parse_migration(text.encode()), text


def chosen(design: Design, topic: str) -> Sequence[tuple[str, str]]:
    return [(one.chosen, one.why) for one in design.choices if one.topic == topic]


def test_a_unique_index_is_proposed_with_its_reason_and_cost_and_not_waived() -> None:
    design, migration, text = proposed(collection("users", MAIL))
    (unique,) = migration.collections[0].unique
    assert (unique.name, unique.fields, unique.sparse, unique.partial) == ("mail_1", ("mail",), False, None)
    assert migration.cutover.waived_unique == ()
    ((how, why),) = chosen(design, "unique index mail_1")
    assert how == "kept by guards"
    assert "1 write unit at the load" in why
    assert "unique index mail_1: kept by guards." in text.replace("\n    #  ", "")


@pytest.mark.parametrize(("uses", "indexes"), [(0, []), (None, []), (5, ["name"])])
def test_a_ttl_index_that_no_call_uses_becomes_no_index(uses: int | None, indexes: list[str]) -> None:
    """MongoDB's own removals do not count as uses."""
    expires = IndexFacts(name="name_1", keys=(("name", "1"),), ttl_s=0, uses=uses, since="2026-11-30")
    design, _, _ = proposed(collection("sessions", expires))
    assert [field for one in design.collections[0].indexes for field in one.fields] == indexes
    assert len(chosen(design, "MongoDB's index name_1")) == (not indexes)


def test_sparse_partial_and_compound_indexes_are_proposed_as_mongodb_has_them() -> None:
    sparse = IndexFacts(name="a_1_b_-1", keys=(("a", "1"), ("b", "-1")), unique=True, sparse=True)
    partial = replace(
        MAIL, partial=True, partial_filter='{"mail": {"$gt": ""}, "at": {"$gt": {"$date": "2024-01-01T00:00:00Z"}}}'
    )
    _, migration, _ = proposed(collection("users", sparse, partial))
    found = {one.name: one for one in migration.collections[0].unique}
    assert (found["a_1_b_-1"].key, found["a_1_b_-1"].sparse) == ({"a": 1, "b": -1}, True)
    assert found["mail_1"].partial == {"mail": {"$gt": ""}, "at": {"$gt": {"$date": "2024-01-01T00:00:00Z"}}}


def test_id_has_guards_where_the_key_is_another_and_only_where_there_are_any() -> None:
    _, migration, _ = proposed(collection("users", NAME, MAIL, shapes=(BY_NAME,)))
    assert migration.collections[0].item.key["PK"] == "USER#{name}"
    assert [one.name for one in migration.collections[0].unique] == ["_id_", "mail_1"]
    design, migration, _ = proposed(collection("users", NAME, shapes=(BY_NAME,)))
    assert migration.collections[0].unique == ()
    assert chosen(design, "unique index name_1") == [("kept by the table's key", "it is the key")]


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (replace(MAIL, collation=True), "it compares by a collation"),
        (replace(MAIL, keys=(("mail", "hashed"),)), "it is of another kind"),
        (replace(MAIL, keys=(("mail.0", "1"),)), "is no plain path"),
        (replace(MAIL, partial=True), "its filter is not known"),
        (replace(MAIL, name="mail#1"), "cannot stand in a key"),
        (replace(MAIL, partial=True, partial_filter='{"$nor": [{"a": 1}]}'), "no filter of an index"),
    ],
)
def test_what_no_guard_can_keep_is_waived_by_name_and_says_why(index: IndexFacts, told: str) -> None:
    design, migration, text = proposed(collection("users", index))
    assert migration.collections[0].unique == ()
    assert migration.cutover.waived_unique == (f"users.{index.fields[0]}",)
    ((how, why),) = chosen(design, f"unique index {index.name}")
    assert how == "waived"
    assert told in why
    assert "nothing enforces them once DynamoDB leads" in text


def test_small_collections_are_named_with_a_bound_and_a_scan_is_never_allowed_unasked() -> None:
    big, small = collection("orders"), collection("countries", documents=250)
    design, migration, text = proposed(big, small)
    assert [one.scan for one in migration.collections] == [None, None]
    plain = text.replace("\n    #  ", "")
    assert "give countries a table of its own" in plain
    assert "scan: {allowed: true, most_read_units: 50}" in plain
    assert [one.collection for one in design.choices if one.topic == "scan"] == ["countries"]
    assert "Its 250 documents are about 25 read units a scan" in next(why for _, why in chosen(design, "scan"))
    design, _, text = proposed(small, collection("settings", documents=3))
    assert "of its own" not in text
    bounds = [one.scan.most for one in design.collections if one.scan]
    assert bounds == [52, 52]  # a scan reads all of the table that they share


def test_what_is_proposed_in_the_comment_is_what_the_file_takes() -> None:
    _, _, text = proposed(collection("countries", documents=250))
    assert "    # scan: {allowed: true" in text
    allowed = text.replace("    # scan: {allowed: true", "    scan: {allowed: true")
    (found,) = parse_migration(allowed.encode()).collections
    assert found.scan is not None
    assert yaml.safe_load(allowed)["collections"]["countries"]["scan"]["most_read_units"] == found.scan.most_read_units
