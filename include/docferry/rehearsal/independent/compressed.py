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


def _as_boto3(value: dict[str, Any]) -> dict[str, Any]:
    ((tag, content),) = value.items()
    if tag == "B":
        return {"B": base64.b64decode(content)}
    if tag == "BS":
        return {"BS": [base64.b64decode(one) for one in content]}
    if tag == "M":
        return {"M": {name: _as_boto3(inner) for name, inner in content.items()}}
    return {"L": [_as_boto3(inner) for inner in content]} if tag == "L" else value
