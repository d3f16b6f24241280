"""DynamoDBClient over a real DynamoDB (ministack): access patterns by name, synchronous and asynchronous."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry.client import Ended, Put
from docferry.errors import CallRefused
from docferry.sandbox import SandboxStack
from support.backfill.rig import rig_of
from support.client.cases import ANN, BOB
from support.client.direct import Asking, numbers, order, product, served, shop, user
from support.client.rig import MODES, Blocking, connected, set_mode

__all__ = ["served", "shop"]


# --- one -------------------------------------------------------------------------------------------------------------


def test_get_finds_the_document_by_key_and_by_index(shop: Asking) -> None:
    ann, first = user("ann", ANN), order(1)
    shop.insert("users", ann)
    shop.insert("orders", first)
    assert shop.get("user_by_username", username="ann") == ann
    assert shop.get("user_by_email", email="ann@example.com") == ann
    assert shop.get("order_with_items", orderId=str(first["_id"])) == first
    assert shop.get("order_with_items", named={"orderId": first["_id"]}) == first


def test_get_of_what_is_not_there_is_none(shop: Asking) -> None:
    shop.insert("users", user("ann", ANN))
    shop.db.call("users", "delete_one", {"username": "ann"})
    assert shop.get("user_by_username", username="ann") is None
    assert shop.get("user_by_email", email="ann@example.com") is None
    assert shop.get("user_by_email", email="") is None
    assert shop.get("user_by_username", username="") is None


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda shop: shop.get("user_by_name", name="ann"), "user_by_email, user_by_username"),
        (lambda shop: shop.get("user_by_email"), "user_by_email misses email"),
        (lambda shop: shop.get("orders_of_user", userId=ANN), "leads to many documents; use query"),
        (lambda shop: shop.update("orders_of_user", {"$set": {"a": 1}}, userId=ANN), "use query"),
        (lambda shop: shop.batch_get("people", ["ann"]), "categories, orders, products, users"),
        (lambda shop: shop.batch_get("users", [{"name": "ann"}]), "has the fields username"),
        (lambda shop: shop.query("orders_of_user", userId=ANN, limit=0), "limit=0"),
        (lambda shop: shop.query("orders_of_user", userId=ANN, start="x"), "no token"),
        (lambda shop: shop.scan("users", limit=5, max_read_units=0), "more than none"),
        (lambda shop: shop.scan("users", {"$where": "1"}, limit=5, max_read_units=1), r"\$where"),
        (lambda shop: shop.transact([]), "a transaction of nothing"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_says_what_can(shop: Asking, ask: Any, says: str) -> None:
    with pytest.raises(CallRefused, match=says):
        ask(shop)


# --- lists -----------------------------------------------------------------------------------------------------------


def test_query_gives_the_newest_first_and_goes_on_where_it_stopped(shop: Asking) -> None:
    shop.insert("orders", *(order(number) for number in range(1, 8)))
    shop.insert("orders", order(9, userId=BOB))
    pages, start = [], None
    while True:
        page = shop.query("orders_of_user", userId=str(ANN), backwards=True, limit=3, start=start)
        pages.append(numbers(page.documents))
        if (start := page.next) is None:
            break
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert numbers(shop.query("orders_of_user", userId=ANN).documents) == [1, 2, 3, 4, 5, 6, 7]


def test_query_that_ends_at_its_limit_has_no_next(shop: Asking) -> None:
    shop.insert("orders", order(1), order(2))
    assert shop.query("orders_of_user", userId=ANN, limit=2).next is None
    assert shop.query("orders_of_user", userId=ANN, limit=1).next is not None


def test_query_since_is_from_that_moment_on_not_on_that_day(shop: Asking) -> None:
    shop.insert("users", *(user(f"u{day}", ObjectId(f"66{day:022x}"), day) for day in (1, 2, 3)))
    shop.insert("users", user("idle", BOB, 3, status="idle"), user("odd", ANN, lastLoginAt="2025 or so"))
    seattle = {"city": "Seattle"}
    found = shop.query("active_users_in_city", since="2024-01-02", **seattle).documents
    assert [one["username"] for one in found] == ["u2", "u3"]
    both = shop.query("active_users_in_city", since=datetime(2024, 1, 1, 9), until=datetime(2024, 1, 2, 9), **seattle)
    assert [one["username"] for one in both.documents] == ["u1", "u2"]


def test_query_by_object_ids_bounds_them(shop: Asking) -> None:
    shop.insert("orders", *(order(number) for number in range(1, 6)))
    found = shop.query("orders_by_status", status="pending", since=order(2)["_id"], until=str(order(4)["_id"]))
    assert numbers(found.documents) == [2, 3, 4]


def test_query_of_one_document_is_a_list_of_it(shop: Asking) -> None:
    shop.insert("orders", order(1))
    assert numbers(shop.query("order_with_items", orderId=order(1)["_id"]).documents) == [1]
    assert shop.query("order_with_items", orderId=ANN).documents == []


def test_query_leaves_out_what_the_index_still_names_and_the_document_denies(shop: Asking) -> None:
    shop.insert("orders", order(1), order(2))
    shop.rig.dynamodb.update_item(
        TableName=shop.rig.table,
        Key={"PK": {"S": f"ORDER#{order(1)['_id']}"}, "SK": {"S": "METADATA"}},
        UpdateExpression="SET #s = :paid",  # and not GSI2PK: as if the index lagged
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":paid": {"S": "paid"}},
    )
    page = shop.query("orders_by_status", status="pending", limit=1)
    assert numbers(page.documents) == [2]
    assert page.next is None or shop.query("orders_by_status", status="pending", start=page.next).documents == []


def test_token_of_another_question_is_refused(shop: Asking) -> None:
    shop.insert("orders", order(1), order(2), order(3, userId=BOB))
    token = shop.query("orders_of_user", userId=ANN, limit=1).next
    for asked in ({"userId": BOB}, {"userId": ANN, "backwards": True}, {"userId": ANN, "since": "2024-01-01"}):
        with pytest.raises(CallRefused, match="another question"):
            shop.query("orders_of_user", start=token, **asked)


def test_batch_get_gives_any_number_in_the_order_of_the_keys(shop: Asking) -> None:
    documents = [product(number) for number in range(1, 131)]
    for document in documents:
        for item in shop.rig.migration.mapping("products").encode(document, 1):
            shop.rig.dynamodb.put_item(TableName=shop.rig.table, Item=item)
    shop.insert("users", user("ann", ANN))
    keys = [one["_id"] for one in reversed(documents)]
    assert shop.batch_get("products", [*keys, ObjectId(), str(keys[0])]) == [*reversed(documents), None, documents[-1]]
    assert shop.batch_get("users", [{"username": "bob"}, {"username": "ann"}, ""]) == [None, user("ann", ANN), None]
    assert shop.batch_get("users", []) == []


# --- scans -----------------------------------------------------------------------------------------------------------


def test_scan_finds_what_matches_and_goes_on_where_it_stopped(shop: Asking) -> None:
    shop.insert("users", *(user(f"u{number}", ObjectId(f"65{number:022x}"), visits=number) for number in range(12)))
    shop.insert("orders", order(1))
    found, start, ends = [], None, []
    while True:
        page = shop.scan("users", {"visits": {"$gte": 4}}, limit=3, max_read_units=1_000, start=start)
        found += [one["username"] for one in page.documents]
        ends.append(page.ended)
        if (start := page.next) is None:
            break
    assert sorted(found) == sorted(f"u{number}" for number in range(4, 12))
    assert (ends[:2], ends[-1]) == ([Ended.LIMIT, Ended.LIMIT], Ended.END)


def test_scan_stops_at_its_capacity_says_so_and_gets_on(shop: Asking) -> None:
    shop.insert("users", *(user(f"u{number}", ObjectId(f"65{number:022x}")) for number in range(8)))
    found, start, ends = [], None, []
    for _ in range(100):
        page = shop.scan("users", limit=100, max_read_units=0.5, start=start)
        assert page.read_units > 0
        found += [one["username"] for one in page.documents]
        ends.append(page.ended)
        if (start := page.next) is None:
            break
    assert sorted(found) == sorted(f"u{number}" for number in range(8))
    assert set(ends[:-1]) == {Ended.CAPACITY}
    assert len(ends) > 4


@pytest.mark.parametrize("mode", ["MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_READS 50"])
def test_while_mongodb_leads_it_reads_and_does_not_write(shop: Asking, mode: str) -> None:
    shop.insert("orders", order(1))
    shop.lead(mode)
    assert shop.get("order_with_items", orderId=order(1)["_id"]) == order(1)
    with pytest.raises(CallRefused, match="DualWriteManager"):
        shop.update("order_with_items", {"$set": {"status": "paid"}}, orderId=order(1)["_id"])
    with pytest.raises(CallRefused, match="DualWriteManager"):
        shop.transact([Put(collection="orders", document=order(2))])
    assert numbers(shop.query("orders_of_user", userId=ANN).documents) == [1]


def test_cached_client_reads_the_same(shop: Asking) -> None:
    shop.insert("users", user("ann", ANN))
    shop.insert("products", product(1))
    cached = Asking(shop.rig, shop.db, cached=True)
    assert cached.get("user_by_email", email="ann@example.com") == user("ann", ANN)
    assert cached.batch_get("products", [product(1)["_id"]]) == [product(1)]
    assert cached.scan("users", limit=5, max_read_units=10).documents == [user("ann", ANN)]
    assert cached.update("user_by_email", {"$inc": {"visits": 1}}, email="ann@example.com")["visits"] == 2


def test_writes_are_counted_as_the_playbooks_counters_have_them(shop: Asking) -> None:
    before = shop.db.manager.get_metrics()["dynamodb_writes"]
    shop.transact([Put(collection="orders", document=order(1))])
    shop.update("order_with_items", {"$set": {"status": "paid"}}, orderId=order(1)["_id"])
    assert shop.db.manager.get_metrics()["dynamodb_writes"] == before + 2


# --- other keys than the shop's --------------------------------------------------------------------------------------

HALLS: dict[str, Any] = {
    "migration": "halls",
    "tables": {},
    "collections": {
        "seats": {"item": {"entity": "SEAT", "key": {"PK": "HALL#{hall}", "SK": "SEAT#{_id}"}}},
        "bills": {
            "item": {"entity": "BILL", "key": {"PK": "BILL#{_id}", "SK": "DATA"}},
            "children": {
                "lines": {
                    "entity": "LINE",
                    "key": {"SK": "LINE#{index:03d}"},
                    "index": {"GSI1": {"PK": "SKU#{sku}", "SK": "AT#{at}"}},
                    "types": {"at": "date"},
                }
            },
        },
    },
    "access_patterns": {
        "seats_in_hall": {"collection": "seats", "PK": "HALL#{hall}"},
        "seat": {"collection": "seats", "PK": "HALL#{hall}", "SK": "SEAT#{seat}"},
        "bills_with": {"collection": "bills", "index": "GSI1", "PK": "SKU#{sku}"},
    },
}


@pytest.fixture
def halls(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    mark = uuid.uuid4().hex[:8]
    tree = HALLS | {"tables": {f"Halls{mark}": {"indexes": ["GSI1"]}}}
    rig = rig_of(stack.env(), tmp_path, tree, f"halls{mark}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    yield Asking(rig, db)
    db.close()
    rig.close()


def test_pattern_of_a_partition_pages_through_its_documents(halls: Asking) -> None:
    seats = [{"_id": ObjectId(f"68{number:022x}"), "hall": "big", "row": number % 2} for number in range(5)]
    halls.insert("seats", *seats, {"_id": ANN, "hall": "small"})
    first = halls.query("seats_in_hall", hall="big", limit=3)
    assert first.documents == seats[:3]
    assert halls.query("seats_in_hall", hall="big", limit=3, start=first.next).documents == seats[3:]
    assert halls.query("seats_in_hall", hall="big", since=seats[3]["_id"], backwards=True).documents == [
        seats[4],
        seats[3],
    ]
    assert halls.get("seat", hall="big", seat=str(seats[2]["_id"])) == seats[2]
    assert halls.batch_get("seats", [{"_id": seats[1]["_id"], "hall": "big"}, {"_id": ANN, "hall": "big"}]) == [
        seats[1],
        None,
    ]
    with pytest.raises(CallRefused, match="has the fields _id, hall"):
        halls.batch_get("seats", [ANN])


def test_pattern_of_an_element_gives_each_document_once(halls: Asking) -> None:
    def bill(number: int, *lines: tuple[str, int]) -> dict[str, Any]:
        made = [{"sku": sku, "at": datetime(2024, 1, day)} for sku, day in lines]
        return {"_id": ObjectId(f"69{number:022x}"), "lines": made}

    bills = [bill(0, ("cup", 1), ("pin", 2)), bill(1, ("cup", 3), ("cup", 4)), bill(2, ("pin", 5))]
    halls.insert("bills", *bills)
    assert halls.query("bills_with", sku="cup").documents == bills[:2]
    assert halls.query("bills_with", sku="pin", since="2024-01-03").documents == [bills[2]]
    assert halls.query("bills_with", sku="cup", until="2024-01-02").documents == [bills[0]]
    with pytest.raises(CallRefused, match="use query"):
        halls.get("bills_with", sku="cup")
