"""People register from a pool of fifty addresses, in every mode, there and back: an address is never two people's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover.hold import back_out
from docferry.flows.ledger.modes import read_mode
from docferry.sandbox import SandboxStack
from pymongo.errors import DuplicateKeyError
from support.backfill.rig import Rig
from support.client.rig import MODES, connected, set_mode
from support.cutover.switching import READS, approved, job_of, own_stack, reversing, switch, switch_back
from support.cutover.unfence import unfence
from support.replicate.rig import Following, end
from support.unique.rig import Registering, held_in_dynamodb, require_unique, unique_rig
from support.validate.planting import require_equal

__all__ = ["own_stack"]


@pytest.fixture
def rig(own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = unique_rig(own_stack.env(), tmp_path, f"unique{uuid.uuid4().hex[:8]}")
    made.dynamodb.update_table(
        TableName=made.table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    )
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    unfence(job_of(made))
    end(made)


@pytest.mark.cutover
def test_addresses_stay_unique_through_every_mode_there_and_back_and_there_again(
    rig: Rig, own_stack: SandboxStack
) -> None:
    application = {"DOCFERRY_MONGO_URI": own_stack.env()["DOCFERRY_APP_MONGO_URI"]}
    rig.database["users"].insert_one({"_id": ObjectId(), "username": "first", "email": "m0@example.org"})
    rig.load()
    with Registering(rig, application, processes=4) as people:
        for turn in range(2):
            with Following(rig):
                people.more()
                for mode in (MODES["DUAL_WRITE"], READS):
                    set_mode(rig, replace(mode, epoch=read_mode(rig.ledger).epoch + 1))
                    people.more()
                require_equal(rig)
            approved(rig)
            # After a way back DynamoDB would be watched for a quarter of an hour.
            switch(rig, waived=("watch",) if turn else ())
            assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
            people.more(100)
            if turn == 0:
                people.kill()
            with reversing(rig):
                people.more()
            switch_back(rig)
            assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
            people.more(20)
        with Following(rig):
            people.more(20)
    assert people.failed == []
    assert set(people.taken) == {"email"}
    with Following(rig):
        require_equal(rig)
    in_mongodb = {str(one["_id"]): one["email"] for one in rig.database["users"].find()}
    assert require_unique(rig) == in_mongodb


def test_of_many_who_register_at_once_while_dynamodb_leads_one_has_each_address(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = unique_rig(stack.env(), tmp_path, f"unique{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    pool, each = 10, 8

    told: list[dict[str, Any]] = []

    def register(number: int) -> str:
        mail = f"m{number % pool}@example.org"
        document = {"_id": ObjectId(), "username": f"u{number}", "email": mail}
        try:
            manager["users"].insert_one(document)
        except DuplicateKeyError as error:
            told.append({**(error.details or {}), "mail": mail})
            return ""
        return mail

    with wiring.connect(rig.file) as manager, ThreadPoolExecutor(each) as threads:
        registered = [mail for mail in threads.map(register, range(pool * each)) if mail]
        users = manager["users"]
        with pytest.raises(DuplicateKeyError):
            users.update_one({"username": "u0"}, {"$set": {"email": "m1@example.org"}})
        one, other = (next(iter(users.find({"username": f"u{number}"})), None) for number in (0, 1))
        users.delete_many({"username": {"$in": [found["username"] for found in (one, other) if found]}})
    assert {(*one["keyPattern"].items(), *one["keyValue"].items()) for one in told} == {
        (("email", 1), ("email", one["mail"])) for one in told
    }
    assert sorted(registered) == [f"m{number}@example.org" for number in range(pool)]
    held = require_unique(rig)
    assert len(held) == pool - sum(found is not None for found in (one, other))
    assert held_in_dynamodb(rig)[1].keys() == set(held.values())
    end(rig)
