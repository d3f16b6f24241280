"""Documents as raw BSON: decoding them, and ids as BSON of {"": id}, which are exact and compare with ==."""

from __future__ import annotations

from typing import Any

import bson
from bson.errors import BSONError

from docferry.core.codec import BSON_OPTIONS
from docferry.core.deprecated import refuse_deprecated
from docferry.core.keys import render_value
from docferry.core.mapping import Item, Mapping, check_size
from docferry.errors import UnsupportedType

MEASURED_BYTES = 50_000
_LENIENT = BSON_OPTIONS.with_options(unicode_decode_error_handler="replace")
"""For reading an id out of a document whose other strings may not be valid UTF-8."""


def decode_document(data: bytes) -> dict[str, Any]:
    """The document. Raises UnsupportedType for what is no valid BSON."""
    try:
        return bson.decode(data, BSON_OPTIONS)
    except BSONError as error:
        raise UnsupportedType(f"is not valid BSON: {type(error).__name__}") from error


def encode_raw(mapping: Mapping, data: bytes, version: int) -> list[Item]:
    """The items of a document in BSON, root first. Raises DocumentError if it cannot be stored.

    Only items of documents that are not small are measured here; the writer measures the bytes of every item anyway.
    """
    refuse_deprecated(data)
    items = mapping.encode(decode_document(data), version)
    if len(data) > MEASURED_BYTES:
        for item in items:
            check_size(item)
    return items


def id_bytes(value: Any) -> bytes:
    """An id as BSON of {"": id}."""
    return bson.encode({"": value})


def id_value(data: bytes) -> Any:
    """The inverse of `id_bytes`."""
    return bson.decode(data, BSON_OPTIONS)[""]


def id_of(document: bytes) -> bytes:
    """A document's id, as `id_bytes`."""
    return id_bytes(bson.decode(document, _LENIENT)["_id"])


def id_text(document: bytes) -> str:
    """A document's id as key text: what dead letters and reports call it by."""
    return render_value(bson.decode(document, _LENIENT).get("_id"))
