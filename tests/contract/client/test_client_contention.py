"""Many write one document while DynamoDB leads: each increment counts once, and none fails for having met another."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bson import ObjectId
from docferry import wiring
from docferry.sandbox import SandboxStack
from support.client.rig import MODES, application, connected, set_mode

THREADS, EACH = 12, 6


def test_document_that_many_increment_at_once_counts_each_of_them_once(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = application(stack, tmp_path, f"contention{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    with wiring.connect(rig.file) as manager:
        users = manager["users"]
        users.insert_one({"_id": ObjectId(), "username": "c", "visits": 0})

        def work(_: int) -> list[int]:
            return [users.update_one({"username": "c"}, {"$inc": {"visits": 1}}).modified_count for _ in range(EACH)]

        with ThreadPoolExecutor(THREADS) as pool:
            answers = [one for told in pool.map(work, range(THREADS)) for one in told]
        found = users.find_one({"username": "c"})
        missed = manager.get_metrics()["counts"].get("lock.missed", 0)
    assert answers == [1] * (THREADS * EACH)
    assert found is not None
    assert found["visits"] == THREADS * EACH
    assert missed, "no two writers met"
    rig.mongo.drop_database(rig.database.name)
    rig.close()
