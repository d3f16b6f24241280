"""Items that were too large for DynamoDB, read once more as docs/protocol.md says it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import zstandard

from docferry.rehearsal.independent.verdict import Item


def whole(item: Item) -> Item:
    """The item with what it holds compressed, in boto3's form. Raises where that cannot be read: it is wrong then."""
    packed = item.get("_z", {}).get("B")
    if packed is None:
        return item
    if packed[:1] != b"\x01":
        raise ValueError(f"{item['PK']}: _z begins with {packed[:1]!r}")
    content = json.loads(zstandard.ZstdDecompressor().decompress(packed[1:]))
    outside = {name: value for name, value in item.items() if name not in ("_z", "_t")}
    if taken := outside.keys() & content.keys():
        raise ValueError(f"{item['PK']}: {sorted(taken)} are inside and outside of _z")
    return outside | {name: _as_boto3(value) for name, value in content.items()}


ReadObject = Callable[[str], bytes | None]
"""The bytes of a part that is an object, by its name."""


def without_parts(items: list[Item], objects: ReadObject | None = None) -> list[Item]:
    """The items, with `_z` of what their parts hold in the place of `_p`; no parts. One whose parts are not all there stays as it
    is: it has none of its fields."""
    data = {one["PK"]["S"]: one["_z"]["B"] for one in items if one["PK"]["S"].startswith("PART#")}
    found = []
    for item in items:
        if item["PK"]["S"].startswith("PART#"):
            continue
        entries = item.get("_p", {}).get("L", [])
        pieces = [data.get(f"PART#{one['S']}") if "S" in one else _object(one["M"], objects) for one in entries]
        if pieces and None not in pieces:
            packed = b"".join(piece for piece in pieces if piece is not None)
            item = {name: value for name, value in item.items() if name != "_p"} | {"_z": {"B": packed}}
        found.append(item)
    return found


def _object(entry: dict[str, Any], objects: ReadObject | None) -> bytes | None:
    """What is behind the first line of an object, if it is what the item says of it."""
    found = objects(entry["name"]["S"]) if objects is not None else None
    if found is None:
        return None
    piece = found.partition(b"\n")[2]
    same = (hashlib.sha256(piece).hexdigest(), str(len(piece))) == (entry["sha256"]["S"], entry["bytes"]["N"])
    return piece if same else None


def _as_boto3(value: dict[str, Any]) -> dict[str, Any]:
    ((tag, content),) = value.items()
    if tag == "B":
        return {"B": base64.b64decode(content)}
    if tag == "BS":
        return {"BS": [base64.b64decode(one) for one in content]}
    if tag == "M":
        return {"M": {name: _as_boto3(inner) for name, inner in content.items()}}
    return {"L": [_as_boto3(inner) for inner in content]} if tag == "L" else value
