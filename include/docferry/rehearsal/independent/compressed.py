"""Items that were too large for DynamoDB, read once more as docs/protocol.md says it."""

from __future__ import annotations

import base64
import json
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


def without_parts(items: list[Item]) -> list[Item]:
    """The items, with `_z` of what their parts hold in the place of `_p`; no parts. One whose parts are not all there stays as it
    is: it has none of its fields."""
    data = {one["PK"]["S"]: one["_z"]["B"] for one in items if one["PK"]["S"].startswith("PART#")}
    found = []
    for item in items:
        if item["PK"]["S"].startswith("PART#"):
            continue
        names = [f"PART#{one['S']}" for one in item.get("_p", {}).get("L", [])]
        if names and all(name in data for name in names):
            packed = b"".join(data[name] for name in names)
            item = {name: value for name, value in item.items() if name != "_p"} | {"_z": {"B": packed}}
        found.append(item)
    return found


def _as_boto3(value: dict[str, Any]) -> dict[str, Any]:
    ((tag, content),) = value.items()
    if tag == "B":
        return {"B": base64.b64decode(content)}
    if tag == "BS":
        return {"BS": [base64.b64decode(one) for one in content]}
    if tag == "M":
        return {"M": {name: _as_boto3(inner) for name, inner in content.items()}}
    return {"L": [_as_boto3(inner) for inner in content]} if tag == "L" else value
