"""BSON's kinds of values, in words, and documents as real BSON."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import bson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from docferry.core.bson_codec.options import BSON_OPTIONS

Document = dict[str, Any]
T = TypeVar("T")
BSON_KINDS: Final = frozenset({
    "double", "string", "document", "array", "binary", "object id", "bool", "date", "date out of range", "null", "regex",
    "code", "code with scope", "int32", "timestamp", "int64", "decimal128", "min key", "max key", "dbref",
})  # fmt: skip
"""Every kind of value that `bson_values` draws, in the words of `kind_of`."""
AWKWARD_NAMES: Final = (
    "", "~", "~~", "~0", "/", "a/b", ".", "a.b", "..", "$", "$set", "$id", "#", "PK", "SK", "~PK", "_v", "_t", "_i", "_id",
    "_ttl", "_digest", "_deleted", "GSI1PK", "GSI1SK", "GSI2PK", "entityType", "-", "0", "1", "index", "名前", "🦜", "Größe",
    "e\u0301", " ", "\n", "__proto__", "userId", "firstName", "type",
)  # fmt: skip
"""Field names that a mapping must not trip over: its own words, pointer and path syntax, nothing at all."""


def real(document: Mapping[str, Any]) -> Document:
    """The document as pymongo reads it back from BSON."""
    return bson.decode(bson.encode(document), BSON_OPTIONS)


def real_value(value: T) -> T:
    found: T = real({"v": value})["v"]
    return found


def kind_of(value: Any) -> str:
    """The BSON type of a value that pymongo has read, in words; it tells everything apart that BSON does."""
    kind = _KINDS.get(type(value))
    if kind is None:
        raise TypeError(f"{type(value).__name__} is not what pymongo reads BSON as")
    return "code with scope" if kind == "code" and value.scope is not None else kind


_KINDS: Final[Mapping[type, str]] = {
    float: "double",
    str: "string",
    dict: "document",
    list: "array",
    bytes: "binary",
    Binary: "binary",
    ObjectId: "object id",
    bool: "bool",
    datetime: "date",
    DatetimeMS: "date out of range",
    type(None): "null",
    Regex: "regex",
    Code: "code",
    int: "int32",
    Timestamp: "timestamp",
    Int64: "int64",
    Decimal128: "decimal128",
    MinKey: "min key",
    MaxKey: "max key",
    DBRef: "dbref",
}


def kinds_in(value: Any) -> set[str]:
    """The kinds of a value and of everything inside it."""
    found = {kind_of(value)}
    inner: Iterable[Any] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    elif isinstance(value, DBRef):
        inner = value.as_doc().values()
    elif isinstance(value, Code) and value.scope is not None:
        inner = value.scope.values()
    for one in inner:
        found |= kinds_in(one)
    return found


def canonical_bson(value: Any) -> bytes:
    """A document as BSON with its fields sorted at every level: equal bytes mean equal in BSON, types and all.

    What holds an order of its own stays as it is: arrays, and documents inside a Code's scope or in the `_id`.
    """
    return bson.encode({name: inner if name == "_id" else _sorted(inner) for name, inner in sorted(value.items())})


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    if isinstance(value, DBRef):
        return _sorted(dict(value.as_doc()))
    return value


def raw_element(kind: int, name: str, value: bytes = b"") -> bytes:
    """One BSON element by hand, for types that no driver writes any more."""
    return bytes([kind]) + name.encode() + b"\0" + value


def raw_document(*elements: bytes) -> bytes:
    """A BSON document of elements made by hand."""
    content = b"".join(elements)
    return struct.pack("<i", len(content) + 5) + content + b"\0"
