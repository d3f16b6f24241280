"""A part as the bytes of an object: a line of DynamoDB JSON with all but its content, and then the content as it is. Pure."""

from __future__ import annotations

import base64
import json
from typing import Any

from docferry.core.bson_codec.plain import base64_text
from docferry.core.mapping.items import Item
from docferry.core.mapping.large.parts import DATA

HEAD_BYTES = 16 * 1024
"""More than the line ever has: two keys of at most 3 KB, and a few names."""


def encode_object(part: Item) -> bytes:
    head = {name: value for name, value in part.items() if name != DATA}
    line = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n" + base64.b64decode(part[DATA]["B"])


def decode_object(data: bytes) -> Item | None:
    """None for what is no part."""
    found = decode_head(data)
    content = data.partition(b"\n")[2]
    return None if found is None else found | {DATA: {"B": base64_text(content)}}


def decode_head(data: bytes) -> Item | None:
    """From the object's beginning."""
    try:
        found: Any = json.loads(data.partition(b"\n")[0])
    except ValueError:
        return None
    return found if isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()) else None
