"""A whole shop is loaded, and a judge that shares no code with docferry finds nothing; then it finds what is planted."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS, ShopCounts, ShopPlan, load_shop, shop_documents
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, shop_rig

pytestmark = pytest.mark.xdist_group("backfill_judged")
USERS, AWKWARD, UNSTORABLE = 250, 250, 12
PLAN = ShopPlan(users=USERS, awkward=AWKWARD, unstorable=UNSTORABLE)
PLANTED = {
    name: frozenset(judge.id_key(one.document["_id"]) for one in shop_documents(name, PLAN) if not one.storable)
    for name in COLLECTIONS
}
Table = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def shop(stack: SandboxStack) -> ShopCounts:
    return load_shop(stack.env()["DOCFERRY_MONGO_URI"], "judged", users=USERS, awkward=AWKWARD, unstorable=UNSTORABLE)


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, shop: ShopCounts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path_factory.mktemp("judged"), "judged", chunk_documents=70, page_documents=30)
    made.load()
    yield made
    made.close()


def verdict_of(rig: Rig) -> judge.Verdict:
    return judge.judge_shop(rig.database, rig.dynamodb, rig.table, PLANTED)


def test_judge_imports_nothing_of_docferry() -> None:
    room = "docferry.rehearsal.independent"
    for module in Path(judge.__file__).parent.glob("*.py"):
        tree = ast.parse(module.read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not [name for name in imported if "docferry" in name and not name.startswith(room)], module.name


def test_shop_arrives_complete_and_equal_by_the_judge(rig: Rig, shop: ShopCounts) -> None:
    verdict = verdict_of(rig)
    assert verdict.counts == (0, 0, 0), verdict
    assert verdict.documents == shop.documents
    assert verdict.items == shop.items
    assert verdict.items > verdict.documents


def test_second_run_changes_nothing_and_says_so(rig: Rig) -> None:
    before = rig.scan()
    assert all(report.already_complete for report in rig.load().values())
    assert rig.scan() == before


# --- the judge is not blind ------------------------------------------------------------------------------------------


def _first(table: Table, entity: str, wanted: Callable[[dict[str, Any]], bool] = lambda item: True) -> dict[str, Any]:
    return dict(next(i for _, i in sorted(table.items()) if i["entityType"]["S"] == entity and wanted(i)))


def _without(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != name}


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "a changed text": ("USER_PROFILE", lambda i: {**i, "username": {"S": "mallory"}}, "/username"),
    "a missing attribute": ("ORDER", lambda i: _without(i, "currency"), "/currency"),
    "an attribute too many": ("PRODUCT", lambda i: {**i, "colour": {"S": "red"}}, "/colour"),
    "null for missing": ("CATEGORY", lambda i: {**i, "description": {"NULL": True}}, "/description"),
    "a number as text": ("ORDER", lambda i: {**i, "totalAmount": {"S": i["totalAmount"]["N"]}}, "/totalAmount"),
    "a cent more": ("ORDER_ITEM", lambda i: {**i, "price": {"N": i["price"]["N"] + "1"}}, "/price"),
    "a date without milliseconds": (
        "USER_PROFILE",
        lambda i: {**i, "createdAt": {"S": i["createdAt"]["S"][:19] + "Z"}},
        "/createdAt",
    ),
    "a hint of another type": ("PRODUCT", lambda i: {**i, "_t": {"M": {"/stock": {"S": "double"}}}}, "/stock"),
    "a lost index key": ("USER_PROFILE", lambda i: _without(i, "GSI1PK"), "GSI1PK"),
    "another index key": ("ORDER", lambda i: {**i, "GSI2PK": {"S": "STATUS#other"}}, "GSI2PK"),
    "an index that should be sparse": ("USER_ADDRESS", lambda i: {**i, "GSI1PK": {"S": "CITY#x"}}, "GSI1PK"),
    "another document's id": ("PRODUCT", lambda i: {**i, "_id": {"S": str(ObjectId())}}, "/_id"),
    "no version": ("USER_PROFILE", lambda i: _without(i, "_v"), "_v"),
    "no digest of its children": ("ORDER", lambda i: _without(i, "_digest"), "_digest"),
    "another place in the array": ("ORDER_ITEM", lambda i: {**i, "_i": {"N": "77"}}, "_i"),
    "another entity": ("CATEGORY", lambda i: {**i, "entityType": {"S": "PRODUCT"}}, "entityType"),
    "a deep change": (
        "PRODUCT",
        lambda i: {**i, "attributes": {"M": {**i["attributes"]["M"], "weightKg": {"N": "-1"}}}},
        "/attributes/weightKg",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_judge_finds_a_planted_change_with_its_path(rig: Rig, what: str) -> None:
    entity, change, path = CHANGES[what]
    needed = {"ORDER": ("_digest", "currency"), "PRODUCT": ("attributes",)}.get(entity, ())
    item = _first(rig.scan(), entity, lambda i: all(name in i for name in needed) and "_t" not in i)
    rig.dynamodb.put_item(TableName=rig.table, Item=change(item))
    try:
        verdict = verdict_of(rig)
        assert verdict.counts == (0, 0, 1), verdict
        assert verdict.different[0].path == path
        assert verdict.different[0].key == (item["PK"]["S"], item["SK"]["S"])
    finally:
        rig.dynamodb.put_item(TableName=rig.table, Item=item)


@pytest.mark.parametrize("entity", ["USER_PROFILE", "USER_ADDRESS", "ORDER", "ORDER_ITEM", "PRODUCT", "CATEGORY"])
def test_judge_finds_a_missing_and_an_extra_item(rig: Rig, entity: str) -> None:
    item = _first(rig.scan(), entity)
    key = {"PK": item["PK"], "SK": item["SK"]}
    rig.dynamodb.delete_item(TableName=rig.table, Key=key)
    moved = {**item, "SK": {"S": item["SK"]["S"] + "#moved"}}
    rig.dynamodb.put_item(TableName=rig.table, Item=moved)
    try:
        assert verdict_of(rig).counts == (1, 1, 0)
    finally:
        rig.dynamodb.delete_item(TableName=rig.table, Key={"PK": moved["PK"], "SK": moved["SK"]})
        rig.dynamodb.put_item(TableName=rig.table, Item=item)


def test_judge_finds_items_of_an_unstorable_document(rig: Rig) -> None:
    some = PLANTED["products"]
    assert some
    dead = bson.decode(next(iter(some)))[""]
    item = _first(rig.scan(), "PRODUCT")
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "PK": {"S": f"PRODUCT#{dead}"}})
    try:
        assert verdict_of(rig).counts == (0, 1, 0)
    finally:
        rig.dynamodb.delete_item(TableName=rig.table, Key={"PK": {"S": f"PRODUCT#{dead}"}, "SK": item["SK"]})


def test_judge_finds_that_a_storable_document_was_left_out(rig: Rig) -> None:
    others = {name: ids for name, ids in PLANTED.items() if name != "products"}
    verdict = judge.judge_shop(rig.database, rig.dynamodb, rig.table, others)
    assert verdict.counts == (2 * len(PLANTED["products"]), 0, 0)  # each with its guard
