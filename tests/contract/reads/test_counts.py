"""Counts of a whole partition of the table: DynamoDB counts what is alive, and nothing of other collections."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from docferry import wiring
from docferry.client.items.reader import DocumentReader
from docferry.sandbox import SandboxStack
from support.backfill.rig import rig_of
from support.client.rig import MODES, connected, set_mode

TREE: dict[str, Any] = {
    "migration": "counts",
    "tables": {"Tenants": {}},
    "collections": {
        "comments": {
            "item": {"entity": "COMMENT", "key": {"PK": "T#{tenant}", "SK": "C#{_id}"}},
        },
        "notes": {"item": {"entity": "NOTE", "key": {"PK": "T#{tenant}", "SK": "N#{_id}"}}},
    },
}


def test_count_of_a_partition_is_that_of_its_live_documents(
    stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = uuid.uuid4().hex[:8]
    collections = {name: one | {"table": f"Tenants{mark}"} for name, one in TREE["collections"].items()}
    tree = TREE | {"tables": {f"Tenants{mark}": {}}, "collections": collections}
    rig = rig_of(stack.env(), tmp_path_factory.mktemp("counts"), tree, f"counts{mark}")
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    connected(rig, monkeypatch, stack)
    counted: list[str] = []
    count = DocumentReader.count

    async def noted(self: DocumentReader, query: Any) -> int:
        counted.append(query.partition)
        return await count(self, query)

    monkeypatch.setattr(DocumentReader, "count", noted)
    with wiring.connect(rig.file) as db:
        comments = db["comments"]
        comments.insert_many([{"_id": f"c{at}", "tenant": "a", "n": at} for at in range(4)])
        comments.insert_many([{"_id": one, "tenant": "a"} for one in ("gone", "later")])
        for one, at in (("gone", time.time() - 60), ("later", time.time() + 600)):
            key = {"PK": {"S": "T#a"}, "SK": {"S": f"C#{one}"}}
            expires = {":t": {"N": str(int(at))}}
            rig.dynamodb.update_item(
                TableName=f"Tenants{mark}", Key=key, UpdateExpression="SET #t = :t", ExpressionAttributeNames={"#t": "_ttl"},
                ExpressionAttributeValues=expires,
            )  # fmt: skip
        comments.insert_one({"_id": "elsewhere", "tenant": "b"})
        db["notes"].insert_one({"_id": "c9", "tenant": "a"})
        comments.delete_one({"tenant": "a", "_id": "c1"})
        assert comments.count_documents({"tenant": "a"}) == len(list(comments.find({"tenant": "a"}))) == 4
        assert comments.count_documents({"tenant": "a"}, skip=1, limit=2) == 2
        assert counted == ["T#a", "T#a"]
        assert comments.count_documents({"tenant": "a", "n": 2}) == comments.count_documents({"tenant": "b"}) == 1
        assert counted == ["T#a", "T#a", "T#b"], "what else is asked is looked at"
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()
