"""What real collections hold besides the ordinary: documents that are awkward to carry, and some that cannot be.

Each oddity changes an ordinary document in place. None of them touches the fields that a table key is made of (an
`_id` of another type stays a key), except those that are here to become dead letters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

Document = dict[str, Any]
Change = Callable[[Document, Random], None]

LONG_STRING_BYTES = 100_000
TOO_LARGE_BYTES = 420_000
"""Over DynamoDB's 400 KB (409,600 bytes) an item."""
TOO_DEEP_LEVELS = 40
"""DynamoDB stores 32 levels; MongoDB 100."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One oddity. `storable` ones come back from DynamoDB as they were; of the `once` ones a shop has at most one."""

    name: str
    apply: Change
    storable: bool = True
    once: bool = False


def _set(**fields: Any) -> Change:
    """Set these fields; each document gets a copy of its own."""

    def change(document: Document, _: Random) -> None:
        document.update(deepcopy(fields))

    return change


def _drop(*names: str) -> Change:
    def change(document: Document, _: Random) -> None:
        for name in names:
            document.pop(name, None)

    return change


def _in_profile(**fields: Any) -> Change:
    def change(document: Document, _: Random) -> None:
        document["profile"].update(fields)

    return change


# --- any collection -------------------------------------------------------------------------------------------------


def _odd_field_names(document: Document, _: Random) -> None:
    document["a.b"] = 1
    document["$set"] = {"$inc": 2, "x.y.z": {"": "no name", "$": "dollar", ".": "dot"}}
    document["extra"] = {"PK": "p", "SK": "s", "_v": 1, "_t": {}, "GSI1PK": "g", "#/~0~1": "pointer", "Größe": 1}


def _long_string(document: Document, random: Random) -> None:
    document["note"] = random.randbytes(LONG_STRING_BYTES // 2).hex()


def _own_words(document: Document, _: Random) -> None:
    """Fields with the names that docferry's own attributes have."""
    document.update({"PK": "USER#mallory", "SK": 7, "_v": "zz", "_t": {"/x": "oid"}, "GSI1PK": None, "_deleted": True})


def _nested_lists(document: Document, random: Random) -> None:
    value: Any = "core"
    for level in range(20):
        value = [value, level] if level % 2 else {"in": value}
    document["extra"] = value


EVERYWHERE = (
    Mutation("nulls", _set(extra=None, note=None, list=[None, None])),
    Mutation(
        "empty", _set(extra={}, note="", list=[], nested={"a": {}, "b": [], "c": [[], {}, ""], "d": {"e": {"f": {}}}})
    ),
    Mutation(
        "unicode",
        _set(note="naïve 🦜👩‍👩‍👧 \u202bשלום عالم\u202c e\u0301 \u0000 \ufeff 𝒳", extra={"名前": "田中", "🦜": "🦜"}),
    ),
    Mutation("field_names", _odd_field_names),
    Mutation("own_words", _own_words),
    Mutation(
        "int64", _set(extra=Int64(5), list=[Int64(1), 2, Int64(2**62)], max=Int64(2**63 - 1), min=Int64(-(2**63)))
    ),
    Mutation("doubles", _set(extra=[1.0, -0.0, 0.0, 0.1, 1e-9, 1e300, -1e-300, 5e-324, 2.0**53 + 2, 1e22])),
    Mutation("not_finite", _set(extra=[math.nan, math.inf, -math.inf], note=math.nan)),
    Mutation(
        "decimals",
        _set(
            extra=[Decimal128(d) for d in ("12.50", "12.5", "0E-10", "-0", "1E+3", "NaN", "Infinity", "1E-6000")],
            note=Decimal128("9.999999999999999999999999999999999E+6144"),
        ),
    ),
    Mutation(
        "dates",
        _set(
            extra=datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
            list=[datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)],
            # Before year 1 and after year 9999: MongoDB holds them, datetime cannot.
            nested={"before": DatetimeMS(-(10**14)), "after": DatetimeMS(2**60)},
        ),
    ),
    Mutation(
        "binary",
        _set(
            extra=Binary(b"\x00\xff", 0),
            note=Binary(b"", 0),
            list=[Binary(b"x", 2), Binary(b"m" * 16, 5), Binary(b"u", 128), Binary(b"o" * 16, 3)],
            nested={"uuid": Binary.from_uuid(UUID("12345678-1234-5678-1234-567812345678"))},
        ),
    ),
    Mutation(
        "rare_types",
        _set(
            extra=Timestamp(1_700_000_000, 3),
            note=Regex("^a.*[b]$", "imx"),
            list=[Code("return 1"), Code("return x", {"x": 1}), MinKey(), MaxKey()],
            nested={"ref": DBRef("users", ObjectId("507f1f77bcf86cd799439011")), "far": DBRef("c", 1, "other", x=2)},
        ),
    ),
    Mutation("extremes", _set(extra=MinKey(), note=MaxKey())),
    Mutation(
        "mixed_array",
        _set(list=[1, "1", 1.0, Int64(1), True, None, ObjectId("507f1f77bcf86cd799439011"), {"1": 1}, [1, [2]], b"1"]),
    ),
    Mutation("long_string", _long_string),
    Mutation("deep", _nested_lists),
)


# --- one collection -------------------------------------------------------------------------------------------------


def _hash_in_username(document: Document, _: Random) -> None:
    document["username"] = f"user#{document['username']}#PROFILE"


def _tilde_in_username(document: Document, _: Random) -> None:
    document["username"] = f"~{document['username']}~1~0%23"


def _hex_username(document: Document, random: Random) -> None:
    document["username"] = random.randbytes(12).hex()


def _foreign_username(document: Document, _: Random) -> None:
    document["username"] = f"Ünï {document['username']} 🦜 / عمر"


def _two_homes(document: Document, _: Random) -> None:
    home = {"type": "home", "street": "123 Main St", "city": "Seattle", "state": "WA", "zipCode": "98101"}
    document["addresses"] = [home, {**home, "street": "124 Main St"}, {**home, "type": "a#b"}]


def _sparse_address(document: Document, _: Random) -> None:
    document["addresses"] = [{"type": "home"}, {"type": "work", "city": None, "zipCode": 98101, "geo": [47.6, -122.0]}]


def _empty_nested(document: Document, _: Random) -> None:
    document["profile"], document["preferences"] = {}, {"notifications": {}}


def _kept_numbers(document: Document, _: Random) -> None:
    """Numbers of other types than this field usually has."""
    document["items"][0].update({"quantity": Int64(2), "price": 19.0, "weight": Decimal128("1.2300")})
    document["totalAmount"] = 38


def _identified_as(make: Callable[[Random], Any]) -> Change:
    """An `_id` that is no ObjectId: a range of ObjectIds does not contain it. 64 random bits keep it unique."""

    def change(document: Document, random: Random) -> None:
        document["_id"] = make(random)

    return change


AWKWARD: Mapping[str, tuple[Mutation, ...]] = {
    "users": (
        Mutation("no_email", _drop("email")),
        Mutation("null_email", _set(email=None)),
        Mutation("empty_email", _set(email="")),
        Mutation("hash_in_username", _hash_in_username),
        Mutation("tilde_in_username", _tilde_in_username),
        Mutation("hex_username", _hex_username),
        Mutation("foreign_username", _foreign_username),
        Mutation("two_homes", _two_homes),
        Mutation("sparse_address", _sparse_address),
        Mutation("inactive", _set(status="inactive")),
        Mutation("no_status", _drop("status", "lastLoginAt")),
        Mutation("no_addresses", _drop("addresses")),
        Mutation("null_addresses", _set(addresses=None)),
        Mutation("no_profile", _drop("profile", "preferences")),
        Mutation("empty_nested", _empty_nested),
        Mutation("odd_profile", _in_profile(firstName=None, lastName="", avatar=None, location={})),
        Mutation("text_date", _set(lastLoginAt="2024-01-15T15:45:00.000Z", createdAt=None)),
        *EVERYWHERE,
    ),
    "orders": (
        Mutation("no_items", _set(items=[])),
        Mutation("missing_items", _drop("items", "currency")),
        Mutation("no_user", _drop("userId")),
        Mutation("null_status", _set(status=None, updatedAt=None)),
        Mutation("other_numbers", _kept_numbers),
        *EVERYWHERE,
    ),
    "products": (
        Mutation("text_id", _identified_as(lambda r: f"legacy-{r.getrandbits(64):x}")),
        Mutation("number_id", _identified_as(lambda r: Int64(r.getrandbits(62)))),
        Mutation("uuid_id", _identified_as(lambda r: Binary.from_uuid(UUID(int=r.getrandbits(128), version=4)))),
        Mutation("hex_text_id", _identified_as(lambda r: r.randbytes(12).hex())),
        Mutation("bare", _drop("attributes", "tags", "categoryId", "description")),
        Mutation("mixed_tags", _set(tags=["sale", 7, None, {"label": "x"}], stock=2.0)),
        *EVERYWHERE,
    ),
    "categories": (
        Mutation("no_parent", _drop("parentId", "path")),
        Mutation("odd_path", _set(path=["a#b", "", "~", "/"], name="")),
        *EVERYWHERE,
    ),
}


# --- dead letters ---------------------------------------------------------------------------------------------------


def _too_large(document: Document, random: Random) -> None:
    # Random bytes: a mapping that compresses what is too large does not get it below the limit.
    document["scan"] = Binary(random.randbytes(TOO_LARGE_BYTES), 0)


def _too_deep(document: Document, _: Random) -> None:
    value: Any = "bottom"
    for _level in range(TOO_DEEP_LEVELS):
        value = {"down": value}
    document["extra"] = value


_NO_USERNAME = Mutation("no_username", _drop("username"), storable=False, once=True)
_EMPTY_USERNAME = Mutation("empty_username", _set(username=""), storable=False, once=True)
_TOO_LARGE = Mutation("too_large", _too_large, storable=False)
_TOO_DEEP = Mutation("too_deep", _too_deep, storable=False)

UNSTORABLE: tuple[tuple[str, Mutation], ...] = (
    # username has a unique index, so one user without and one with an empty one are all that MongoDB takes.
    ("users", _NO_USERNAME),
    ("users", _EMPTY_USERNAME),
    ("products", _TOO_LARGE),
    ("orders", _TOO_DEEP),
    ("users", _TOO_LARGE),
    ("products", _TOO_DEEP),
    ("orders", _TOO_LARGE),
    ("categories", _TOO_DEEP),
    ("users", _TOO_DEEP),
    ("categories", _TOO_LARGE),
)
