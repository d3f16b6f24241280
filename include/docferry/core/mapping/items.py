"""An item in wire form: its names, its key, what DynamoDB takes, and what stays of one that is gone."""

from __future__ import annotations

import time
from typing import Any, Final

from docferry.core.bson_codec.plain import AttributeValue
from docferry.core.limits import ITEM_BYTES, item_bytes
from docferry.core.versions import version_text
from docferry.errors import (
    ItemTooLarge,
)

Item = dict[str, AttributeValue]
ItemKey = tuple[str, str]
Document = dict[str, Any]
SYSTEM: Final = frozenset({"PK", "SK", "_v", "_t", "_i", "_ttl", "_deleted", "_digest", "entityType"})
"""Names that a document's own fields never get: they are escaped. `_ttl` also where the file names another TTL attribute."""
KIND: Final = "entityType"
"""The attribute that says which kind of item one is."""
GUARD: Final = "UNIQUE"
"""What partition keys, sort keys and `entityType` of guards begin with. No other key of such a table does, and no other entity
has the `#` that follows."""
VOLATILE: Final = frozenset({"_v", "_ttl", "_digest"})
"""Attributes that say when an item was written, not what it holds."""

TOMBSTONE_TTL_S = 30 * 24 * 3600
"""Longer than any oplog window in use."""


def key_of(item: Item) -> ItemKey:
    """(partition key, sort key) of an item in wire form."""
    return item["PK"]["S"], item["SK"]["S"]


def is_guard(item: Item) -> bool:
    """Whether an item keeps a value unique: it says whose the value is, and nothing else of the document."""
    return bool(item.get(KIND, {}).get("S", "").startswith(GUARD + "#"))


def check_size(item: Item, path: str | None = None) -> None:
    """Raises ItemTooLarge with `path` (None: the sort key) if DynamoDB would not take the item."""
    size = item_bytes(item)
    if size > ITEM_BYTES:
        what = f"the item would have {size} bytes, more than the {ITEM_BYTES} allowed"
        raise ItemTooLarge(what, path=item["SK"]["S"] if path is None else path)


def tombstone(item: Item, version: int, ttl_attribute: str) -> Item:
    """What stays of an item that is gone: its key, document and version, invisible to readers, with a TTL."""
    kept: Item = {name: item[name] for name in ("PK", "SK", "_id", "entityType") if name in item}
    id_hints = {
        pointer: hint for pointer, hint in item.get("_t", {}).get("M", {}).items() if pointer.startswith("/_id")
    }
    if id_hints:
        kept["_t"] = {"M": id_hints}
    return kept | {
        "_v": {"S": version_text(version)},
        "_deleted": {"BOOL": True},
        ttl_attribute: {"N": str(int(time.time()) + TOMBSTONE_TTL_S)},
    }
