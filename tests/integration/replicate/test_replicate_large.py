"""Documents of many megabytes, rewritten with both images: none of them stops the stream, and what is around them arrives.

DynamoDB takes 400 KB an item, so most of them are dead letters; they come back when they are small again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import Binary
from docferry.adapters.mongodb import change_stream as mongo_stream
from docferry.config import parse_migration
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.replicate import follower as replicate
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig
from support.replicate.rig import assert_equal, end, follow, graves, large, live_keys, live_shop
from support.validate.planting import MAKERS, user

pytestmark = pytest.mark.xdist_group("replicate_large")
MB = 1_000_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "READ_WAIT_S", 0.1)


@pytest.fixture(scope="module")
def env(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A mongod that can hold the change of a 15 MB document, both its images and the oplog's entry in its cache."""
    with SandboxReplicaSet(tmp_path_factory.mktemp("large"), cache_mb=1024, oplog_mb=990) as mongo:
        yield {**stack.env(), "DOCFERRY_MONGO_URI": mongo.uri()}


@pytest.fixture(scope="module")
def rig(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = live_shop(env, tmp_path_factory.mktemp("large"))
    follow(made)
    yield made
    end(made)


@pytest.fixture
def too_large(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each event that the server could not bring with its images."""
    seen: list[str] = []
    real = mongo_stream.MongoFeed._pass_too_large

    def noting(feed: Any, wait_s: float) -> Any:
        seen.append("too large")
        return real(feed, wait_s)

    monkeypatch.setattr(mongo_stream.MongoFeed, "_pass_too_large", noting)
    return seen


def keys_of(rig: Rig, pk: str) -> set[str]:
    return {key[1] for key in live_keys(rig) if key[0] == pk}


def letters(rig: Rig) -> list[tuple[str, str]]:
    return [(one.id, one.reason) for one in list_letters(rig.ledger, "users")]


def scan(megabytes: int) -> Binary:
    """6 MB do not compress, and so make a dead letter of many parts; 15 MB do."""
    return large(megabytes * MB) if megabytes < 10 else Binary(bytes(megabytes * MB))


@pytest.mark.parametrize("megabytes", [6, 15])
def test_large_document_rewritten_with_both_images_does_not_stop_the_stream(rig: Rig, megabytes: int) -> None:
    users, name = rig.database["users"], f"large {megabytes}"
    key = users.insert_one(user(name)).inserted_id
    users.replace_one({"_id": key}, user(name) | {"_id": key, "scan": scan(megabytes)})
    rig.database["products"].insert_one(MAKERS["products"](f"between {megabytes}"))
    users.replace_one({"_id": key}, user(name) | {"_id": key, "scan": scan(megabytes), "other": 1})
    users.update_one({"_id": key}, {"$set": {"note": "still large"}})
    rig.database["categories"].insert_one(MAKERS["categories"](f"behind {megabytes}"))
    report = follow(rig)
    assert (report.events, report.written, report.dead) == (6, 3, 3)
    assert letters(rig) == [(str(key), "ItemTooLarge")]
    assert keys_of(rig, f"USER#{name}") == set()
    assert_equal(rig)

    users.update_one({"_id": key}, {"$unset": {"scan": ""}})
    report = follow(rig)
    assert (report.written, report.dead, letters(rig)) == (1, 0, [])
    assert len(keys_of(rig, f"USER#{name}")) == 3
    assert_equal(rig)


def test_key_that_moves_while_the_document_is_large_is_known_when_it_is_small_again(rig: Rig) -> None:
    users = rig.database["users"]
    key = users.insert_one(user("first name")).inserted_id
    follow(rig)
    users.update_one({"_id": key}, {"$set": {"scan": large(6 * MB)}})
    users.update_one({"_id": key}, {"$set": {"username": "second name"}, "$pop": {"addresses": 1}})
    follow(rig)
    users.update_one({"_id": key}, {"$set": {"username": "third name"}})
    users.update_one({"_id": key}, {"$unset": {"scan": ""}})
    report = follow(rig)
    assert (report.written, report.dead, letters(rig)) == (1, 1, [])
    assert keys_of(rig, "USER#first name") == keys_of(rig, "USER#second name") == set()
    assert keys_of(rig, "USER#third name") == {"PROFILE", "ADDRESS#home#000"}
    assert len({sk for pk, sk in graves(rig) if pk == "USER#first name"}) == 3
    assert_equal(rig)


def test_document_whose_large_fields_are_dropped_is_stored(env: dict[str, str], tmp_path: Path) -> None:
    rig = live_shop(env, tmp_path, load=False)
    tree = yaml.safe_load(rig.file.read_text())
    del tree["collections"]["products"]["unique"]
    tree["collections"]["products"]["unmapped"] = "drop"
    rig.file.write_text(yaml.safe_dump(tree, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))
    rig.load()
    products = rig.database["products"]
    key = products.insert_one(MAKERS["products"]("dropping") | {"scan": scan(15)}).inserted_id
    products.update_one({"_id": key}, {"$set": {"scan": Binary(b"x" * 15 * MB)}})
    report = follow(rig)
    assert (report.events, report.written, report.dead) == (2, 2, 0)
    (item,) = (item for (pk, _), item in rig.scan().items() if pk == f"PRODUCT#{key}")
    assert item["_id"] == {"S": str(key)}
    assert "scan" not in item
    end(rig)


# --- events that are too large even so: much of the document is in keys ----------------------------------------------


def crowd(name: str) -> dict[str, Any]:
    """The key fields of its pre-image are megabytes, and do not fit beside the document. No such key can be stored."""
    document = user(name) | {"addresses": [{"type": letter * MB} for letter in "abc"]}
    return document | {"scan": Binary(bytes(13 * MB))}


def test_event_too_large_for_its_images_is_passed_by_reading_the_document(rig: Rig, too_large: list[str]) -> None:
    users = rig.database["users"]
    key = users.insert_one(crowd("crowd")).inserted_id
    rig.database["categories"].insert_one(MAKERS["categories"]("before the crowd"))
    users.update_one({"_id": key}, {"$set": {"note": "x"}})
    rig.database["categories"].insert_one(MAKERS["categories"]("behind the crowd"))
    report = follow(rig)
    assert too_large, "the server brought it: the document must be larger for this test"
    assert (report.events, report.written, report.dead) == (4, 2, 2)
    assert letters(rig) == [(str(key), "KeyTooLong")]
    assert_equal(rig)

    too_large.clear()
    users.update_one(
        {"_id": key}, {"$set": {"addresses": [], "username": "alone", "note": "y"}, "$unset": {"scan": ""}}
    )
    users.update_one({"_id": key}, {"$set": {"note": "z"}})
    report = follow(rig)
    assert (report.written, report.dead, letters(rig)) == (2, 0, [])
    assert keys_of(rig, "USER#crowd") == set()
    assert keys_of(rig, "USER#alone") == {"PROFILE"}
    assert_equal(rig)


def test_event_too_large_for_its_images_of_a_document_that_is_small_by_now_writes_it(
    rig: Rig, too_large: list[str]
) -> None:
    users = rig.database["users"]
    key = users.insert_one(crowd("shrinking")).inserted_id
    users.update_one({"_id": key}, {"$set": {"note": "x"}})
    users.replace_one({"_id": key}, user("shrunk") | {"_id": key})
    report = follow(rig)
    assert too_large
    assert report.events == 3
    assert letters(rig) == []
    assert len(keys_of(rig, "USER#shrunk")) == 3
    assert keys_of(rig, "USER#shrinking") == set()
    assert_equal(rig)
    users.update_one({"_id": key}, {"$set": {"username": "shrunk again"}})
    follow(rig)
    assert (len(keys_of(rig, "USER#shrunk")), len(keys_of(rig, "USER#shrunk again"))) == (0, 3)
    assert_equal(rig)


def test_event_too_large_for_its_images_of_a_document_that_is_gone_by_now_buries_it(
    rig: Rig, too_large: list[str]
) -> None:
    users = rig.database["users"]
    key = users.insert_one(user("going")).inserted_id
    follow(rig)
    users.replace_one({"_id": key}, crowd("going") | {"_id": key})
    users.update_one({"_id": key}, {"$set": {"note": "x"}})
    users.delete_one({"_id": key})
    report = follow(rig)
    assert too_large
    assert report.events == 3
    assert letters(rig) == []
    assert keys_of(rig, "USER#going") == set()
    assert_equal(rig)
