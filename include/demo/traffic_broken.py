"""Traffic that DynamoDB cannot store: documents are broken, and healed later."""

from __future__ import annotations

from bson import Binary
from docferry.rehearsal.oddities import TOO_DEEP_LEVELS, TOO_LARGE_BYTES
from docferry.rehearsal.shop import Document

from demo.traffic_shop import BROKEN_MAX, BusyShop


def _abyss() -> Document:
    value: Document = {}
    for _ in range(TOO_DEEP_LEVELS):
        value = {"down": value}
    return value


def _breaks(shop: BusyShop) -> tuple[str, Document, Document]:
    """(collection, what makes a document unstorable, what heals it)."""
    anywhere = shop.collection()
    scan = Binary(shop.random.randbytes(TOO_LARGE_BYTES), 0)
    choices = (
        ("users", {"$unset": {"username": ""}}, {"$set": {"username": shop.unused("users")}}),
        ("users", {"$set": {"username": ""}}, {"$set": {"username": shop.unused("users")}}),
        ("users", {"$set": {"addresses": [{"city": "Nowhere"}]}}, {"$set": {"addresses": [shop.address()]}}),
        (anywhere, {"$set": {"abyss": _abyss()}}, {"$unset": {"abyss": ""}}),
        (anywhere, {"$set": {"scan": scan}}, {"$unset": {"scan": ""}}),
    )
    return shop.random.choice(choices)


def break_document(shop: BusyShop) -> None:
    if len(shop.broken) >= BROKEN_MAX:
        heal_document(shop)
        return
    name, harm, cure = _breaks(shop)
    identity = shop.pick(name)
    if shop.count(shop[name].update_one({"_id": identity}, harm)):
        shop.broken.append((name, identity, cure))


def heal_document(shop: BusyShop) -> None:
    """The one that has been broken longest; nothing if none is."""
    if shop.broken:
        name, identity, cure = shop.broken[0]
        shop.count(shop[name].update_one({"_id": identity}, cure))
        shop.broken.popleft()
