"""The digest of a document's children, and an item's content in one spelling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from decimal import Decimal

from docferry.core.bson_codec.plain import AttributeValue, plain_number
from docferry.core.mapping.items import VOLATILE, Item, key_of


def digest(children: Sequence[Item]) -> str:
    """Of the children's keys and content (never their versions: those move without the content). 32 hex digits.

    BLAKE2b of 16 bytes over each child as JSON, in the order of their keys: docs/protocol.md tells it to other languages.
    """
    state = hashlib.blake2b(digest_size=16)
    for item in sorted(children, key=key_of):
        state.update(_canonical(item))
    return state.hexdigest()


def _canonical(item: Item) -> bytes:
    """An item's content in one spelling, however it was written: JSON. Flat strings and numbers, the usual case, are quick."""
    parts: list[str] = []
    for name in sorted(item):
        if name in VOLATILE:
            continue
        ((tag, content),) = item[name].items()
        if tag == "S":
            parts.append(f'{_json_text(name)}:{{"S":{_json_text(content)}}}')
        elif tag == "N":
            plain = content if content.isdigit() and content[0] != "0" else plain_number(Decimal(content))
            parts.append(f'{_json_text(name)}:{{"N":"{plain}"}}')
        else:
            parts.append(f"{_json_text(name)}:{_json(_canonical_value(item[name]))}")
    return f"{{{','.join(parts)}}}".encode()


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_json_text: Callable[[str], str] = json.encoder.encode_basestring_ascii


def _canonical_value(value: AttributeValue) -> AttributeValue:
    """Numbers in one spelling, however they were written."""
    ((tag, content),) = value.items()
    if tag == "N" and (content[0] == "0" or not content.isdigit()):
        return {"N": plain_number(Decimal(content))}
    if tag in ("SS", "NS", "BS"):
        return {tag: sorted(plain_number(Decimal(inner)) if tag == "NS" else inner for inner in content)}
    if tag == "M":
        return {"M": {name: _canonical_value(inner) for name, inner in content.items()}}
    if tag == "L":
        return {"L": [_canonical_value(inner) for inner in content]}
    return value
