"""BSON types that drivers no longer tell apart: undefined (read as None), DBPointer (as DBRef) and symbol (as str).

They would be stored as something else without a word, so a document that has one is refused. Looking at every
element of every document in Python would cost more than encoding it; a regular expression over the raw bytes finds
nearly all documents that cannot have one, and only the others are walked.
"""

from __future__ import annotations

import re

from docferry.core.bson_bytes import ARRAY, DOCUMENT, SCOPED_CODE, int32_at, value_end
from docferry.errors import UnsupportedType

_CANDIDATE = re.compile(
    rb"[\x06\x0c\x0e](?:"  # a type byte; all alternatives begin behind it, which lets the search skip ahead
    rb"[^\x00]+\x00"  # and a field name
    rb"|\x00(?!\x00\x00)"  # or no name; a string's length looks like 0c 00 00 00
    rb"|(?<=[\x0c\x0e])\x00\x00\x00[^\x00]\x00"  # the same where the value's own length is a multiple of 65,536
    # Undefined without a name, at the end of a subdocument. A string of five characters looks like it (06 00 00 00),
    # unless its first character is a type byte: then it may be the next element behind the ends of two documents.
    rb"|(?<=\x06)\x00\x00(?!\x00[^\x00-\x13\x7f\xff][^\x00]{4}\x00))"
)
_NAMES = {0x06: "undefined", 0x0C: "DBPointer", 0x0E: "symbol"}


def refuse_deprecated(document: bytes) -> None:
    """Raises UnsupportedType, with the field's path, if the BSON document has a value of a deprecated type."""
    # Looking for a byte is a hundred times as quick as the expression, and often enough.
    if (b"\x06" in document or b"\x0c" in document or b"\x0e" in document) and _CANDIDATE.search(document):
        _walk(document, 4, "")


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
