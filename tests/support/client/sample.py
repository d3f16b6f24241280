"""The playbook's sample documents, and the items that it makes of them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from bson import Decimal128, ObjectId

USER_ID, ORDER_ID = ObjectId("507f1f77bcf86cd799439011"), ObjectId("507f1f77bcf86cd799439022")
PRODUCTS = (ObjectId("507f1f77bcf86cd799439033"), ObjectId("507f1f77bcf86cd799439044"))

USER: dict[str, Any] = {
    "_id": USER_ID,
    "username": "john_doe",
    "email": "john@example.com",
    "profile": {
        "firstName": "John",
        "lastName": "Doe",
        "dateOfBirth": datetime(1990, 1, 1),
        "avatar": "https://cdn.example.com/avatars/john.jpg",
    },
    "preferences": {"theme": "dark", "notifications": {"email": True, "push": False}},
    "addresses": [
        {"type": "home", "street": "123 Main St", "city": "Seattle", "state": "WA", "zipCode": "98101"},
    ],
    "createdAt": datetime(2023, 1, 15, 10, 30),
    "lastLoginAt": datetime(2024, 1, 15, 15, 45),
    "status": "active",
}  # fmt: skip

ORDER: dict[str, Any] = {
    "_id": ORDER_ID,
    "userId": USER_ID,
    "status": "pending",
    "totalAmount": Decimal128("12.50"),
    "currency": "USD",
    "items": [
        {"productId": PRODUCTS[0], "quantity": 2, "price": Decimal128("5.00"), "name": "Cup"},
        {"productId": PRODUCTS[1], "quantity": 1, "price": Decimal128("2.50"), "name": "Pin"},
    ],
    "createdAt": datetime(2024, 1, 14, 8),
    "updatedAt": datetime(2024, 1, 14, 8),
}
"""The playbook shows no order; this one has the fields that its code reads."""

PLAYBOOKS_USER: list[dict[str, Any]] = [
    {
        "PK": "USER#john_doe",
        "SK": "PROFILE",
        "GSI1PK": "EMAIL#john@example.com",
        "GSI1SK": "USER",
        "username": "john_doe",
        "email": "john@example.com",
        "firstName": "John",
        "lastName": "Doe",
        "dateOfBirth": "1990-01-01",
        "avatar": "https://cdn.example.com/avatars/john.jpg",
        "theme": "dark",
        "emailNotifications": True,
        "pushNotifications": False,
        "createdAt": "2023-01-15T10:30:00Z",
        "lastLoginAt": "2024-01-15T15:45:00Z",
        "status": "active",
        "entityType": "USER_PROFILE",
    },
    {
        "PK": "USER#john_doe",
        "SK": "ADDRESS#home",
        "addressType": "home",
        "street": "123 Main St",
        "city": "Seattle",
        "state": "WA",
        "zipCode": "98101",
        "entityType": "USER_ADDRESS",
    },
]

PLAYBOOKS_ORDER: list[dict[str, Any]] = [
    {
        "PK": f"ORDER#{ORDER_ID}",
        "SK": "METADATA",
        "GSI1PK": f"USER#{USER_ID}",
        "GSI1SK": "ORDER#2024-01-14T08:00:00",
        "GSI2PK": "STATUS#pending",
        "GSI2SK": f"ORDER#{ORDER_ID}",
        "orderId": str(ORDER_ID),
        "userId": str(USER_ID),
        "status": "pending",
        "totalAmount": "12.50",
        "currency": "USD",
        "entityType": "ORDER",
        "createdAt": "2024-01-14T08:00:00",
        "updatedAt": "2024-01-14T08:00:00",
    },
    *(
        {
            "PK": f"ORDER#{ORDER_ID}",
            "SK": f"ITEM#{index:03d}",
            "entityType": "ORDER_ITEM",
            "productId": str(PRODUCTS[index]),
            "quantity": Decimal(quantity),
            "price": price,
            "itemName": name,
        }
        for index, (quantity, price, name) in enumerate([(2, "5.00", "Cup"), (1, "2.50", "Pin")])
    ),
]

DIFFERENCES: dict[str, dict[str, tuple[Any, Any, str]]] = {
    "PROFILE": {
        "_id": (None, str(USER_ID), "every item says whose it is"),
        "_v": (None, any, "the version: why the order of writers does not matter"),
        "_digest": (None, any, "of the addresses: a reader sees by it whether all of them are there"),
        "userId": (None, str(USER_ID), "orders name their user by it; the playbook's code has it, its sample does not"),
        "dateOfBirth": ("1990-01-01", "1990-01-01T00:00:00.000Z", "a date is written as BSON has it, in milliseconds"),
        "createdAt": ("2023-01-15T10:30:00Z", "2023-01-15T10:30:00.000Z", "milliseconds"),
        "lastLoginAt": ("2024-01-15T15:45:00Z", "2024-01-15T15:45:00.000Z", "milliseconds"),
    },
    "ADDRESS#home#000": {
        "SK": ("ADDRESS#home", "ADDRESS#home#000", "two addresses of one type must not overwrite each other"),
        "_id": (None, str(USER_ID), "every item says whose it is"),
        "_v": (None, any, "the version"),
        "_i": (None, Decimal(0), "the place in the array: on the way back it has its order again"),
    },
    "METADATA": {
        "_id": (None, str(ORDER_ID), "every item says whose it is"),
        "_v": (None, any, "the version"),
        "_digest": (None, any, "of the order's items"),
        "GSI1SK": (
            "ORDER#2024-01-14T08:00:00",
            "ORDER#2024-01-14T08:00:00.000Z",
            "milliseconds, so that text sorts as time",
        ),
        "createdAt": ("2024-01-14T08:00:00", "2024-01-14T08:00:00.000Z", "milliseconds"),
        "updatedAt": ("2024-01-14T08:00:00", "2024-01-14T08:00:00.000Z", "milliseconds"),
        "totalAmount": ("12.50", Decimal("12.5"), "money is a number: it sorts, and can be added to"),
    },
    "ITEM#000": {
        "_id": (None, str(ORDER_ID), "every item says whose it is"),
        "_v": (None, any, "the version"),
        "_i": (None, Decimal(0), "the place in the array"),
        "price": ("5.00", Decimal(5), "money is a number"),
    },
    "ITEM#001": {
        "_id": (None, str(ORDER_ID), "every item says whose it is"),
        "_v": (None, any, "the version"),
        "_i": (None, Decimal(1), "the place in the array"),
        "price": ("2.50", Decimal("2.5"), "money is a number"),
    },
}
"""By our sort key and attribute: what the playbook has (None: nothing), what we have (any: whatever it is), and why."""


def differences(ours: list[dict[str, Any]], playbooks: list[dict[str, Any]]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """What of our items is not as in the playbook's, item by item in the order of their keys."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for our, theirs in zip(by_key(ours), by_key(playbooks), strict=True):
        names = sorted(set(our) | set(theirs))
        found[our["SK"]] = {
            name: (theirs.get(name), our.get(name)) for name in names if our.get(name) != theirs.get(name)
        }
    return found


def by_key(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: (item["PK"], item["SK"]))


def explained(
    sort_keys: list[str], found: dict[str, dict[str, tuple[Any, Any]]]
) -> dict[str, dict[str, tuple[Any, Any]]]:
    """The differences that are known, in the form of `differences`; what may be anything is as it was found."""
    return {
        sk: {
            name: (theirs, found.get(sk, {}).get(name, (None, None))[1] if ours is any else ours)
            for name, (theirs, ours, _) in DIFFERENCES[sk].items()
        }
        for sk in sort_keys
    }
