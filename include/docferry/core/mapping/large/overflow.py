"""Items over 400 KB: everything but keys and system attributes is kept in one compressed attribute. Pure.

Where the file sets `overflow`, an item that DynamoDB would not take is fitted when it is sent, and whole again when it is read:
all other code knows the whole item alone. What has been fitted and cannot be read stays as it is stored; a comparison tells it as
one difference, and decoding it raises.

`_z` holds one byte that tells the format (1), and a zstd frame with its checksum and the length of its content: the attributes as
DynamoDB JSON in UTF-8, names in order. `_t` is in there whole; outside stay the hints of `_id` alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import zstandard

from docferry.core.bson_codec.plain import base64_text
from docferry.core.limits import ITEM_BYTES
from docferry.core.mapping.items import KIND, SYSTEM, Item
from docferry.core.settings import CollectionSettings, Overflow

PACKED: Final = "_z"
"""The attribute. Where a collection has `overflow`, no field bears this name."""
PARTS: Final = "_p"
"""In its place the names of an item's parts (`core.mapping.large.parts`), where a collection is split."""
FORMAT: Final = b"\x01"
LEVEL: Final = 3
PART_BYTES: Final = 390 * 1024
MOST_BYTES: Final = 512 * 1024 * 1024
"""Of what is unpacked: a document of 16 MB that is nothing but small numbers is 300 MB of JSON."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Which items of a table may be fitted, by their `entityType`, which attributes stay as they are, and what is too large.

    `splits` are those of the kinds that have parts where they have more than `limit` bytes compressed."""

    kinds: frozenset[str]
    kept: frozenset[str]
    splits: frozenset[str] = frozenset()
    over: int = ITEM_BYTES
    limit: int = ITEM_BYTES
    part_bytes: int = PART_BYTES
    ttl_attribute: str = ""
    as_objects: bool = False
    """Its parts are objects, one of each item."""

    def covers(self, item: Item) -> bool:
        return item.get(KIND, {}).get("S") in self.kinds

    def fitted(self, item: Item) -> Item:
        """The item with `_z` in place of what it holds."""
        rest = {name: value for name, value in item.items() if name not in self.kept}
        text = json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text.encode())
        found: Item = {name: value for name, value in item.items() if name in self.kept}
        hints = {name: hint for name, hint in item.get("_t", {}).get("M", {}).items() if _is_of_id(name)}
        if hints:
            found["_t"] = {"M": hints}
        found[PACKED] = {"B": base64_text(FORMAT + frame)}
        return found

    def whole(self, item: Item) -> Item:
        """The item as it was; as it is, with `_z`, if that cannot be read."""
        if PACKED not in item or not self.covers(item):
            return item
        content = _content(item[PACKED])
        if content is None:
            return item
        found = {name: value for name, value in item.items() if name != PACKED}
        found.pop("_t", None)
        return found | {name: value for name, value in content.items() if name not in self.kept}


def names_of(overflow: Overflow | None) -> frozenset[str]:
    """The names that no field of such a collection may have."""
    if overflow is None:
        return frozenset()
    return frozenset({PACKED} if overflow == "compress" else {PACKED, PARTS})


def fitting_of(collections: Iterable[CollectionSettings]) -> Fitting | None:
    """For the collections of one table; None: none of them has `overflow`."""
    kinds: set[str] = set()
    splits: set[str] = set()
    kept = set(SYSTEM) - {"_t"} | {"_id"}
    ttl_attribute, as_objects = "", False
    for one in collections:
        if one.overflow is not None:
            own = {one.item.entity, *(child.entity for child in one.children.values())}
            kinds |= own
            splits |= own if one.overflow != "compress" else set()
            as_objects |= one.overflow == "s3"
        ttl_attribute = one.ttl_attribute
        kept |= {ttl_attribute, *(f"{index}{part}" for index in one.index_names for part in ("PK", "SK"))}
    fitting = Fitting(
        frozenset(kinds), frozenset(kept), frozenset(splits), ttl_attribute=ttl_attribute, as_objects=as_objects,
        part_bytes=MOST_BYTES if as_objects else PART_BYTES,
    )  # fmt: skip
    return fitting if kinds else None


def _is_of_id(pointer: str) -> bool:
    return pointer == "/_id" or pointer.startswith("/_id/")


def _content(value: dict[str, Any]) -> dict[str, Any] | None:
    """What `_z` holds; None if it cannot be told."""
    try:
        data = base64.b64decode(value["B"], validate=True)
        if data[:1] != FORMAT or not 0 <= zstandard.frame_content_size(data[1:]) <= MOST_BYTES:
            return None
        found: Any = json.loads(zstandard.ZstdDecompressor().decompress(data[1:]))
    except (KeyError, TypeError, ValueError, binascii.Error, zstandard.ZstdError):
        return None
    return found if isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()) else None
