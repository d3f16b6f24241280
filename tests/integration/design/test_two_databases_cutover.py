"""Two databases of one file change their leader together, there and back: MongoDB leads in the end, with every write in both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.hold import back_out
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from support.backfill.rig import Rig
from support.client.rig import connected
from support.cutover.switching import job_of, own_stack, ready, reversing, switch, switch_back
from support.cutover.unfence import unfence
from support.design.archive import databases, drop, entry, order, past, two_rig
from support.replicate.rig import Following
from support.validate.planting import validate

__all__ = ["own_stack"]
pytestmark = pytest.mark.cutover


@pytest.fixture(params=["write_block", "revoke"])
def rig(
    own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Rig]:
    made = two_rig(own_stack.env(), tmp_path, request.param)
    made.load()
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    unfence(job_of(made))
    drop(made)


def test_there_and_back_again_loses_nothing(rig: Rig, own_stack: SandboxStack) -> None:
    main, other = databases(rig)
    writer: MongoClient[dict[str, Any]] = MongoClient(own_stack.env()["DOCFERRY_APP_MONGO_URI"])
    with wiring.connect(rig.file) as manager:
        theirs = manager.client[other.name]
        ready(rig)
        switch(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        for database in (main, other):  # the fence stands before both
            with pytest.raises(OperationFailure):
                writer[database.name]["orders"].insert_one({"_id": "past the fence"})
        manager["orders"].insert_one(order(30))
        manager["orders"].delete_one({"_id": 2})
        theirs["orders"].update_one({"_id": 2}, {"$push": {"lines": {"sku": "late"}}})
        theirs["orders"].insert_one(past(31))
        theirs["audit.log"].delete_one({"_id": "e3"})
        with reversing(rig):
            assert validate(rig).ok
        switch_back(rig, waived=())
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        theirs["audit.log"].insert_one(entry(40))
        with Following(rig) as following:
            following.await_all()
            assert validate(rig).ok
    writer.close()
    assert sorted(one["_id"] for one in main["orders"].find()) == [0, 1, *range(3, 12), 30]
    assert other["orders"].find_one({"_id": 2}) == past(2) | {"lines": [*past(2)["lines"], {"sku": "late"}]}
    assert other["orders"].count_documents({}) == 13
    assert {one["_id"] for one in other["audit.log"].find()} == {f"e{n}" for n in (0, 1, 2, *range(4, 12), 40)}
    assert "orders" not in rig.mongo["admin"].list_collection_names()
