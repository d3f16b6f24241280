"""The example shop: every operation in every mode, with the playbook's sample documents, on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
import pytest
from bson import ObjectId
from docferry import wiring
from docferry.client import DualWriteManager, DynamoDBClient, Ended
from docferry.sandbox import SandboxStack
from pymongo.errors import DuplicateKeyError
from shop import NeedsDynamoDB, NoSuchOrder, NoSuchUser, OtherDatabase, Shop
from support.backfill.rig import Rig
from support.client.rig import MODES, application, connected, empty, set_mode
from support.client.sample import (
    ORDER,
    ORDER_ID,
    PLAYBOOKS_ORDER,
    PLAYBOOKS_USER,
    USER,
    USER_ID,
    by_key,
    differences,
    explained,
)

NOBODY = ObjectId("507f1f77bcf86cd7994390ff")


@dataclass
class Open:
    """The shop, open in one mode."""

    mode: str
    rig: Rig
    db: DualWriteManager
    shop: Shop

    @property
    def both(self) -> bool:
        return self.mode.startswith(("DUAL_WRITE", "DYNAMODB_READS"))

    def items(self) -> list[dict[str, Any]]:
        """The documents', guards left out."""
        return [item for item in self.everything() if item["SK"] != "UNIQUE"]

    def everything(self) -> list[dict[str, Any]]:
        """As boto3's resource gives items to a program that reads the table without docferry."""
        env = self.rig.env
        session = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"])
        table = session.resource("dynamodb", endpoint_url=env["AWS_ENDPOINT_URL_DYNAMODB"]).Table(self.rig.table)
        return [item for item in table.scan(ConsistentRead=True)["Items"] if "_deleted" not in item]

    def documents(self, collection: str) -> list[dict[str, Any]]:
        return list(self.rig.database[collection].find())


@pytest.fixture(scope="module", params=list(MODES))
def opened(
    request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    rig = application(stack, tmp_path_factory.mktemp("shop"), f"shop{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        set_mode(rig, MODES[request.param])
        with wiring.connect(rig.file) as db:
            yield Open(request.param, rig, db, Shop(db, DynamoDBClient(db)))
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.fixture
def at(opened: Open) -> Open:
    """Empty but for the sample user and order."""
    empty(opened.rig)
    assert opened.shop.create_user(USER) == USER_ID
    assert opened.shop.create_order(ORDER) == ORDER_ID
    return opened


def user(name: str, **more: Any) -> dict[str, Any]:
    return deepcopy(USER) | {"_id": ObjectId(), "username": name, "email": f"{name}@example.com"} | more


def order(day: int, **more: Any) -> dict[str, Any]:
    return deepcopy(ORDER) | {"_id": ObjectId(f"66{day:022x}"), "createdAt": datetime(2024, 2, day)} | more


# --- users -----------------------------------------------------------------------------------------------------------


def test_user_is_found_by_name_and_by_email(at: Open) -> None:
    assert at.shop.get_user_profile("john_doe") == USER
    assert at.shop.get_user_by_email("john@example.com") == USER
    assert at.shop.get_user_profile("nobody") is None
    assert at.shop.get_user_by_email("nobody@example.com") is None


def test_addresses_are_a_users_in_their_order(at: Open) -> None:
    assert at.shop.get_user_addresses("john_doe") == USER["addresses"]
    two = [{"type": "home", "city": "Yakima"}, {"type": "home", "city": "Tacoma"}]
    at.shop.create_user(user("ann", addresses=two))
    at.shop.create_user(user("bob", addresses=[]))
    assert at.shop.get_user_addresses("ann") == two
    assert at.shop.get_user_addresses("bob") == []
    with pytest.raises(NoSuchUser):
        at.shop.get_user_addresses("nobody")


def test_user_cannot_be_created_twice(at: Open) -> None:
    with pytest.raises(DuplicateKeyError):
        at.shop.create_user(user("john_doe"))
    assert at.shop.get_user_profile("john_doe") == USER


def test_update_changes_a_user_and_makes_nobody(at: Open) -> None:
    at.shop.update_user("john_doe", {"profile.firstName": "Jon", "email": "jon@example.com"})
    changed = deepcopy(USER) | {"email": "jon@example.com"}
    changed["profile"]["firstName"] = "Jon"
    assert at.shop.get_user_profile("john_doe") == changed
    assert at.shop.get_user_by_email("jon@example.com") == changed
    assert at.shop.get_user_by_email("john@example.com") is None
    with pytest.raises(NoSuchUser):
        at.shop.update_user("nobody", {"status": "active"})
    assert at.shop.get_user_profile("nobody") is None


def test_active_users_in_a_city_are_those_since_a_moment(at: Open) -> None:
    def seen(name: str, day: int, city: str = "Yakima", status: str = "active") -> None:
        here = {"location": {"city": city}}
        at.shop.create_user(user(name, profile=here, lastLoginAt=datetime(2024, 1, day, 7), status=status))

    seen("ann", 3)
    seen("bob", 1)
    seen("eve", 2)
    seen("idle", 3, status="inactive")
    seen("away", 3, city="Tacoma")
    found = at.shop.get_active_users_in_city("Yakima", "2024-01-02")
    assert [one["username"] for one in found] == ["eve", "ann"]
    assert at.shop.get_active_users_in_city("Yakima", datetime(2024, 1, 3, 8)) == []


# --- orders ----------------------------------------------------------------------------------------------------------


def test_order_comes_with_its_items(at: Open) -> None:
    assert at.shop.get_order(str(ORDER_ID)) == at.shop.get_order(ORDER_ID) == ORDER
    assert at.shop.get_order(NOBODY) is None
    assert at.shop.get_order("no id") is None


def test_orders_of_a_user_are_newest_first(at: Open) -> None:
    for day in (2, 4, 3):
        at.shop.create_order(order(day))
    at.shop.create_order(order(5, userId=NOBODY))
    wanted = [order(4)["_id"], order(3)["_id"], order(2)["_id"], ORDER_ID]
    assert [one["_id"] for one in at.shop.get_user_orders(str(USER_ID))] == wanted
    assert [one["_id"] for one in at.shop.get_orders_of("john_doe", limit=2)] == wanted[:2]
    with pytest.raises(NoSuchUser):
        at.shop.get_orders_of("nobody")


def test_orders_are_found_by_their_status_as_it_is_now(at: Open) -> None:
    at.shop.create_order(order(2))
    at.shop.update_order_status(str(ORDER_ID), "shipped")
    assert [one["_id"] for one in at.shop.get_orders_by_status("pending")] == [order(2)["_id"]]
    assert [one["_id"] for one in at.shop.get_orders_by_status("shipped")] == [ORDER_ID]
    assert at.shop.get_orders_by_status("lost") == []
    assert len(at.shop.get_orders_by_status("pending", limit=1)) == 1


def test_status_of_no_order_makes_no_order(at: Open) -> None:
    for unknown in (NOBODY, str(NOBODY), "no id"):
        with pytest.raises(NoSuchOrder):
            at.shop.update_order_status(unknown, "shipped")
    assert at.shop.get_order(NOBODY) is None
    assert not [item for item in at.items() if str(NOBODY) in item["PK"]]


def test_order_that_cannot_be_created_leaves_no_item(at: Open) -> None:
    with pytest.raises(DuplicateKeyError):
        at.shop.create_order(order(2, _id=ORDER_ID, items=[ORDER["items"][0]] * 5))
    assert at.shop.get_order(ORDER_ID) == ORDER
    if at.mode != "MONGO_ONLY":
        assert len([item for item in at.items() if item["PK"] == f"ORDER#{ORDER_ID}"]) == 3


# --- any collection --------------------------------------------------------------------------------------------------


def test_batch_gives_what_is_there_in_the_order_of_the_keys(at: Open) -> None:
    at.shop.create_user(user("ann"))
    found = at.shop.batch_get_items("users", ["ann", "nobody", "john_doe", "ann"])
    assert [one["username"] for one in found] == ["ann", "john_doe"]
    keys = [str(NOBODY), str(ORDER_ID), *(ObjectId() for _ in range(150))]
    assert at.shop.batch_get_items("orders", keys) == [ORDER]
    assert at.shop.batch_get_items("orders", []) == []


def test_scan_gives_what_matches_page_by_page(at: Open) -> None:
    for day in range(1, 6):
        at.shop.create_order(order(day, status="odd" if day % 2 else "even"))
    found, start, ends = [], None, []
    while True:
        page = at.shop.scan_with_filter("orders", {"status": "odd"}, limit=2, max_read_units=1_000, start=start)
        found += [one["createdAt"].day for one in page.documents]
        ends.append(page.ended)
        if (start := page.next) is None:
            break
    assert sorted(found) == [1, 3, 5]
    assert (ends[0], ends[-1]) == (Ended.LIMIT, Ended.END)


def test_scan_where_it_needs_dynamodb_says_so(at: Open) -> None:
    without, reads_dynamodb = Shop(at.db), at.shop.get_metrics()["configuration"]["read_from_dynamodb"]
    assert reads_dynamodb == at.mode.startswith("DYNAMODB")
    if reads_dynamodb:
        with pytest.raises(NeedsDynamoDB, match="scan_with_filter"):
            without.scan_with_filter("orders", {})
    else:
        assert without.scan_with_filter("orders", {}).documents == [ORDER]


def test_scan_goes_on_only_in_the_database_where_it_began(at: Open) -> None:
    at.shop.create_order(order(1))
    token = at.shop.scan_with_filter("orders", {}, limit=1).next
    assert token is not None
    other = f"mongodb-{ORDER_ID}" if at.mode.startswith("DYNAMODB") else token.removeprefix("mongodb-")
    with pytest.raises(OtherDatabase):
        at.shop.scan_with_filter("orders", {}, limit=1, start=other)


# --- the migration ---------------------------------------------------------------------------------------------------


def test_items_are_the_playbooks_but_for_what_is_explained(at: Open) -> None:
    items = at.items()
    if at.mode == "MONGO_ONLY":
        assert items == []
        return
    found = differences(items, [*PLAYBOOKS_USER, *PLAYBOOKS_ORDER])
    assert found == explained(list(found), found)


def test_documents_and_items_are_where_the_mode_says(at: Open) -> None:
    assert at.documents("users") == ([] if at.mode == "DYNAMODB_ONLY" else [USER])
    assert at.documents("orders") == ([] if at.mode == "DYNAMODB_ONLY" else [ORDER])
    assert len(at.items()) == (0 if at.mode == "MONGO_ONLY" else 5)
    guards = [item["entityType"] for item in at.everything() if item["SK"] == "UNIQUE"]
    # A dual write leaves them to replication.
    assert sorted(guards) == (["UNIQUE#users._id_", "UNIQUE#users.email_1"] if at.mode == "DYNAMODB_ONLY" else [])


def test_documents_come_back_from_their_items(at: Open) -> None:
    if at.mode == "MONGO_ONLY":
        items = [item for name, one in (("users", USER), ("orders", ORDER))
                 for item in at.rig.migration.mapping(name).to_items(one, 7)]  # fmt: skip
    else:
        items = at.items()
    assert at.shop.to_document("users", [item for item in by_key(items) if item["PK"].startswith("USER")]) == USER
    assert at.shop.to_document("orders", [item for item in reversed(items) if item["PK"].startswith("ORDER")]) == ORDER


def test_metrics_are_the_playbooks_counters_and_flags(at: Open) -> None:
    before = at.shop.get_metrics()
    at.shop.create_user(user("ann"))
    at.shop.update_user("ann", {"status": "idle"})
    with pytest.raises(DuplicateKeyError):
        at.shop.create_user(user("ann"))
    after = at.shop.get_metrics()
    leads = at.mode == "DYNAMODB_ONLY"
    assert {name: after[name] - before[name] for name in after if name != "configuration"} == {
        "mongo_writes": 0 if leads else 2,
        "mongo_write_failures": 0 if leads else 1,
        "dynamodb_writes": 2 if leads or at.both else 0,
        "dynamodb_write_failures": 1 if leads else 0,
        "validation_failures": 0,
    }
    assert after["configuration"] == {
        "mode": at.mode.partition(" ")[0],
        "write_to_mongo": not leads,
        "write_to_dynamodb": leads or at.both,
        "read_from_dynamodb": at.mode.startswith("DYNAMODB"),
        "validate_writes": at.mode == "DUAL_WRITE",
    }
