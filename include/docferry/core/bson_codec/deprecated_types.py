"""BSON types that drivers no longer tell apart: undefined (read as None), DBPointer (as DBRef) and symbol (as str).

They would be stored as something else without a word, so a document that has one is refused. Looking at every
element of every document in Python would cost more than encoding it. No document without the byte of such a type has
one, and no encoder writes one: what encodes to the very bytes that it was read from has none either. Only the others
are walked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.errors import BSONError

from docferry.core.bson_codec.bson_bytes import ARRAY, DOCUMENT, SCOPED_CODE, int32_at, value_end
from docferry.errors import UnsupportedType

_NAMES = {0x06: "undefined", 0x0C: "DBPointer", 0x0E: "symbol"}


def refuse_deprecated(data: bytes, document: Mapping[str, Any]) -> None:
    """Raises UnsupportedType, with the field's path, if the BSON `data` has a value of a deprecated type.

    `document` is what `data` was decoded to.
    """
    if (b"\x06" in data or b"\x0c" in data or b"\x0e" in data) and not _encodes_to(document, data):
        _walk(data, 4, "")


def _encodes_to(document: Mapping[str, Any], data: bytes) -> bool:
    try:
        return bson.encode(document) == data
    except (BSONError, ValueError, OverflowError):
        return False  # read, but not to be written again: then it is walked


def _walk(data: bytes, at: int, path: str) -> int:
    """Walk a document's elements from `at`; returns the position after its end."""
    while kind := data[at]:
        end = data.index(b"\x00", at + 1)
        name = f"{path}{data[at + 1 : end].decode(errors='replace')}"
        if kind in _NAMES:
            raise UnsupportedType(f"{name} has the deprecated BSON type {_NAMES[kind]}", path=name)
        at = end + 1
        if kind in (DOCUMENT, ARRAY):
            at = _walk(data, at + 4, name + ".")
        elif kind == SCOPED_CODE:  # total length, code, then its scope
            at = _walk(data, at + 8 + int32_at(data, at + 4) + 4, name + ".")
        else:
            at = value_end(kind, data, at)
    return at + 1
