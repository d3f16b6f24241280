"""Compares MongoDB with DynamoDB without docferry: pymongo, boto3, bson and the standard library.

The playbook's tables are written down here once more, by hand: key formats, attributes, indexes, children. Two judges:

* `judge_shop` knows the four collections of the shop (users, orders, products, categories);
* `judge_generic` knows the layout of a collection without a mapping: PK `<NAME>#<id>`, SK `DATA`.

For each attribute both look twice: at what DynamoDB shows an application (a date is ISO-8601 text, money is a number),
and at what comes back through the type hints in `_t`, which must be the same BSON, type included.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS

Document = dict[str, Any]
Wire = dict[str, Any]
"""One attribute as boto3's client gives it: {"S": "x"}, {"N": "1"}, {"B": b"..."}, {"M": {...}}."""
Item = dict[str, Wire]
Key = tuple[str, str]

OPTIONS: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
"""What is no valid UTF-8 shows as U+FFFD: such a document must have no items, and does not end the comparison."""
VERSION = re.compile(r"[0-9a-f]{16}ffffff")
"""A bulk load's version: the snapshot's cluster time, and the last place among the events of that time."""
LIVE_VERSION = re.compile(r"[0-9a-f]{22}")
"""Any writer's version: an event has its own place among those of its time."""
DIGEST = re.compile(r"[0-9a-f]{32}")
INDEX_KEYS = ("GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK")
ABSENT = "(absent)"


# --- verdict ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disagreement:
    """One thing that is not as it should be. `path` is an attribute, and a JSON Pointer inside it."""

    key: Key
    path: str = ""
    expected: Any = None
    found: Any = None

    def __str__(self) -> str:
        return f"{self.key[0]} / {self.key[1]} {self.path}: expected {self.expected!r:.200}, found {self.found!r:.200}"


@dataclass
class Verdict:
    """What is not there, what should not be there, and what is there but different.

    `live`: others than a bulk load have written, so items have any version, and those that are gone are tombstones.
    """

    live: bool = False
    documents: int = 0
    items: int = 0
    tombstones: int = 0
    missing: list[Disagreement] = field(default_factory=list)
    extra: list[Disagreement] = field(default_factory=list)
    different: list[Disagreement] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.missing), len(self.extra), len(self.different)

    def __str__(self) -> str:
        listed = [f"{kind}: {one}" for kind in ("missing", "extra", "different") for one in getattr(self, kind)[:5]]
        return "\n".join(
            [f"{self.documents} documents, {self.items} items, missing/extra/different {self.counts}", *listed]
        )


def id_key(value: Any) -> bytes:
    """An id as something that can be put into a set: 1, 1.0 and "1" are three."""
    return bson.encode({"": value})


# --- reading both sides ----------------------------------------------------------------------------------------------


def read_documents(database: Any, collection: str) -> Iterator[Document]:
    """Every document, through the collection's own order; no index, no ranges."""
    yield from database.get_collection(collection, codec_options=OPTIONS).find({})


def scan_table(client: Any, table: str) -> list[Item]:
    """Every item of a table."""
    items: list[Item] = []
    for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        items += page["Items"]
    return items


# --- hints: the documented way back ----------------------------------------------------------------------------------


class Unreadable(Exception):
    """A hint that the documentation does not know, or that does not fit."""


def read_value(wire: Wire, hints: Mapping[str, str], at: tuple[str, ...], declared: str = "") -> Any:
    """One attribute as BSON. `at` holds the pointers under which its hint may stand ("-" is any place of an array)."""
    ((tag, content),) = wire.items()
    hint = next((hints[pointer] for pointer in at if pointer in hints), "")
    if hint:
        return _read_hinted(tag, content, hint, hints, at)
    if declared:
        try:
            return _read_hinted(tag, content, declared, hints, at)
        except Unreadable:
            pass
    return _read_plain(tag, content, hints, at)


def _read_plain(tag: str, content: Any, hints: Mapping[str, str], at: tuple[str, ...]) -> Any:
    if tag == "M":
        return {_unescape(name): read_value(inner, hints, _step(at, name)) for name, inner in content.items()}
    if tag == "L":
        return [read_value(inner, hints, _place(at, index)) for index, inner in enumerate(content)]
    if tag == "NULL":
        return None
    if tag == "N":
        number = Decimal(content)
        if number != number.to_integral_value():
            return float(number)
        whole = int(number)
        return whole if -(2**31) <= whole < 2**31 else Int64(whole)
    if tag in ("S", "BOOL", "B"):
        return bytes(content) if tag == "B" else content
    raise Unreadable(f"nobody writes {tag} here")


def _step(at: tuple[str, ...], name: str) -> tuple[str, ...]:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return tuple(f"{pointer}/{escaped}" for pointer in at)


def _place(at: tuple[str, ...], index: int) -> tuple[str, ...]:
    return tuple(f"{pointer}/{place}" for pointer in at for place in (str(index), "-"))


def _unescape(name: str) -> str:
    return name.removeprefix("~")


def _whole(text: str) -> int:
    number = Decimal(text)
    if number != number.to_integral_value():
        raise Unreadable(f"{text} is no integer")
    return int(number)


def _decimal(text: str, digits: str) -> Decimal128:
    number = Decimal(text)
    if digits:
        sign, figures, exponent = number.as_tuple()
        zeros = int(exponent) - int(digits)
        figures = (0,) if not number else figures + (0,) * zeros if zeros >= 0 else figures[:zeros]
        number = Decimal((sign, figures, int(digits)))
    return Decimal128(str(number))


def _negative(value: Any, text: str) -> Any:
    if Decimal(text) != 0:
        raise Unreadable(f"{text} is not zero")
    return value


def _iso(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007 - BSON's dates are naive, as pymongo has them


_READERS: dict[tuple[str, str], Callable[[Any, str], Any]] = {
    ("string", "S"): lambda text, _: text,
    ("int", "N"): lambda text, _: _whole(text),
    ("long", "N"): lambda text, _: Int64(_whole(text)),
    ("double", "N"): lambda text, _: float(text),
    ("double", "S"): lambda text, _: float(text),
    ("-double", "N"): lambda text, _: _negative(-0.0, text),
    ("decimal", "N"): _decimal,
    ("decimal", "S"): lambda text, _: Decimal128(text),
    ("-decimal", "N"): lambda text, digits: _negative(Decimal128(Decimal((1, (0,), int(digits or 0)))), text),
    ("oid", "S"): lambda text, _: ObjectId(text),
    ("date", "S"): lambda text, _: _iso(text),
    ("datems", "N"): lambda text, _: DatetimeMS(int(text)),
    ("binary", "B"): lambda data, subtype: Binary(bytes(data), int(subtype or 0)),
    ("timestamp", "S"): lambda text, _: Timestamp(*(int(part) for part in text.split(":"))),
    ("regex", "S"): lambda text, flags: Regex(text, int(flags)),
    ("code", "S"): lambda text, _: Code(text),
    ("minkey", "S"): lambda _text, _: MinKey(),
    ("maxkey", "S"): lambda _text, _: MaxKey(),
    ("bson", "B"): lambda data, _: bson.decode(bytes(data), OPTIONS)[""],
}


def _read_hinted(tag: str, content: Any, hint: str, hints: Mapping[str, str], at: tuple[str, ...]) -> Any:
    name, _, suffix = hint.partition(":")
    if (name, tag) == ("dbref", "M"):
        fields = _read_plain(tag, content, hints, at)
        return DBRef(fields.pop("$ref"), fields.pop("$id"), fields.pop("$db", None), fields)
    if (name, tag) not in _READERS:
        raise Unreadable(f"hint {hint} on {tag}")
    try:
        return _READERS[name, tag](content, suffix)
    except (ValueError, ArithmeticError, bson.errors.BSONError) as error:
        raise Unreadable(f"hint {hint} on {content!r:.80}: {error}") from error


# --- comparing -------------------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """A value as BSON with the fields of each document in order of name. An int64 is not an int32, 12.50 not 12.5."""
    return bson.encode({"": _sorted(value)})


def _sorted(value: Any) -> Any:
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    if isinstance(value, Code) and value.scope is not None:
        return Code(str(value), _sorted(value.scope))
    return value


def shown(value: Any) -> Wire | str:
    """What an application should see of a BSON value, as the documentation's table says; only the tag where it says no more."""
    if value is None:
        return {"NULL": True}
    for kind, show in _SHOWN:
        if isinstance(value, kind):
            return show(value)
    raise Unreadable(f"{type(value).__name__} is no BSON type")


def _show_number(number: Decimal) -> Wire | str:
    in_range = number.is_finite() and (not number or -130 <= number.adjusted() <= 125)
    return {"N": str(number)} if in_range else "S"


def _iso_text(value: datetime) -> str:
    return f"{value:%H:%M:%S}.{value.microsecond // 1000:03d}Z".join((f"{value.year:04d}-{value:%m-%d}T", ""))


_SHOWN: tuple[tuple[type, Callable[[Any], Wire | str]], ...] = (
    (Code, lambda value: "B" if value.scope is not None else {"S": str(value)}),
    (str, lambda value: {"S": value}),
    (bool, lambda value: {"BOOL": value}),
    (int, lambda value: {"N": str(int(value))}),
    (float, lambda value: _show_number(Decimal(repr(value)))),
    (Decimal128, lambda value: _show_number(value.to_decimal())),
    (bytes, lambda value: {"B": bytes(value)}),
    (ObjectId, lambda value: {"S": str(value)}),
    (datetime, lambda value: {"S": _iso_text(value)}),
    (DatetimeMS, lambda value: {"N": str(int(value))}),
    (Timestamp, lambda value: {"S": f"{value.time}:{value.inc}"}),
    (Regex, lambda value: {"S": value.pattern}),
    (MinKey, lambda value: "S"),
    (MaxKey, lambda value: "S"),
    (DBRef, lambda value: shown(value.as_doc())),
    (dict, lambda value: {"M": {_escape(name): shown(inner) for name, inner in value.items()}}),
    (list, lambda value: {"L": [shown(inner) for inner in value]}),
)


def _escape(name: str, reserved: Iterable[str] = ()) -> str:
    return "~" + name if not name or name[0] == "~" or name in reserved else name


def shows_differently(expected: Wire | str, found: Wire, path: str = "") -> str | None:
    """The path of the first place where an attribute does not look as expected; None if it does."""
    ((tag, content),) = found.items()
    if isinstance(expected, str):
        return None if tag == expected else path
    ((wanted_tag, wanted),) = expected.items()
    if tag != wanted_tag:
        return path
    if tag == "M":
        return _maps_differ(wanted, content, path)
    if tag == "L":
        if len(wanted) != len(content):
            return path
        pairs = ((str(index), *pair) for index, pair in enumerate(zip(wanted, content, strict=True)))
        return next((p for step, a, b in pairs if (p := shows_differently(a, b, f"{path}/{step}")) is not None), None)
    if tag == "N":
        return None if Decimal(wanted) == Decimal(content) else path
    return None if wanted == (bytes(content) if tag == "B" else content) else path


def _maps_differ(wanted: Mapping[str, Any], content: Mapping[str, Any], path: str) -> str | None:
    if unpaired := wanted.keys() ^ content.keys():
        return f"{path}/{min(unpaired)}"
    for name, inner in wanted.items():
        if (found := shows_differently(inner, content[name], f"{path}/{name}")) is not None:
            return found
    return None


# --- what one item should be -----------------------------------------------------------------------------------------


@dataclass
class Expected:
    """One item as the playbook wants it: fixed attributes as text, fields as BSON values under their attribute's name."""

    key: Key
    entity: str
    id: Any
    fields: dict[str, Any]
    indexes: dict[str, str] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    position: int | None = None
    children: int = 0


def compare_item(expected: Expected, item: Item, verdict: Verdict) -> None:
    """Add to the verdict whatever is not as expected in one item."""
    say = verdict.different.append
    fixed = {"PK": expected.key[0], "SK": expected.key[1], "entityType": expected.entity, **expected.indexes}
    for name in dict.fromkeys((*fixed, *INDEX_KEYS)):
        found, wanted = item.get(name, {}).get("S"), fixed.get(name)
        if found != wanted:
            say(Disagreement(expected.key, name, wanted or ABSENT, found or ABSENT))
    hints = {pointer: hint["S"] for pointer, hint in item.get("_t", {}).get("M", {}).items()}
    _compare_bookkeeping(expected, item, LIVE_VERSION if verdict.live else VERSION, say)
    ours = {*fixed, *INDEX_KEYS, "_v", "_t", "_i", "_digest"}
    fields = {"_id": expected.id, **expected.fields}
    declared = {"_id": "oid", **expected.declared}
    for name in sorted((item.keys() - ours) | fields.keys()):
        if name not in item or name not in fields:
            say(Disagreement(expected.key, f"/{name}", fields.get(name, ABSENT), item.get(name, ABSENT)))
            continue
        _compare_field(expected.key, name, fields[name], item[name], hints, declared.get(name, ""), say)


def _compare_bookkeeping(
    expected: Expected, item: Item, pattern: re.Pattern[str], say: Callable[[Disagreement], None]
) -> None:
    version = item.get("_v", {}).get("S", ABSENT)
    if not pattern.fullmatch(version):
        say(Disagreement(expected.key, "_v", pattern.pattern, version))
    position = item.get("_i", {}).get("N")
    if position != (None if expected.position is None else str(expected.position)):
        say(Disagreement(expected.key, "_i", expected.position, position))
    digest = item.get("_digest", {}).get("S")
    if bool(expected.children) != bool(digest and DIGEST.fullmatch(digest)):
        say(Disagreement(expected.key, "_digest", f"one of {expected.children} children", digest))


def _compare_field(
    key: Key,
    name: str,
    value: Any,
    wire: Wire,
    hints: Mapping[str, str],
    declared: str,
    say: Callable[[Disagreement], None],
) -> None:
    looks = "B" if name == "_id" and isinstance(value, dict | DBRef) else shown(value)
    if (path := shows_differently(looks, wire, f"/{name}")) is not None:
        say(Disagreement(key, path, value, wire))
        return
    try:
        back = read_value(wire, hints, _step(("",), name), declared)
    except Unreadable as error:
        say(Disagreement(key, f"/{name}", value, str(error)))
        return
    same = id_key if name == "_id" else canonical  # {a, b} and {b, a} are two ids
    if same(back) != same(value):
        say(Disagreement(key, f"/{name}", value, back))


def compare_all(expected: Iterable[Expected], items: Iterable[Item], verdict: Verdict) -> Verdict:
    """Both ways: everything expected is there once, nothing else is, and each is as it should be."""
    found = {(item["PK"]["S"], item["SK"]["S"]): item for item in items}
    if verdict.live:
        graves = [key for key, item in found.items() if _is_tombstone(item)]
        verdict.tombstones = len(graves)
        for key in graves:
            del found[key]
    verdict.items = len(found)
    for one in expected:
        item = found.pop(one.key, None)
        if item is None:
            verdict.missing.append(Disagreement(one.key, expected=one.entity))
        else:
            compare_item(one, item, verdict)
    verdict.extra += [Disagreement(key, found=item.get("entityType")) for key, item in found.items()]
    return verdict


def _is_tombstone(item: Item) -> bool:
    """What stays of an item that is gone. Readers tell it by `_deleted`; it has a version and an end, and no content."""
    content = item.keys() - {"PK", "SK", "_id", "entityType", "_t", "_v", "_ttl", "_deleted"}
    versioned = LIVE_VERSION.fullmatch(item.get("_v", {}).get("S", ABSENT))
    return item.get("_deleted") == {"BOOL": True} and "_ttl" in item and bool(versioned) and not content


# --- keys ------------------------------------------------------------------------------------------------------------

_HEX_OR_DATE = re.compile(r"[0-9a-f]{24}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def in_key(value: Any) -> str | None:
    """A value inside a key, where the documentation writes its form down; None where it only promises one of its own."""
    if isinstance(value, str) and not isinstance(value, Code):
        text = value.replace("~", "~~").replace("#", "~h")
        return "~s" + text if not value or _HEX_OR_DATE.fullmatch(value) else text
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, datetime):
        return _iso_text(value)
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

_OURS = {
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


def _kept(document: Document, without: Iterable[str], reserved: Iterable[str]) -> dict[str, Any]:
    return {_escape(name, reserved): value for name, value in document.items() if name not in set(without)}


def _take(document: Document, names: Mapping[str, str], into: dict[str, Any]) -> Document:
    """Move named fields of a subdocument into the item; what is left."""
    into.update({attribute: document[name] for name, attribute in names.items() if name in document})
    return {name: value for name, value in document.items() if name not in names}


def _children(value: Any) -> list[Document]:
    filled = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    return value if filled else []


def _user(user: Document) -> Iterator[Expected]:
    pk = f"USER#{_key(user['username'])}"
    addresses = _children(user.get("addresses"))
    apart = {"_id", "profile", "preferences"} | ({"addresses"} if addresses else set())
    fields = {"userId": user["_id"], **_kept(user, apart, _OURS | _USER_ATTRIBUTES)}
    fields |= _user_profile(user) | _user_preferences(user)
    indexes: dict[str, Any] = {}
    if _given(user.get("email")):
        indexes |= {"GSI1PK": f"EMAIL#{_key(user['email'])}", "GSI1SK": "USER"}
    city = ((user.get("profile") or {}).get("location") or {}).get("city")
    if user.get("status") == "active" and _given(city, user.get("lastLoginAt")):
        indexes |= {"GSI2PK": f"CITY#{_key(city)}", "GSI2SK": f"ACTIVE#{_key(user['lastLoginAt'])}"}
    yield Expected((pk, "PROFILE"), "USER_PROFILE", user["_id"], fields, indexes, _USER_TYPES, children=len(addresses))
    for index, address in enumerate(addresses):
        inner = _kept(address, {"type"}, _OURS | {"_id", "addressType"}) | {"addressType": address["type"]}
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
    fields = {"orderId": order["_id"], **_kept(order, apart, _OURS | {"orderId"})}
    indexes: dict[str, Any] = {}
    if _given(order.get("userId"), order.get("createdAt")):
        indexes |= {"GSI1PK": f"USER#{_key(order['userId'])}", "GSI1SK": f"ORDER#{_key(order['createdAt'])}"}
    if _given(order.get("status")):
        indexes |= {"GSI2PK": f"STATUS#{_key(order['status'])}", "GSI2SK": pk}
    yield Expected((pk, "METADATA"), "ORDER", order["_id"], fields, indexes, _ORDER_TYPES, children=len(lines))
    for index, line in enumerate(lines):
        inner = _kept(line, {"name"}, _OURS | {"_id", "itemName"})
        inner |= {"itemName": line["name"]} if "name" in line else {}
        key = (pk, f"ITEM#{index:03d}")
        yield Expected(key, "ORDER_ITEM", order["_id"], inner, declared=_LINE_TYPES, position=index)


def _product(product: Document) -> Iterator[Expected]:
    pk = f"PRODUCT#{_key(product['_id'])}"
    fields = {"productId": product["_id"], **_kept(product, {"_id"}, _OURS | {"productId"})}
    indexes: dict[str, Any] = {}
    if _given(product.get("categoryId"), product.get("name")):
        indexes |= {
            "GSI1PK": f"CATEGORY#{_key(product['categoryId'])}",
            "GSI1SK": f"PRODUCT#{_key(product['name'])}",
        }
    if _given(product.get("sku")):
        indexes |= {"GSI2PK": f"SKU#{_key(product['sku'])}", "GSI2SK": "PRODUCT"}
    yield Expected((pk, "METADATA"), "PRODUCT", product["_id"], fields, indexes, _PRODUCT_TYPES)


def _category(category: Document) -> Iterator[Expected]:
    pk = f"CATEGORY#{_key(category['_id'])}"
    fields = {"categoryId": category["_id"], **_kept(category, {"_id"}, _OURS | {"categoryId"})}
    indexes: dict[str, Any] = {}
    if _given(category.get("parentId"), category.get("name")):
        indexes |= {"GSI1PK": f"PARENT#{_key(category['parentId'])}", "GSI1SK": f"CATEGORY#{_key(category['name'])}"}
    if _given(category.get("slug")):
        indexes |= {"GSI2PK": f"SLUG#{_key(category['slug'])}", "GSI2SK": "CATEGORY"}
    yield Expected((pk, "METADATA"), "CATEGORY", category["_id"], fields, indexes, _CATEGORY_TYPES)


SHOP: Mapping[str, Callable[[Document], Iterator[Expected]]] = {
    "users": _user,
    "orders": _order,
    "products": _product,
    "categories": _category,
}
Unstorable = Mapping[str, frozenset[bytes]]
"""Collection -> `id_key` of the documents that must have no items."""


def judge_shop(
    database: Any, client: Any, table: str, unstorable: Unstorable | None = None, *, live: bool = False
) -> Verdict:
    """MongoDB's shop against one DynamoDB table that holds nothing else."""
    verdict = Verdict(live=live)

    def expected() -> Iterator[Expected]:
        for collection, items_of in SHOP.items():
            dead = (unstorable or {}).get(collection, frozenset())
            for document in read_documents(database, collection):
                verdict.documents += 1
                if id_key(document["_id"]) not in dead:
                    yield from items_of(document)

    return compare_all(expected(), scan_table(client, table), verdict)


# --- a collection without a mapping ----------------------------------------------------------------------------------


def judge_generic(
    database: Any, client: Any, table: str, collection: str, unstorable: frozenset[bytes] = frozenset()
) -> Verdict:
    """One collection against its items: PK `<NAME>#<id>`, SK DATA, every field under its own name.

    Where the documentation does not write an id's form in the key down, the item that carries that `_id` is taken, and
    its key must be its own: no second document and no second item may share it.
    """
    verdict, entity = Verdict(), collection.upper()
    items = [item for item in scan_table(client, table) if item["PK"]["S"].startswith(f"{entity}#")]
    by_id: dict[bytes, list[Item]] = defaultdict(list)
    for item in items:
        hints = {pointer: hint["S"] for pointer, hint in item.get("_t", {}).get("M", {}).items()}
        try:
            by_id[id_key(read_value(item["_id"], hints, ("/_id",), "oid"))].append(item)
        except (KeyError, Unreadable):
            continue  # it will be extra

    def expected() -> Iterator[Expected]:
        for document in read_documents(database, collection):
            verdict.documents += 1
            identity = document["_id"]
            if id_key(identity) in unstorable:
                continue
            text = in_key(identity)
            owners = by_id[id_key(identity)]
            pk = (
                f"{entity}#{text}"
                if text is not None
                else owners[0]["PK"]["S"]
                if owners
                else f"{entity}#?{identity!r}"
            )
            yield Expected((pk, "DATA"), entity, identity, _kept(document, {"_id"}, _OURS))

    return compare_all(expected(), items, verdict)
