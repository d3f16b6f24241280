"""The playbook's tables once more, by hand: the items of the shop's four collections, and what keeps their values unique."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from bson import Binary, Code, ObjectId

from docferry.rehearsal.independent.appearance import escape_name, iso_text
from docferry.rehearsal.independent.item_check import Expected
from docferry.rehearsal.independent.type_hints import Unreadable
from docferry.rehearsal.independent.verdict import Document

_HEX_OR_DATE = re.compile(r"[0-9a-f]{24}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def in_key(value: Any) -> str | None:
    """A value inside a key, where the documentation writes its form down; None where it only promises one of its own."""
    if isinstance(value, str) and not isinstance(value, Code):
        text = value.replace("~", "~~").replace("#", "~h")
        return "~s" + text if not value or _HEX_OR_DATE.fullmatch(value) else text
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, datetime):
        return iso_text(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return "~n" if value is None else None
    return f"~i{int(value)}"


def _key(value: Any) -> str:
    text = in_key(value)
    if text is not None:
        return text
    if isinstance(value, Binary) and value.subtype == 4:
        return f"~u{UUID(bytes=bytes(value))}"
    raise Unreadable(f"the shop has no ids of type {type(value).__name__}")


def _given(*values: Any) -> bool:
    """An index key is made only where every field it needs is there, not null, not empty."""
    return all(value is not None and value != "" for value in values)


# --- the shop, as in the playbook ------------------------------------------------------------------------------------

RESERVED = {
    "PK",
    "SK",
    "GSI1PK",
    "GSI1SK",
    "GSI2PK",
    "GSI2SK",
    "entityType",
    "_v",
    "_t",
    "_i",
    "_digest",
    "_deleted",
    "_ttl",
}
_USER_ATTRIBUTES = {
    "userId", "firstName", "lastName", "dateOfBirth", "avatar", "theme", "emailNotifications", "pushNotifications",
}  # fmt: skip
_USER_TYPES = {"userId": "oid", "dateOfBirth": "date", "createdAt": "date", "lastLoginAt": "date"}
_ORDER_TYPES = {
    "orderId": "oid", "userId": "oid", "createdAt": "date", "updatedAt": "date", "totalAmount": "decimal:-2",
}  # fmt: skip
_LINE_TYPES = {"productId": "oid", "price": "decimal:-2"}
_PRODUCT_TYPES = {
    "productId": "oid", "categoryId": "oid", "price": "decimal:-2", "createdAt": "date", "updatedAt": "date",
}  # fmt: skip
_CATEGORY_TYPES = {"categoryId": "oid", "parentId": "oid", "createdAt": "date"}


def kept_fields(document: Document, without: Iterable[str], reserved: Iterable[str]) -> dict[str, Any]:
    return {escape_name(name, reserved): value for name, value in document.items() if name not in set(without)}


def _take(document: Document, names: Mapping[str, str], into: dict[str, Any]) -> Document:
    """Move named fields of a subdocument into the item; what is left."""
    into.update({attribute: document[name] for name, attribute in names.items() if name in document})
    return {name: value for name, value in document.items() if name not in names}


def _children(value: Any) -> list[Document]:
    filled = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    return value if filled else []


def _guard(index: str, value: Any, of: Document) -> Expected:
    """The item that keeps a value of a unique index one document's."""
    entity = f"UNIQUE#{index}"
    return Expected((f"{entity}#{_key(value)}", "UNIQUE"), entity, of["_id"], {})


def _user(user: Document) -> Iterator[Expected]:
    pk = f"USER#{_key(user['username'])}"
    addresses = _children(user.get("addresses"))
    apart = {"_id", "profile", "preferences"} | ({"addresses"} if addresses else set())
    fields = {"userId": user["_id"], **kept_fields(user, apart, RESERVED | _USER_ATTRIBUTES)}
    fields |= _user_profile(user) | _user_preferences(user)
    indexes: dict[str, Any] = {}
    if _given(user.get("email")):
        indexes |= {"GSI1PK": f"EMAIL#{_key(user['email'])}", "GSI1SK": "USER"}
    city = ((user.get("profile") or {}).get("location") or {}).get("city")
    if user.get("status") == "active" and _given(city, user.get("lastLoginAt")):
        indexes |= {"GSI2PK": f"CITY#{_key(city)}", "GSI2SK": f"ACTIVE#{_key(user['lastLoginAt'])}"}
    yield Expected((pk, "PROFILE"), "USER_PROFILE", user["_id"], fields, indexes, _USER_TYPES, children=len(addresses))
    yield _guard("users._id_", user["_id"], user)
    if isinstance(user.get("email"), str) and user["email"]:
        yield _guard("users.email_1", user["email"], user)
    for index, address in enumerate(addresses):
        inner = kept_fields(address, {"type"}, RESERVED | {"_id", "addressType"}) | {"addressType": address["type"]}
        sk = f"ADDRESS#{_key(address['type'])}#{index:03d}"
        yield Expected((pk, sk), "USER_ADDRESS", user["_id"], inner, position=index)


def _user_profile(user: Document) -> dict[str, Any]:
    profile: Any = user.get("profile")
    fields: dict[str, Any] = {}
    if isinstance(profile, dict):
        names = {name: name for name in ("firstName", "lastName", "dateOfBirth", "avatar")}
        rest = _take(profile, names, fields)
        if rest or not fields:
            fields["profile"] = rest
    elif "profile" in user:
        fields["profile"] = profile
    return fields


def _user_preferences(user: Document) -> dict[str, Any]:
    preferences: Any = user.get("preferences")
    fields: dict[str, Any] = {}
    if isinstance(preferences, dict):
        rest = _take(preferences, {"theme": "theme"}, fields)
        notifications: Any = rest.get("notifications")
        taken: dict[str, Any] = {}
        if isinstance(notifications, dict):
            left = _take(notifications, {"email": "emailNotifications", "push": "pushNotifications"}, taken)
            fields |= taken
            if left or not taken:
                rest["notifications"] = left
            else:
                del rest["notifications"]
        if rest or not fields:
            fields["preferences"] = rest
    elif "preferences" in user:
        fields["preferences"] = preferences
    return fields


def _order(order: Document) -> Iterator[Expected]:
    pk, lines = f"ORDER#{_key(order['_id'])}", _children(order.get("items"))
    apart = {"_id"} | ({"items"} if lines else set())
    fields = {"orderId": order["_id"], **kept_fields(order, apart, RESERVED | {"orderId"})}
    indexes: dict[str, Any] = {}
    if _given(order.get("userId"), order.get("createdAt")):
        indexes |= {"GSI1PK": f"USER#{_key(order['userId'])}", "GSI1SK": f"ORDER#{_key(order['createdAt'])}"}
    if _given(order.get("status")):
        indexes |= {"GSI2PK": f"STATUS#{_key(order['status'])}", "GSI2SK": pk}
    yield Expected((pk, "METADATA"), "ORDER", order["_id"], fields, indexes, _ORDER_TYPES, children=len(lines))
    for index, line in enumerate(lines):
        inner = kept_fields(line, {"name"}, RESERVED | {"_id", "itemName"})
        inner |= {"itemName": line["name"]} if "name" in line else {}
        key = (pk, f"ITEM#{index:03d}")
        yield Expected(key, "ORDER_ITEM", order["_id"], inner, declared=_LINE_TYPES, position=index)


def _product(product: Document) -> Iterator[Expected]:
    pk = f"PRODUCT#{_key(product['_id'])}"
    fields = {"productId": product["_id"], **kept_fields(product, {"_id"}, RESERVED | {"productId"})}
    indexes: dict[str, Any] = {}
    if _given(product.get("categoryId"), product.get("name")):
        indexes |= {
            "GSI1PK": f"CATEGORY#{_key(product['categoryId'])}",
            "GSI1SK": f"PRODUCT#{_key(product['name'])}",
        }
    if _given(product.get("sku")):
        indexes |= {"GSI2PK": f"SKU#{_key(product['sku'])}", "GSI2SK": "PRODUCT"}
    yield Expected((pk, "METADATA"), "PRODUCT", product["_id"], fields, indexes, _PRODUCT_TYPES)
    yield _guard("products.sku_1", product.get("sku"), product)


def _category(category: Document) -> Iterator[Expected]:
    pk = f"CATEGORY#{_key(category['_id'])}"
    fields = {"categoryId": category["_id"], **kept_fields(category, {"_id"}, RESERVED | {"categoryId"})}
    indexes: dict[str, Any] = {}
    if _given(category.get("parentId"), category.get("name")):
        indexes |= {"GSI1PK": f"PARENT#{_key(category['parentId'])}", "GSI1SK": f"CATEGORY#{_key(category['name'])}"}
    if _given(category.get("slug")):
        indexes |= {"GSI2PK": f"SLUG#{_key(category['slug'])}", "GSI2SK": "CATEGORY"}
    yield Expected((pk, "METADATA"), "CATEGORY", category["_id"], fields, indexes, _CATEGORY_TYPES)
    yield _guard("categories.slug_1", category.get("slug"), category)


SHOP: Mapping[str, Callable[[Document], Iterator[Expected]]] = {
    "users": _user,
    "orders": _order,
    "products": _product,
    "categories": _category,
}
