"""Items that are too large even when they are compressed: what `_z` holds is kept in items of its own, its parts. Pure.

The item has `_p` in the place of `_z`: the names of its parts, in order. A part's name is a digest of the item's key, the item's
version, the part's place and its bytes. So a part never changes, is written before the item that names it, and is of one version
alone: of two writers of one version each has its own parts, and the item says whose count.

A part may go once no put of its item that names it can arrive any more. If an item is there, with the part's version or a
later one, and does not name it, that is so: puts are made over lower versions alone (`overtaken`). Of others a purge can tell.

Where parts are objects in S3 (`overflow: s3`) each item has one, and says beside its name what it must be: its SHA-256 and how
many bytes it has.

These functions know items as their table has them, keys by the table's names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from docferry.core.bson_codec.plain import base64_text
from docferry.core.limits import ITEM_BYTES, item_bytes
from docferry.core.mapping.items import KIND, Item
from docferry.core.mapping.large.overflow import PACKED, PART_BYTES, PARTS

PART: Final = "PART"
"""What partition keys and `entityType` of parts begin with, and their sort key."""
DATA: Final = PACKED
NAME: Final = "name"
"""Of an entry of `_p` that says what its part must be."""
OF: Final = "_of"
"""Of a part: the key of its item, by which a purge finds out whether it is still named."""
EXPIRES_LATER_S: Final = 7 * 86_400
"""DynamoDB removes what has expired in no order: an item that is still there must not have lost its parts."""
_KEY = re.compile(f"{PART}#[0-9a-f]{{32}}")


def part_key(name: str) -> tuple[str, str]:
    """Where a part is. Each has a partition of its own: a partition takes 1,000 units a second, and a part 390."""
    return f"{PART}#{name}", PART


def is_part(partition_key: str) -> bool:
    return _KEY.fullmatch(partition_key) is not None


def names_in(item: Item) -> list[str]:
    """The parts that an item names; none if it has none, or what it says cannot be read."""
    names = [_named(one) for one in item.get(PARTS, {}).get("L", [])]
    return [name for name in names if name is not None] if None not in names else []


def _named(entry: Any) -> str | None:
    try:
        return str(entry["S"] if "S" in entry else entry["M"][NAME]["S"])
    except (KeyError, TypeError):
        return None


def cut(
    stored: Item,
    key_names: Sequence[str],
    ttl_attribute: str,
    part_bytes: int = PART_BYTES,
    *,
    checked: bool = False,
) -> tuple[Item, list[tuple[str, Item]]]:
    """The item as it is sent, and its parts by name, without their own keys. They expire `EXPIRES_LATER_S` behind it.
    `checked`: the item says what each must be."""
    data = base64.b64decode(stored[PACKED]["B"])
    key = [stored[name] for name in key_names]
    ttl = stored.get(ttl_attribute, {}).get("N")
    expires = {} if ttl is None else {ttl_attribute: {"N": str(int(Decimal(ttl)) + EXPIRES_LATER_S)}}
    found: list[tuple[str, Item]] = []
    entries: list[dict[str, Any]] = []
    for place, start in enumerate(range(0, len(data), part_bytes)):
        piece = data[start : start + part_bytes]
        name = _name_of(key, stored["_v"]["S"], place, piece)
        found.append((name, {
            KIND: {"S": f"{PART}#{stored[KIND]['S']}"}, "_v": stored["_v"], OF: {"L": key}, **expires,
            DATA: {"B": base64_text(piece)},
        }))  # fmt: skip
        entries.append({"M": {**_check_of(piece), NAME: {"S": name}}} if checked else {"S": name})
    item = {name: value for name, value in stored.items() if name != PACKED}
    return item | {PARTS: {"L": entries}}, found


def _check_of(piece: bytes) -> dict[str, Any]:
    return {"sha256": {"S": hashlib.sha256(piece).hexdigest()}, "bytes": {"N": str(len(piece))}}


def joined(stored: Item, parts: Mapping[str, Item]) -> Item:
    """The item with `_z` again; as it is, with `_p`, if a part is missing or is not what its name says."""
    names = names_in(stored)
    entries = stored.get(PARTS, {}).get("L", [])
    pieces = [
        _piece(parts[name], entry) if name in parts else None for name, entry in zip(names, entries, strict=False)
    ]
    if not names or PACKED in stored or any(piece is None for piece in pieces):
        return stored
    found = {name: value for name, value in stored.items() if name != PARTS}
    return found | {PACKED: {"B": base64_text(b"".join(piece for piece in pieces if piece is not None))}}


def _piece(part: Item, entry: Mapping[str, Any]) -> bytes | None:
    """None for what is not what the item says of it."""
    try:
        piece = base64.b64decode(part[DATA]["B"], validate=True)
        said = entry.get("M")
        return piece if said is None or _check_of(piece).items() <= said.items() else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def overtaken(name: str, version: str, item: Item | None) -> bool:
    """Whether a part of this name and version was given up: by what its item is now, as read behind the part's put."""
    stored = item.get("_v", {}).get("S", "") if item is not None else ""
    return bool(stored >= version) and item is not None and name not in names_in(item)


def name_of(partition_key: str) -> str:
    return partition_key.partition("#")[2]


def sent_bytes(stored: Item) -> int:
    """How much of an item goes into one request with others: its parts go before it."""
    size = item_bytes(stored)
    if PACKED not in stored or size <= ITEM_BYTES:
        return size
    packed = len(stored[PACKED]["B"]) * 3 // 4
    return size - packed + (packed // PART_BYTES + 1) * 40


def _name_of(key: Sequence[Any], version: str, place: int, piece: bytes) -> str:
    text = "\0".join([*(f"{tag}\0{value}" for one in key for tag, value in one.items()), version, str(place), ""])
    return hashlib.blake2b(text.encode() + piece, digest_size=16).hexdigest()
