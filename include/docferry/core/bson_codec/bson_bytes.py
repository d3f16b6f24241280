"""Finding one's way in BSON without decoding it. Source: bsonspec.org, version 1.1, read 2026-11-22."""

from __future__ import annotations

import struct
from typing import Final

DOCUMENT, ARRAY, SCOPED_CODE = 0x03, 0x04, 0x0F
_FIXED: Final = {
    0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0,
}  # fmt: skip
_STRINGS: Final = frozenset({0x02, 0x0D, 0x0E})
_int32 = struct.Struct("<i")


def value_end(kind: int, data: bytes, at: int) -> int:
    """Where the value of type `kind` that begins at `at` ends. Raises ValueError for an unknown type."""
    size = _FIXED.get(kind)
    if size is not None:
        return at + size
    if kind in (DOCUMENT, ARRAY, SCOPED_CODE):
        return at + int32_at(data, at)
    if kind in _STRINGS:
        return at + 4 + int32_at(data, at)
    if kind == 0x05:  # binary: length, subtype, bytes
        return at + 5 + int32_at(data, at)
    if kind == 0x0B:  # regex: two C strings
        return data.index(b"\x00", data.index(b"\x00", at) + 1) + 1
    if kind == 0x0C:  # DBPointer: string, ObjectId
        return at + 4 + int32_at(data, at) + 12
    raise ValueError(f"0x{kind:02x} is no BSON type")


def int32_at(data: bytes, at: int) -> int:
    """The little-endian 32-bit integer at a place."""
    return int(_int32.unpack_from(data, at)[0])


def find_value(document: bytes, name: bytes) -> tuple[int, bytes]:
    """(type, bytes) of a top-level field. Raises KeyError if there is none."""
    at = 4
    while kind := document[at]:
        end = document.index(b"\x00", at + 1)
        stop = value_end(kind, document, end + 1)
        if document[at + 1 : end] == name:
            return kind, document[end + 1 : stop]
        at = stop
    raise KeyError(name)


def document_of(*fields: tuple[int, bytes, bytes]) -> bytes:
    """A BSON document of (type, name, value bytes)."""
    body = b"".join(bytes([kind]) + name + b"\x00" + value for kind, name, value in fields)
    return _int32.pack(len(body) + 5) + body + b"\x00"
