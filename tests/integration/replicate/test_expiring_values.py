"""A document that has expired holds a unique value until it is removed, by MongoDB or by the application: in both databases."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry import wiring
from docferry.sandbox import SandboxStack
from pymongo.errors import DuplicateKeyError
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, connected, set_mode
from support.replicate.rig import Following, end
from support.unique.rig import require_unique, unique_rig
from support.validate.planting import require_equal

PAST, FUTURE = datetime(2020, 1, 1), datetime(2099, 1, 1)
MAIL = "shared@example.org"


def person(name: str, until: datetime) -> dict[str, Any]:
    return {"_id": ObjectId(), "username": name, "email": MAIL, "until": until}


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = unique_rig(stack.env(), tmp_path, f"expiring{uuid.uuid4().hex[:8]}")
    made.database["users"].create_index("until", expireAfterSeconds=0)
    yield made
    end(made)


def test_value_of_a_document_that_mongodb_removes_is_free_for_another(rig: Rig) -> None:
    users, ann, bob = rig.database["users"], person("ann", FUTURE), person("bob", FUTURE)
    users.insert_one(ann)
    rig.load()
    with Following(rig) as following:
        with pytest.raises(DuplicateKeyError):
            users.insert_one(bob)
        assert require_unique(rig) == {str(ann["_id"]): MAIL}
        users.update_one({"_id": ann["_id"]}, {"$set": {"until": PAST}})
        eventually(lambda: users.find_one({"_id": ann["_id"]}) is None, "MongoDB to remove what has expired")
        users.insert_one(bob)
        following.await_all()
        require_equal(rig)
    assert require_unique(rig) == {str(bob["_id"]): MAIL}


def test_value_of_an_expired_document_is_held_while_dynamodb_leads_until_it_is_deleted(
    rig: Rig, stack: SandboxStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    ann, bob = person("ann", PAST), person("bob", FUTURE)
    with wiring.connect(rig.file) as manager:
        users = manager["users"]
        users.insert_one(ann)
        assert users.find_one({"username": "ann"}) == ann
        with pytest.raises(DuplicateKeyError):
            users.insert_one(bob)
        assert require_unique(rig) == {str(ann["_id"]): MAIL}
        users.delete_one({"username": "ann"})
        users.insert_one(bob)
    assert require_unique(rig) == {str(bob["_id"]): MAIL}
