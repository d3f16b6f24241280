"""What stays of an item that is gone, so that nothing older can come back."""

from __future__ import annotations

import time

from docferry.core.mapping.items import Item
from docferry.core.versions import version_text

TOMBSTONE_TTL_S = 30 * 24 * 3600
"""Longer than any oplog window in use."""


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
