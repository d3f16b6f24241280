"""BSON for a person to read, whatever is in it: text that is not valid UTF-8, and the types that drivers hide.

A driver either refuses such a document, or shows undefined as null, a symbol as a string and a DBPointer as a DBRef.
Here they look as MongoDB's Extended JSON specification writes them (`$undefined`, `$symbol`, `$dbPointer`), and a byte that
is not UTF-8 as `\\xNN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from docferry.core.bson_codec.bson_bytes import ARRAY, DOCUMENT, document_of, int32_at, value_end

STRING, UNDEFINED, DB_POINTER, SYMBOL = 0x02, 0x06, 0x0C, 0x0E
_OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="backslashreplace"
)


@dataclass(slots=True)
class ShownDocument:
    """A document for `bson.json_util.dumps`, and where its text is not valid UTF-8."""

    document: dict[str, Any] = field(default_factory=dict)
    invalid_text: list[str] = field(default_factory=list)
    """The paths, in the order of the document."""


def show_document(data: bytes) -> ShownDocument:
    """The document. Raises ValueError or IndexError for bytes that are no BSON at all."""
    found = ShownDocument()
    found.document = dict(_fields(data, "", found.invalid_text))
    return found


def invalid_text_path(data: bytes) -> str:
    """The path of the first text that is not valid UTF-8; '' if there is none, or if the bytes are no BSON."""
    try:
        return next(iter(show_document(data).invalid_text), "")
    except (BSONError, ValueError, IndexError):
        return ""


def _fields(data: bytes, path: str, invalid: list[str]) -> Iterator[tuple[str, Any]]:
    at = 4
    while kind := data[at]:
        end = data.index(b"\x00", at + 1)
        stop = value_end(kind, data, end + 1)
        name = _text(data[at + 1 : end], path, invalid)
        yield name, _value(kind, data[end + 1 : stop], f"{path}.{name}" if path else name, invalid)
        at = stop


def _value(kind: int, value: bytes, path: str, invalid: list[str]) -> Any:
    if kind == DOCUMENT:
        return dict(_fields(value, path, invalid))
    if kind == ARRAY:
        return [inner for _, inner in _fields(value, path, invalid)]
    show = _SHOWN.get(kind)
    if show is not None:
        return show(value, path, invalid)
    return bson.decode(document_of((kind, b"", value)), _OPTIONS)[""]


def _text(data: bytes, path: str, invalid: list[str]) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        invalid.append(path)
        return data.decode(errors="backslashreplace")


def _string(value: bytes, path: str, invalid: list[str]) -> str:
    return _text(value[4 : 3 + int32_at(value, 0)], path, invalid)


def _db_pointer(value: bytes, path: str, invalid: list[str]) -> dict[str, Any]:
    return {"$dbPointer": {"$ref": _string(value, path, invalid), "$id": ObjectId(value[-12:])}}


_SHOWN: Final[dict[int, Callable[[bytes, str, list[str]], Any]]] = {
    STRING: _string,
    SYMBOL: lambda value, path, invalid: {"$symbol": _string(value, path, invalid)},
    UNDEFINED: lambda value, path, invalid: {"$undefined": True},
    DB_POINTER: _db_pointer,
}
