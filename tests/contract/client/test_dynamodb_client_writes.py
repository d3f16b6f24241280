"""What an application writes by key through `DynamoDBClient`: updates, transactions, and what is refused."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from docferry.client import Delete, Put, Update
from docferry.errors import CallRefused, DocumentNotFound, NotAsExpected
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError, WriteError
from support.client.cases import ANN, BOB
from support.client.direct import Asking, numbers, order, product, served, shop, user
from support.client.rig import Blocking

__all__ = ["served", "shop"]


# --- writes ----------------------------------------------------------------------------------------------------------


def test_update_changes_the_document_and_its_keys(shop: Asking) -> None:
    shop.insert("orders", order(1))
    changed = shop.update("order_with_items", {"$set": {"status": "paid"}}, orderId=order(1)["_id"])
    assert changed == order(1, status="paid") == shop.get("order_with_items", orderId=order(1)["_id"])
    assert shop.query("orders_by_status", status="pending").documents == []
    assert numbers(shop.query("orders_by_status", status="paid").documents) == [1]
    shop.insert("users", user("ann", ANN))
    assert shop.update("user_by_email", {"$inc": {"visits": 1}}, email="ann@example.com")["visits"] == 2


def test_update_of_what_is_not_there_is_refused_and_leaves_no_ghost(shop: Asking) -> None:
    for name, parameters in (("order_with_items", {"orderId": ANN}), ("user_by_email", {"email": "no@example.com"})):
        with pytest.raises(DocumentNotFound, match=name):
            shop.update(name, {"$set": {"status": "paid"}}, **parameters)
    assert shop.items() == []


def test_update_is_refused_where_the_document_is_not_as_expected(shop: Asking) -> None:
    shop.insert("orders", order(1, status="shipped"))
    change = {"$set": {"status": "cancelled"}}
    with pytest.raises(NotAsExpected):
        shop.update(
            "order_with_items", change, expect={"status": {"$in": ["pending", "paid"]}}, orderId=order(1)["_id"]
        )
    assert shop.get("order_with_items", orderId=order(1)["_id"])["status"] == "shipped"


def test_update_that_mongodb_refuses_raises_what_pymongo_does(shop: Asking) -> None:
    shop.insert("users", user("ann", ANN), user("bob", BOB))
    with pytest.raises(WriteError):
        shop.update("user_by_username", {"$inc": {"status": 1}}, username="ann")
    with pytest.raises(DuplicateKeyError):
        shop.update("user_by_username", {"$set": {"username": "bob"}}, username="ann")


def test_updates_at_the_same_time_are_all_done(shop: Asking) -> None:
    shop.insert("users", user("ann", ANN, visits=0))
    change: Any = {"$inc": {"visits": 1}}
    if isinstance(shop.db, Blocking):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: shop.update("user_by_username", change, username="ann"), range(18)))
    else:

        async def all_at_once() -> None:
            for _ in range(6):
                await asyncio.gather(
                    *(shop.client.update("user_by_username", change, username="ann") for _ in range(3))
                )

        shop.db.loop.run_until_complete(all_at_once())
    assert shop.get("user_by_username", username="ann")["visits"] == 18


def test_transaction_writes_all_or_none(shop: Asking) -> None:
    shop.insert("products", product(1), product(2, stock=0))
    enough = {"stock": {"$gte": 1}}

    def sale(number: int) -> list[Put | Update | Delete]:
        take = Update(
            pattern="product_by_sku", change={"$inc": {"stock": -1}}, parameters={"sku": f"s{number}"}, expect=enough
        )
        return [Put(collection="orders", document=order(number)), take]

    with pytest.raises(NotAsExpected):
        shop.transact(sale(2))
    assert shop.get("order_with_items", orderId=order(2)["_id"]) is None
    shop.transact(sale(1))
    assert shop.get("order_with_items", orderId=order(1)["_id"]) == order(1)
    assert shop.get("product_by_sku", sku="s1")["stock"] == 4
    shop.transact([Delete(pattern="order_with_items", parameters={"orderId": order(1)["_id"]}),
                   Put(collection="products", document=product(1, stock=5))])  # fmt: skip
    assert shop.get("order_with_items", orderId=order(1)["_id"]) is None
    assert shop.get("product_by_sku", sku="s1") == product(1)


def test_transaction_that_cannot_be_is_refused(shop: Asking) -> None:
    shop.insert("users", user("ann", ANN))
    with pytest.raises(DuplicateKeyError):
        shop.transact([Put(collection="orders", document=order(1)), Put(collection="users", document=user("ann", BOB))])
    twice = [Put(collection="orders", document=order(1)), Put(collection="orders", document=order(1))]
    with pytest.raises(CallRefused, match="a document twice"):
        shop.transact(twice)
    with pytest.raises(CallRefused, match="102 items"):
        shop.transact([Put(collection="orders", document=order(number)) for number in range(1, 29)]
                      + [Put(collection="orders", document=order(30, items=order(1)["items"] * 45))])  # fmt: skip
    assert {item["_id"]["S"] for item in shop.items()} == {str(ANN)}


def test_an_application_that_asks_for_its_indexes_starts_and_one_that_asks_for_what_is_not_kept_is_told(
    shop: Asking,
) -> None:
    assert shop.db.call("orders", "create_index", [("status", 1), ("total", -1)], sparse=True) == "status_1_total_-1"
    assert shop.db.call("users", "create_index", "username", unique=True) == "username_1"
    assert shop.db.call("orders", "create_indexes", [IndexModel("a"), IndexModel("b", name="by b")]) == ["a_1", "by b"]
    with pytest.raises(CallRefused, match="total_1 is unique"):
        shop.db.call("orders", "create_index", "total", unique=True)
    with pytest.raises(CallRefused, match="lets documents expire"):
        shop.db.call("orders", "create_index", "at", expireAfterSeconds=60)
    told = shop.db.call("users", "index_information")
    assert told["username_1"] == {"v": 2, "key": [("username", 1)], "unique": True}
    assert [one["name"] for one in shop.db.call("users", "list_indexes")] == list(told)
    with pytest.raises(CallRefused, match=r"elsewhere\.index_information"):
        shop.db.call("elsewhere", "index_information")
