"""The updates of one document that the demo's traffic makes: every operator, with what the document must look like for it.

MongoDB refuses an operator on a value of the wrong kind ($push on null). An application knows its documents; this one
says so in the filter, and an update that finds its document to be otherwise changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bson import Decimal128
from docferry.rehearsal.shop import COLLECTIONS, EPOCH, SPAN_S, Document
from docferry.rehearsal.words import ADDRESS_TYPES, COLOURS, ORDER_STATUSES, TAGS, USER_STATUSES

from demo.traffic_shop import BusyShop

ALL = COLLECTIONS
LIST_MAX = 12
"""Arrays that are pushed to stay this short."""
IS_ARRAY = {"$type": "array"}
NO_NULL = {"$not": {"$type": "null"}}
"""Not null, and for an array: no element that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficUpdate:
    """One kind of update. `make` gives the update, or a pipeline; `where` joins the `_id` in the filter."""

    make: Callable[[BusyShop], Document | list[Document]]
    on: Sequence[str] = ALL
    where: Document = field(default_factory=dict)
    filters: list[Document] | None = None
    weight: int = 2

    def run(self, shop: BusyShop) -> None:
        name = shop.random.choice(self.on)
        target = {"_id": shop.pick(name), **self.where}
        shop.count(shop[name].update_one(target, self.make(shop), array_filters=self.filters))


def _set(make: Callable[[BusyShop], Document]) -> Callable[[BusyShop], Document]:
    return lambda shop: {"$set": make(shop)}


def _moment(shop: BusyShop) -> Any:
    return EPOCH + timedelta(seconds=shop.random.randrange(2 * SPAN_S))


def _at(shop: BusyShop, array: str, fieldname: str) -> str:
    return f"{array}.{shop.random.randrange(3)}.{fieldname}"


def _inc(shop: BusyShop) -> Document:
    return {"$inc": {"visits": shop.random.randint(1, 9), "counters.day": -1}}


def _mul(shop: BusyShop) -> Document:
    return {"$mul": {"price": shop.random.choice((Decimal128("1.05"), Decimal128("0.95"), 2, 0.5))}}


def _rename(there: str, back: str) -> Callable[[BusyShop], Document]:
    return lambda shop: {"$rename": {there: back} if shop.random.random() < 0.5 else {back: there}}


def _push_each(shop: BusyShop) -> Document:
    several = [shop.address() for _ in range(shop.random.randint(1, 3))]
    return {"$push": {"addresses": {"$each": several, "$sort": {"type": 1, "city": -1}, "$slice": -6}}}


def _push_first(shop: BusyShop) -> Document:
    return {"$push": {"items": {"$each": [shop.line()], "$position": 0, "$slice": LIST_MAX}}}


def _tags(shop: BusyShop, count: int) -> list[str]:
    return shop.random.sample(TAGS, count)


def _pipeline_set(shop: BusyShop) -> list[Document]:
    full_name = {"$concat": ["$profile.firstName", " ", "$profile.lastName"]}
    return [
        {"$set": {"fullName": full_name, "touchedAt": "$$NOW", "visits": {"$add": [{"$ifNull": ["$visits", 0]}, 1]}}}
    ]


def _pipeline_count(_: BusyShop) -> list[Document]:
    lines = {"$cond": [{"$isArray": "$items"}, {"$size": {"$ifNull": ["$items", []]}}, 0]}
    return [{"$set": {"itemCount": lines}}, {"$unset": ["note", "nickname"]}]


def _pipeline_replace(shop: BusyShop) -> list[Document]:
    return [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"label": shop.word()}]}}]


def _pipeline_array(shop: BusyShop) -> list[Document]:
    """Turned round, or cut short: only a pipeline makes an event with `truncatedArrays`."""
    after = shop.random.choice(({"$reverseArray": "$addresses"}, {"$slice": ["$addresses", 1]}))
    return [{"$set": {"addresses": after}}]


UPDATES: Mapping[str, TrafficUpdate] = {
    "set": TrafficUpdate(make=_set(lambda s: {"note": s.word(), "updatedAt": _moment(s)}), weight=6),
    "set_nested": TrafficUpdate(
        on=("users",), make=_set(lambda s: {"preferences.theme": s.word(), "preferences.a.b.c": s.random.random()})
    ),
    "set_in_array": TrafficUpdate(
        on=("orders",), make=_set(lambda s: {"items.0.quantity": 7}), where={"items.0.price": {"$exists": True}}
    ),
    "set_in_any_place": TrafficUpdate(
        on=("users",),
        where={"addresses": {**IS_ARRAY, **NO_NULL}, "addresses.2": {"$exists": True}},
        make=_set(lambda s: {_at(s, "addresses", "city"): s.place()["city"]}),
    ),
    # Pads with nulls: the array is then no array of subdocuments.
    "set_past_end": TrafficUpdate(
        on=("orders",), where={"items": IS_ARRAY}, make=_set(lambda s: {"items.6": s.line()}), weight=1
    ),
    "unset": TrafficUpdate(make=lambda s: {"$unset": {"note": "", "updatedAt": "", "label": ""}}),
    "unset_nested": TrafficUpdate(
        on=("users",), make=lambda s: {"$unset": {"preferences.notifications": "", "profile.avatar": ""}}
    ),
    "unset_in_array": TrafficUpdate(on=("users",), make=lambda s: {"$unset": {"addresses.0": ""}}, weight=1),
    "inc": TrafficUpdate(make=_inc, weight=6),
    "inc_stock": TrafficUpdate(on=("products",), make=lambda s: {"$inc": {"stock": s.random.randint(-5, 5)}}),
    "mul": TrafficUpdate(on=("products",), make=_mul),
    "min": TrafficUpdate(
        on=("products",), make=lambda s: {"$min": {"stock": s.random.randrange(500), "lowest": s.money()}}
    ),
    "max": TrafficUpdate(
        on=("users", "orders"), make=lambda s: {"$max": {"lastLoginAt": _moment(s), "best": s.random.random()}}
    ),
    "rename": TrafficUpdate(
        make=_rename("nickname", "alias"),
        where={"$or": [{"nickname": {"$exists": True}}, {"alias": {"$exists": True}}]},
    ),
    "set_nickname": TrafficUpdate(make=_set(lambda s: {"nickname": s.word()})),
    "rename_nested": TrafficUpdate(on=("users",), make=_rename("profile.avatar", "profile.picture")),
    "push": TrafficUpdate(
        on=("users", "orders"),
        where={"log": NO_NULL},
        make=lambda s: {"$push": {"log": {"$each": [s.word()], "$slice": -5}}},
    ),
    "push_plain": TrafficUpdate(
        on=("users",),
        where={"addresses": NO_NULL, f"addresses.{LIST_MAX}": {"$exists": False}},
        make=lambda s: {"$push": {"addresses": s.address()}},
    ),
    "push_each_sort_slice": TrafficUpdate(on=("users",), where={"addresses": NO_NULL}, make=_push_each, weight=3),
    "push_position": TrafficUpdate(on=("orders",), where={"items": NO_NULL}, make=_push_first, weight=3),
    "pull": TrafficUpdate(
        on=("users",),
        where={"addresses": IS_ARRAY},
        make=lambda s: {"$pull": {"addresses": {"type": s.random.choice(ADDRESS_TYPES)}}},
    ),
    "pull_all": TrafficUpdate(
        on=("products",), where={"tags": IS_ARRAY}, make=lambda s: {"$pullAll": {"tags": _tags(s, 3)}}
    ),
    "add_to_set": TrafficUpdate(
        on=("products",), where={"tags": NO_NULL}, make=lambda s: {"$addToSet": {"tags": {"$each": _tags(s, 2)}}}
    ),
    "pop": TrafficUpdate(
        on=("orders",), where={"items": IS_ARRAY}, make=lambda s: {"$pop": {"items": s.random.choice((1, -1))}}
    ),
    "current_date": TrafficUpdate(
        make=lambda s: {"$currentDate": {"seenAt": True, "seenTime": {"$type": "timestamp"}}}
    ),
    "bit": TrafficUpdate(
        make=lambda s: {"$bit": {"flags": {s.random.choice(("or", "xor", "and")): s.random.randrange(256)}}}
    ),
    "positional": TrafficUpdate(
        on=("users",), where={"addresses.type": "home"}, make=_set(lambda s: {"addresses.$.street": s.word()})
    ),
    "positional_all": TrafficUpdate(
        on=("orders",), where={"items": {**IS_ARRAY, **NO_NULL}}, make=lambda s: {"$inc": {"items.$[].quantity": 1}}
    ),
    "array_filters": TrafficUpdate(
        on=("orders",),
        where={"items": IS_ARRAY},
        filters=[{"line.quantity": {"$gt": 2}}],
        make=lambda s: {"$set": {"items.$[line].gift": s.word()}},
    ),
    "pipeline_set": TrafficUpdate(on=("users",), make=_pipeline_set),
    "pipeline_unset": TrafficUpdate(on=("orders",), make=_pipeline_count),
    "pipeline_replace": TrafficUpdate(make=_pipeline_replace),
    "pipeline_array": TrafficUpdate(on=("users",), where={"addresses": IS_ARRAY}, make=_pipeline_array),
    # Keys: of indexes, of children, and children that come and go.
    "city_changed": TrafficUpdate(
        on=("users",), make=_set(lambda s: {"profile.location": s.place(), "lastLoginAt": _moment(s)}), weight=3
    ),
    "city_unset": TrafficUpdate(
        on=("users",), make=lambda s: {"$unset": {"profile.location.city": "", "lastLoginAt": ""}}, weight=1
    ),
    "status_changed": TrafficUpdate(on=("users",), make=_set(lambda s: {"status": s.random.choice(USER_STATUSES)})),
    "order_moved": TrafficUpdate(
        on=("orders",),
        make=_set(lambda s: {"userId": s.pick("users"), "status": s.random.choice(ORDER_STATUSES)}),
        weight=4,
    ),
    "category_changed": TrafficUpdate(
        on=("products",),
        make=_set(lambda s: {"categoryId": s.pick("categories"), "attributes.colour": s.random.choice(COLOURS)}),
    ),
    "parent_changed": TrafficUpdate(on=("categories",), make=_set(lambda s: {"parentId": s.pick("categories")})),
    "address_retyped": TrafficUpdate(
        on=("users",),
        where={"addresses.0.type": {"$exists": True}},
        make=_set(lambda s: {"addresses.0.type": s.random.choice(ADDRESS_TYPES)}),
        weight=3,
    ),
    "addresses_retyped": TrafficUpdate(
        on=("users",),
        where={"addresses": IS_ARRAY},
        filters=[{"one.type": {"$in": ["home", "work"]}}],
        make=_set(lambda s: {"addresses.$[one].type": s.random.choice(ADDRESS_TYPES)}),
    ),
    "email_changed": TrafficUpdate(
        on=("users",), make=_set(lambda s: {"email": f"{s.unused('users')}@example.com"}), weight=3
    ),
    "email_dropped": TrafficUpdate(
        on=("users",),
        make=lambda s: s.random.choice(({"$unset": {"email": ""}}, {"$set": {"email": ""}}, {"$set": {"email": None}})),
    ),
    "sku_changed": TrafficUpdate(on=("products",), make=_set(lambda s: {"sku": s.unused("products")})),
    "slug_changed": TrafficUpdate(on=("categories",), make=_set(lambda s: {"slug": s.unused("categories")})),
    "username_changed": TrafficUpdate(on=("users",), make=_set(lambda s: {"username": s.unused("users")}), weight=4),
}
