"""Documents as raw BSON: decoding them, and ids as BSON of {"": id}, which are exact and compare with ==."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import bson
from bson.errors import BSONError
from bson.regex import Regex

from docferry.core.bson_codec.bson_bytes import ARRAY, DOCUMENT, document_of, find_value
from docferry.core.bson_codec.decode import decode_value
from docferry.core.bson_codec.deprecated_types import refuse_deprecated
from docferry.core.bson_codec.hints import HintTree
from docferry.core.bson_codec.options import BSON_OPTIONS, sorted_bytes
from docferry.core.bson_codec.shown import invalid_text_path
from docferry.core.limits import ITEM_BYTES, SORT_KEY_BYTES
from docferry.core.mapping.items import Item
from docferry.core.mapping.key_templates import render_value
from docferry.core.mapping.mapping import DocumentMapping
from docferry.errors import DocumentError, OutsideFilter, UnsupportedType

SURELY_SMALL = 800
"""A document this short makes no item over 400 KB, even if every second byte were a field with a hint: the hint's pointer
is as long as the document at most."""


def decode_document(data: bytes) -> dict[str, Any]:
    """The document. Raises UnsupportedType for what is no valid BSON."""
    try:
        return bson.decode(data, BSON_OPTIONS)
    except BSONError as error:
        if path := invalid_text_path(data):
            raise UnsupportedType(f"{path} holds text that is not valid UTF-8", path=path) from error
        raise UnsupportedType(f"is not valid BSON: {type(error).__name__}") from error


def encode_raw(mapping: DocumentMapping, data: bytes, version: int) -> list[Item]:
    """The items of a document in BSON, root first and guards last. Raises DocumentError if it cannot be stored."""
    return encode_decoded(mapping, data, decode_document(data), version)


def encode_decoded(mapping: DocumentMapping, data: bytes, document: dict[str, Any], version: int) -> list[Item]:
    """The same of `data` that is decoded already."""
    refuse_deprecated(data, document)
    items = mapping.encode(document, version)
    _refuse_too_large(mapping, items, len(data))
    return [*items, *mapping.guard_items(document, version)] if mapping.unique else items


def guards_in(mapping: DocumentMapping, data: bytes, version: int) -> list[Item]:
    """The guard items alone, of a document whose other items are made without decoding it. Raises DocumentError."""
    return mapping.guard_items(_only(data, mapping.guard_fields), version)


def require_inside(mapping: DocumentMapping, data: bytes) -> None:
    """Raises: OutsideFilter for a document that is none to be migrated; FilterUndecided, UnsupportedType."""
    if mapping.filter is not None:
        mapping.filter.require(_only(data, [name.encode() for name in mapping.filter.top_fields]))


def is_outside(mapping: DocumentMapping, data: bytes) -> bool:
    """Whether a document is surely none that is migrated. One of which that cannot be told has a dead letter."""
    try:
        require_inside(mapping, data)
    except OutsideFilter:
        return True
    except DocumentError:
        return False
    return False


def _only(data: bytes, names: Iterable[bytes]) -> dict[str, Any]:
    """Some fields of the top level, decoded."""
    fields = []
    for name in names:
        with suppress(KeyError):
            kind, value = find_value(data, name)
            fields.append((kind, name, value))
    return decode_document(document_of(*fields))


def _refuse_too_large(mapping: DocumentMapping, items: Sequence[Item], document_bytes: int) -> None:
    """Before anything is written: a document of which one item is too large must not leave its other items behind."""
    if mapping.transform is not None:
        mapping.check_sizes(items)
        return
    if document_bytes < SURELY_SMALL:
        return
    for item in items:
        hints = item["_t"]["M"] if "_t" in item else {}
        # Outside the hints an item is never three times as long as its document; most need no closer look.
        said = (
            sum(len(hint["S"]) for hint in hints.values()) if mapping.keeps_order else 0
        )  # as long as there are fields
        if document_bytes * 3 + sum(map(len, hints)) + said + 16 * len(hints) > ITEM_BYTES - SORT_KEY_BYTES * 8:
            mapping.check_sizes((item,))


def id_bytes(value: Any) -> bytes:
    """An id as BSON of {"": id}."""
    return bson.encode({"": value})


def id_of(document: bytes) -> bytes:
    """A document's id as `id_bytes`, cut out and not decoded: it may not even be valid UTF-8."""
    kind, value = find_value(document, b"_id")
    return document_of((kind, b"", value))


def id_name(id_data: bytes) -> str:
    """An id as key text: what dead letters, reports and labels call a document by."""
    try:
        return render_value(bson.decode(id_data, BSON_OPTIONS)[""])
    except BSONError:
        return "~x" + base64.urlsafe_b64encode(id_data).decode().rstrip("=")


def id_text(document: bytes) -> str:
    """`id_name` of a document's id."""
    return id_name(id_of(document))


def id_document(id_data: bytes) -> bytes:
    """BSON of {_id: id}, for min(), max() and filters."""
    kind, value = find_value(id_data, b"")
    return document_of((kind, b"_id", value))


def item_id(item: Item) -> bytes | None:
    """The id of the document that an item names, as BSON of {"": id}; None if it names none that MongoDB could hold."""
    if "_id" not in item:
        return None
    hints: dict[str, Any] = item.get("_t", {}).get("M", {})
    tree = HintTree({name: hint["S"] for name, hint in hints.items() if name.startswith("/_id") and "S" in hint})
    value = decode_value(item["_id"], tree.root.get("_id"), tree, "oid")
    if isinstance(value, list | Regex) or (isinstance(value, dict) and any(name[:1] == "$" for name in value)):
        return None
    return id_bytes(value)


def ids_filter(ids: Sequence[bytes]) -> bytes:
    """BSON of {_id: {$in: [ids]}}."""
    found = [find_value(one, b"") for one in ids]
    array = document_of(*((kind, str(index).encode(), value) for index, (kind, value) in enumerate(found)))
    return document_of((DOCUMENT, b"_id", document_of((ARRAY, b"$in", array))))


def same_content(one: bytes, other: bytes, *, ordered: bool = False) -> bool:
    """Whether two documents hold the same, types included; `ordered`: with their fields in one order."""
    if one == other:
        return True
    bytes_of = _as_read if ordered else sorted_bytes
    return bytes_of(decode_document(one)) == bytes_of(decode_document(other))


def _as_read(document: dict[str, Any]) -> bytes:
    """References have the order of fields in which drivers write them."""
    return bson.encode(document, codec_options=BSON_OPTIONS)
