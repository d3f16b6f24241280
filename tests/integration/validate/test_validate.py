"""Validation finds whatever is planted behind docferry's back, once, under its path; and nothing where nothing is wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, encode
from docferry.errors import KeyCollision
from docferry.flows.ledger.dead_letters import list_letters, open_letter
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import change_job
from support.backfill.rig import Rig, generic_rig, shop_rig
from support.validate.loaded_shop import UNSTORABLE, hosts, rig, table
from support.validate.planting import (
    MAKERS,
    PLANTS,
    Item,
    Plant,
    at_once,
    forget_position,
    item_of,
    job_of,
    key,
    keys,
    plant_named,
    tamper,
    validate,
)

__all__ = ["at_once", "hosts", "rig", "table"]

pytestmark = [pytest.mark.xdist_group("validate"), pytest.mark.usefixtures("at_once")]


def test_clean_backfill_is_equal_and_unstorable_documents_are_no_difference(rig: Rig, table: dict[Any, Item]) -> None:
    report = validate(rig)
    assert report.ok, report.render()
    assert report.confidence == "every document and every item was compared"
    assert sum(one.unstorable for one in report.collections) == UNSTORABLE
    assert sum(one.items for one in report.collections) == len(table)
    assert sum(one.documents for one in report.collections) == sum(
        rig.database[name].count_documents({}) for name in MAKERS
    )
    assert report.differences == ()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_plant_is_found_once_with_its_path(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item], plant: Plant
) -> None:
    done = tamper(rig, plant, item_of(table, plant, hosts[plant.name]))
    try:
        report = validate(rig)
    finally:
        done.undo()
    assert not report.ok
    found = report.differences
    assert [one.path for one in found if one.path == plant.path], report.render()
    assert {one.kind.value for one in found} == {plant.kind}, report.render()
    assert {one.collection for one in found} == {plant.reported_as or plant.collection}
    assert {(one.pk, one.sk) for one in found} == {key(done.planted or done.original)}
    total = report.foreign + sum(one.mismatches for one in report.collections)
    assert total == 1, report.render()


@pytest.mark.parametrize("name", ["missing root", "changed field of a child", "another collection's entityType"])
def test_sample_of_everything_finds_it_and_says_how_much_it_is_worth(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item], name: str
) -> None:
    plant = plant_named(name)
    done = tamper(rig, plant, item_of(table, plant, hosts[name]))
    try:
        report = validate(rig, sample=10_000)
    finally:
        done.undo()
    assert not report.ok
    assert plant.path in {one.path for one in report.differences}
    assert report.confidence.startswith("a sample of ")


def test_sample_without_differences_states_its_confidence(rig: Rig, hosts: dict[str, Any]) -> None:
    report = validate(rig, "products", sample=10)
    assert report.ok
    assert report.confidence == "0 of 10 sampled documents differ: with 95 % confidence fewer than 30.00% do"


def test_difference_shows_both_values_with_their_types(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    plant = plant_named("dropped hint: double to int32")
    done = tamper(rig, plant, item_of(table, plant, hosts[plant.name]))
    try:
        (found,) = validate(rig).differences
    finally:
        done.undo()
    assert (found.expected, found.actual) == ("double 1.0", "int32 1")
    assert found.id == str(hosts[plant.name]["_id"])


def test_text_for_a_number_is_shown_as_what_dynamodb_holds(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    plant = plant_named("text for a declared decimal")
    done = tamper(rig, plant, item_of(table, plant, hosts[plant.name]))
    try:
        (found,) = validate(rig).differences
    finally:
        done.undo()
    assert (found.expected, found.actual) == ("attribute N 59.9", "attribute S 59.90")


def test_hints_spelled_otherwise_are_no_difference(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    host = hosts["removed attribute"]
    item = item_of(table, plant_named("removed attribute"), host)
    hints = {**item["_t"]["M"], "/no/such/place": {"S": "oid"}}
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "_t": {"M": hints}})
    try:
        assert validate(rig).ok
    finally:
        rig.dynamodb.put_item(TableName=rig.table, Item=item)


def test_document_changed_in_mongodb_after_the_backfill_is_found(rig: Rig, hosts: dict[str, dict[str, Any]]) -> None:
    host = hosts["changed field"]
    rig.database["orders"].update_one({"_id": host["_id"]}, {"$set": {"currency": "CHF"}})
    try:
        (found,) = validate(rig).differences
    finally:
        rig.database["orders"].update_one({"_id": host["_id"]}, {"$set": {"currency": "EUR"}})
    assert (found.path, found.expected, found.actual) == ("currency", "string CHF", "string EUR")


def test_document_deleted_in_mongodb_after_the_backfill_is_extra_with_all_its_items(
    rig: Rig, hosts: dict[str, dict[str, Any]]
) -> None:
    host = hosts["changed field"]
    rig.database["orders"].delete_one({"_id": host["_id"]})
    try:
        report = validate(rig)
    finally:
        rig.database["orders"].insert_one(host)
    assert {one.kind.value for one in report.differences} == {"extra"}
    assert len(report.differences) == 4
    assert {one.id for one in report.differences} == {str(host["_id"])}


def test_only_the_named_collections_are_judged(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    plant = plant_named("changed field")
    done = tamper(rig, plant, item_of(table, plant, hosts[plant.name]))
    try:
        assert validate(rig, "users", "products").ok
        assert not validate(rig, "users", "orders").ok
    finally:
        done.undo()


# --- dead letters ----------------------------------------------------------------------------------------------------


def _some_letter(rig: Rig) -> tuple[str, Any]:
    letters = [(name, letter) for name in MAKERS for letter in list_letters(rig.ledger, name)]
    return letters[0]


def test_unstorable_document_without_its_letter_is_unaccounted(rig: Rig, hosts: dict[str, Any]) -> None:
    collection, letter = _some_letter(rig)
    record = letter.record
    rig.ledger.delete(record)
    try:
        report = validate(rig)
    finally:
        rig.ledger.write(record.section, record.key, record.body, expect=None)
    (found,) = report.differences
    assert found.kind.value == "unaccounted"
    assert (found.collection, found.id, found.path) == (collection, letter.id, letter.path)
    assert letter.reason in found.actual
    assert validate(rig).ok


def test_items_of_a_document_that_has_become_unstorable_are_extra(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    host = hosts["missing root"]
    rig.database["users"].update_one({"_id": host["_id"]}, {"$set": {"username": {"no": "key"}}})
    try:
        report = validate(rig)
    finally:
        rig.database["users"].replace_one({"_id": host["_id"]}, host)
    kinds = Counter(one.kind.value for one in report.differences)
    assert kinds == {"extra": 5, "unaccounted": 1}, report.render()  # the root, two addresses, two guards


def test_letter_of_a_document_whose_key_another_document_holds_counts_as_unstorable(
    stack: SandboxStack, tmp_path: Path
) -> None:
    made = shop_rig(stack.env(), tmp_path, "collisions")
    first = MAKERS["users"]("same")
    made.database["users"].insert_one(first)
    made.load()
    forget_position(made)
    # As if the unique index had been gone for a while: the letter says so, and the key stays the first one's.
    made.database["users"].drop_index("username_1")
    second = MAKERS["users"]("same") | {"addresses": [], "email": "second@example.com"}
    made.database["users"].insert_one(second)
    open_letter(made.ledger, "users", KeyCollision("twice", id=str(second["_id"])), encode(second), 1)
    job = job_of(made)
    unchecked = change_job(job, source=_Trusting(job.source))
    report = validate(made, "users", job=unchecked)
    made.close()
    assert report.ok, report.render()
    assert report.collections[0].unstorable == 1


class _Trusting:
    """A source that calls every collection's username unique."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def collection_facts(self, collection: str) -> Any:
        facts = self._source.collection_facts(collection)
        return dataclasses.replace(facts, unique=(*facts.unique, frozenset({"username"})))

    def facts_of(self, collections: Sequence[str]) -> list[Any]:
        return [self.collection_facts(name) for name in collections]


@pytest.mark.parametrize(
    "odd",
    [
        {"_id": {"M": {"$gt": {"S": ""}}}},
        {"_id": {"SS": ["a", "b"]}},
        {"_id": {"L": [{"S": "a"}]}},
        {"_id": {"N": "1" + "0" * 37}},
        {"_t": {"M": {"/_id": {"N": "1"}}}},
        {"_t": {"S": "oid"}},
        {"_t": {"M": {"/_id": {"S": "regex:0"}}}},
    ],
    ids=str,
)
def test_nonsense_in_an_extra_item_does_not_end_the_validation(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item], odd: Item
) -> None:
    item = item_of(table, plant_named("removed attribute"), hosts["removed attribute"])
    planted = {**item, "PK": {"S": "PRODUCT#nonsense"}, **odd}
    rig.dynamodb.put_item(TableName=rig.table, Item=planted)
    try:
        report = validate(rig)
    finally:
        rig.dynamodb.delete_item(TableName=rig.table, Key=keys(planted))
    assert [one.kind.value for one in report.differences] == ["extra"]


@pytest.mark.parametrize("version", [{"S": "zz"}, {"S": ""}, {"N": "5"}, {"S": "0" * 21}, {"S": "F" * 22}], ids=str)
def test_version_that_is_none_is_found(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item], version: Item
) -> None:
    item = item_of(table, plant_named("removed attribute"), hosts["removed attribute"])
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "_v": version})
    try:
        report = validate(rig)
    finally:
        rig.dynamodb.put_item(TableName=rig.table, Item=item)
    assert [one.path for one in report.differences] == ["_v"]


def test_nothing_to_compare_is_fine(stack: SandboxStack, tmp_path: Path) -> None:
    made = shop_rig(stack.env(), tmp_path, "nothing_here")
    try:
        for report in (validate(made), validate(made, sample=10)):
            assert report.ok
            assert all(one.documents == one.items == 0 for one in report.collections)
        assert report.confidence == "a sample of 0 documents"
    finally:
        made.close()


def test_empty_collections_with_items_left_in_the_table_are_not_equal(stack: SandboxStack, tmp_path: Path) -> None:
    made = shop_rig(stack.env(), tmp_path, "once_here")
    made.database["categories"].insert_one(MAKERS["categories"]("gone"))
    made.load()
    forget_position(made)
    made.database["categories"].delete_many({})
    try:
        assert [one.kind.value for one in validate(made).differences] == ["extra", "extra"]  # its guard, too
    finally:
        made.close()


# --- without a mapping -----------------------------------------------------------------------------------------------

GENERIC: dict[str, tuple[Any, str, str]] = {
    "changed deep field": (lambda item: {**item, "deep": {"M": {"a": {"L": [{"N": "2"}]}}}}, "different", "deep.a.0"),
    "double for int32": (lambda item: {**item, "_t": {"M": {**item["_t"]["M"], "/n": {"S": "double"}}}}, "different", "n"),
    "text for a double": (lambda item: {**item, "nan": {"S": "nan "}}, "different", "nan"),
    "text for a decimal": (lambda item: {**item, "d": {"S": "12.50"}}, "different", "d"),
    "field with our own name": (lambda item: {**item, "~_v": {"S": "b"}}, "different", "_v"),
    "no hints": (lambda item: {name: value for name, value in item.items() if name != "_t"}, "different", "d"),
    "gone": (lambda item: None, "missing", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def events(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = generic_rig(stack.env(), tmp_path_factory.mktemp("events"), "validating_events", ["events"])
    made.database["events"].insert_many(
        {"_id": n, "n": 1, "d": Decimal128("12.50"), "l": Int64(3), "nan": float("nan"), "_v": "a", "deep": {"a": [1]}}
        for n in (1, "1", ObjectId(), 2.5)
    )
    made.load()
    forget_position(made)
    yield made
    made.close()


@pytest.mark.parametrize("name", GENERIC)
def test_plant_in_a_collection_without_a_mapping_is_found(events: Rig, name: str) -> None:
    change, kind, path = GENERIC[name]
    assert validate(events).ok
    item = events.scan()[("EVENTS#~i1", "DATA")]
    planted = change(item)
    if planted is None:
        events.dynamodb.delete_item(TableName=events.table, Key=keys(item))
    else:
        events.dynamodb.put_item(TableName=events.table, Item=planted)
    try:
        report = validate(events)
    finally:
        events.dynamodb.put_item(TableName=events.table, Item=item)
    assert (kind, path) in {(one.kind.value, one.path) for one in report.differences}, report.render()
    assert {one.id for one in report.differences} == {"~i1"}
