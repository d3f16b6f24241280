"""What check says of a filter: how much is migrated, of which types, by which index, and arrays that are neither in nor out."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.settings import CollectionSettings
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of, indexes_digest
from docferry.flows.preflight.check import check_migration
from docferry.testing.fakes import FakeSource
from support.config import problems_of

FILE = """
migration: part
source: {database: d}
tables: {Part: {}}
collections:
  orders:
    filter: %s
    item: {entity: ORDER, key: {PK: "ORDER#{_id}", SK: META}}
    unmapped: %s
"""
DOCUMENTS: list[dict[str, Any]] = [{"_id": n, "region": "us" if n % 3 else "eu"} for n in range(9)] + [{"_id": 9}]
INDEX = {"name": "region_1", "key": {"region": 1}}


def settings(said: str) -> CollectionSettings:
    return parse_migration((FILE % (said, "keep")).encode()).collections[0]


def notes_of(source: FakeSource, said: str = "{region: eu}") -> list[str]:
    report = check_migration(parse_migration((FILE % (said, "keep")).encode()), source)
    assert report.problems == []
    return [one for one in report.notes if one.startswith("collections.orders.filter")]


def test_check_says_how_much_is_migrated_of_which_types_and_warns_of_a_missing_index() -> None:
    source = FakeSource({"orders": DOCUMENTS})
    shown = "\n".join(notes_of(source))
    assert "3 of 10 sampled documents are migrated, 7 stay MongoDB's alone" in shown
    assert "region is, of those migrated: 3 string; not: 6 string, 1 missing" in shown
    assert "no index of MongoDB begins with region" in shown
    source.indexes["orders"] = (INDEX,)
    assert "no index" not in "\n".join(notes_of(source))
    source.indexes["orders"] = (INDEX | {"sparse": True},)
    assert "no index" in "\n".join(notes_of(source))


def test_check_says_that_nothing_is_within_the_filter() -> None:
    assert "no sampled document is within it" in "\n".join(notes_of(FakeSource({"orders": DOCUMENTS}), "{region: EU}"))


def test_check_refuses_a_filter_by_a_field_that_holds_arrays() -> None:
    source = FakeSource({"orders": [*DOCUMENTS, {"_id": 10, "region": ["eu"]}]})
    problems = check_migration(parse_migration((FILE % ("{region: eu}", "keep")).encode()), source).problems
    assert [(one.where, one.what) for one in problems] == [
        (
            "collections.orders.filter",
            "1 of 11 sampled documents have an array there: they are neither in nor out",
        )
    ]


def test_a_field_of_a_key_is_looked_for_in_what_is_migrated_alone() -> None:
    text = (FILE % ("{region: eu}", "keep")).replace("ORDER#{_id}", "ORDER#{_id}#{number}")
    documents = [{**one, **({"number": "n"} if one.get("region") == "eu" else {})} for one in DOCUMENTS]
    report = check_migration(parse_migration(text.encode()), FakeSource({"orders": documents}))
    (seen,) = [one for one in report.fields if one.path == "number"]
    assert (seen.have, seen.sampled) == (3, 3)


@pytest.mark.parametrize(
    ("said", "unmapped", "told"),
    [
        ("{region: {$regex: eu}}", "keep", "wants a single value"),
        ("{at: {$gte: 2024-01-01}}", "keep", "is no value here"),
        ("{region: eu}", "drop", "fields that are not mapped are dropped"),
    ],
)
def test_a_filter_that_not_every_path_could_honour_is_told_with_its_line(said: str, unmapped: str, told: str) -> None:
    (problem,) = problems_of(FILE % (said, unmapped))
    assert told in problem.what
    assert (problem.where, problem.line) == ("collections.orders.filter", 7)


def test_another_filter_is_another_mapping_for_loads_and_for_the_applications_processes() -> None:
    found = [settings(said) for said in ("{}", "{region: eu}", "{region: us}", "{region: {$in: [eu]}}")]
    assert len({fingerprint_of(one) for one in found}) == 4
    assert len({indexes_digest([one]) for one in found}) == 4
