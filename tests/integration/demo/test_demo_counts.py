"""The demo's own counting, on a real mongod and the emulator: it must not take docferry's word for anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from demo.counts import count_documents, count_events, count_items, now_in
from docferry.config import load_migration
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from support.backfill.rig import session_of
from support.place import SHOP_FILE


def test_changes_are_counted_by_phase_and_behind_the_position(stack: SandboxStack) -> None:
    uri, migration = stack.mongo.uri("docferry"), load_migration(SHOP_FILE)
    migration = replace(migration, source=replace(migration.source, database=f"counts_{ObjectId()}"))
    with MongoClient[Any](uri) as client:
        database = client[migration.source.database]
        database["users"].insert_one({"_id": 0})  # before all of it
        began = now_in(uri)
        database["users"].insert_many([{"_id": n} for n in range(1, 4)])
        database["other"].insert_one({"_id": 1})  # not mapped
        with database.watch() as stream:
            stream.try_next()
            position = str(stream.resume_token["_data"])  # type: ignore[index]
        middle = now_in(uri)
        database["orders"].insert_many([{"_id": n} for n in range(1_500)])  # more than a batch
        database["users"].delete_one({"_id": 1})
        end = now_in(uri)
        database["users"].delete_one({"_id": 2})  # after all of it
        found = count_events(uri, migration, [("first", began), ("second", middle)], end, position)
        assert found.by_phase == {"first": 3, "second": 1_501}
        assert (found.events, found.after_position) == (1_504, 1_501)
        assert count_documents(uri, migration) == {"users": 2, "orders": 1_500, "products": 0, "categories": 0}
        client.drop_database(database.name)


def test_items_are_counted_by_collection_without_tombstones(stack_env: dict[str, str], tmp_path: Path) -> None:
    table = f"Counts{ObjectId()}"
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP_FILE.read_text().replace("  Shop:", f"  {table}:").replace("table: Shop", f"table: {table}"))
    client = session_of(stack_env).client("dynamodb", endpoint_url=stack_env["AWS_ENDPOINT_URL_DYNAMODB"])
    keys = {"PK": "HASH", "SK": "RANGE"}
    client.create_table(
        TableName=table, BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
    )  # fmt: skip
    entities = ["USER_PROFILE", "USER_ADDRESS", "ORDER", "STRANGE"]
    for number, entity in enumerate([*entities, "ORDER"]):
        item = {"PK": {"S": str(number)}, "SK": {"S": "x"}, "entityType": {"S": entity}}
        client.put_item(TableName=table, Item=item | ({"_deleted": {"BOOL": True}} if number == 4 else {}))
    assert count_items(load_migration(file)) == {"users": 2, "orders": 1, "": 1}


@pytest.fixture(autouse=True)
def _only_the_stack(stack_env: dict[str, str]) -> None:
    """Nothing here may reach AWS."""
