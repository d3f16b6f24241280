"""A database, collection or field that is misspelt is found by check, with what was meant; a typing error loads nothing."""

from __future__ import annotations

from typing import Any

import pytest
from bson import DBRef, ObjectId
from docferry.config import Migration, parse_migration
from docferry.flows.preflight.check import CheckReport, check_migration
from docferry.testing.fakes import FakeSource

FILE = """
migration: m
source: {{database: sample_supplies}}
tables: {{Items: {{indexes: [GSI1]}}}}
collections:
  sales:
    {more}item:
      entity: SALE
      key: {{PK: "STORE#{{{field}}}#{{_id}}", SK: ROOT}}
      index: {{GSI1: {{PK: "BY#{{customer.email}}", SK: "S#{{saleDate}}"}}}}
      attributes: {{gone: customer.mial, place: storeLocation}}
    children:
      items: {{entity: ITEM, key: {{SK: "I#{{index:d}}#{{name}}"}}}}
"""
SALES = [
    {
        "_id": 1,
        "storeLocation": "Denver",
        "saleDate": "x",
        "customer": {"email": "a@x"},
        "items": [{"name": "n"}, {"nom": 1}],
    },
    {"_id": 2, "storeLocation": "Austin", "customer": {"email": None}, "owner": DBRef("people", ObjectId())},
    {"_id": 3, "storeLocation": 7, "customer": {}, "items": []},
]


def migration(field: str = "storeLocation", more: str = "", name: str = "sales") -> Migration:
    return parse_migration(FILE.format(field=field, more=more).replace("  sales:", f"  {name}:").encode())


def report(field: str = "storeLocation", documents: list[Any] | None = None, **more: str) -> CheckReport:
    source = FakeSource({"sales": SALES if documents is None else documents})
    source.databases = ("sample_supplies", "local")
    return check_migration(migration(field, **more), source)


def test_database_that_does_not_exist_is_one_problem_with_what_was_meant() -> None:
    source = FakeSource()
    source.databases = ("admin", "config", "local", "sample_suplies", "other")
    (problem,) = check_migration(migration(), source).problems
    assert problem.where == "source.database"
    assert "does not exist" in problem.what
    assert "did you mean sample_suplies?" in problem.suggestion


def test_collection_that_does_not_exist_is_told_with_what_was_meant() -> None:
    (problem,) = report(name="Sale").problems
    assert problem.where == "collections.Sale"
    assert "did you mean sales?" in problem.suggestion
    assert "create: true" in problem.suggestion


def test_collection_that_is_to_come_may_be_missing() -> None:
    assert report(name="later", more="create: true\n    ").problems == []
    source = FakeSource()
    source.databases = ("other",)
    assert check_migration(migration(more="create: true\n    "), source).problems == []


def test_field_of_the_key_that_nobody_has_is_a_problem_with_what_was_meant() -> None:
    (problem,) = report("storeLocatoin").problems
    assert problem.where == "collections.sales.item.key.PK"
    assert "none of 3 sampled documents" in problem.what
    assert "did you mean storeLocation?" in problem.suggestion


def test_each_template_tells_how_many_documents_have_its_fields_and_of_which_types() -> None:
    told = [str(one) for one in report().fields]
    assert told == [
        'collections.sales.item.key.PK STORE#{storeLocation}#{_id}: _id is in 3 of 3 sampled (3 int32)',
        'collections.sales.item.key.PK STORE#{storeLocation}#{_id}: storeLocation is in 3 of 3 sampled (2 string, 1 int32)',
        'collections.sales.item.index.GSI1.PK BY#{customer.email}: customer.email is in 2 of 3 sampled (1 string, 1 null)',
        'collections.sales.item.index.GSI1.SK S#{saleDate}: saleDate is in 1 of 3 sampled (1 string)',
        'collections.sales.item.attributes.gone customer.mial: customer.mial is in 0 of 3 sampled (did you mean customer.email?)',
        'collections.sales.children.items.key.SK I#{index:d}#{name}: name is in 1 of 2 sampled (1 string): '
        '1 of them cannot be stored, for want of a key',
    ]  # fmt: skip


@pytest.mark.parametrize("value", [None, "", [1], {"a": 1}])
def test_value_that_no_key_is_made_of_is_counted(value: Any) -> None:
    documents = [{**SALES[0], "storeLocation": value}, SALES[1]]
    told = next(one for one in report(documents=documents).fields if one.path == "storeLocation")
    assert (told.have, told.unusable) == (2, 1)
    assert "1 of them cannot be stored" in str(told)


@pytest.mark.parametrize(("value", "told"), [(9.6, True), (7, True), ("2024", False)])
def test_numbers_that_end_a_sort_key_and_do_not_sort_are_told(value: Any, told: bool) -> None:
    documents = [{**SALES[0], "saleDate": value}]
    (seen,) = [str(one) for one in report(documents=documents).fields if one.path == "saleDate"]
    assert seen.endswith("numbers do not sort here, and do as {saleDate:number}") == told


def test_path_into_a_reference_is_a_field() -> None:
    (problem,) = report("owner.$ide").problems
    assert "did you mean owner.$id?" in problem.suggestion


def test_empty_collection_says_nothing_of_fields() -> None:
    empty = report("storeLocatoin", documents=[])
    assert (empty.problems, empty.fields) == ([], [])


def test_array_of_children_that_is_nowhere_is_told() -> None:
    documents = [{"_id": 1, "storeLocation": "x", "item": [{"name": "n"}], "customer": {"email": "e"}, "saleDate": 1}]
    told = [str(one) for one in report(documents=documents).fields]
    assert "collections.sales.children.items items: items is in 0 of 1 sampled (did you mean item?)" in told
