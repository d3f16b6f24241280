"""A transform of the user's own: what is stored of a document, where the mapping cannot say it.

The user's functions are trusted for nothing. Each document that is stored is proved on the way in: what `forward` makes of it
comes back by `back`, to the BSON type (whatever the order of its fields, unless the file keeps it), and has the same keys. One
that does not is a dead letter, as any document is that cannot be stored. So every path stays what it is: keys, filters and index
templates are of the document as the application knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError

from docferry.core.bson_codec.options import BSON_OPTIONS, sorted_bytes, sorted_fields
from docferry.errors import TransformFailed

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Transform:
    """A pair of pure functions, document to document and back; a migration file names it as `transform: module:name`.

    Both get a document of pymongo's types that is theirs to change, and return a document. Without I/O, clock or chance: the
    same document gives the same, in every process. `forward` keeps `_id` and all fields of keys, indexes and their conditions.
    """

    forward: Callable[[Document], Document]
    back: Callable[[Document], Document]


def stored_form(transform: Transform, document: Document, *, ordered: bool = False) -> Document:
    """What is stored of a document. Raises TransformFailed, also if it would not come back as it is; `ordered`: in its order."""
    made = _called("forward", transform.forward, document)
    _bytes_of("forward", made)
    if ordered:
        returned = _called("back", transform.back, _id_first(made))
        if _bytes_of("back", returned) == sorted_bytes(document) and _in_order(returned) != _in_order(document):
            raise TransformFailed(
                "transform: back(forward(document)) has its fields in another order, and the file says order: keep"
            )
    else:
        returned = _called("back", transform.back, sorted_fields(made))  # DynamoDB does not keep the order of fields
    if _bytes_of("back", returned) != sorted_bytes(document):
        raise TransformFailed(
            f"transform: back(forward(document)) is another document: {_different(document, returned)}"
        )
    return made


def _id_first(document: Document) -> Document:
    """As it is read back."""
    return {"_id": document["_id"], **document} if "_id" in document else document


def _in_order(document: Document) -> bytes:
    return bson.encode(_id_first(document), codec_options=BSON_OPTIONS)


def restored(transform: Transform, document: Document) -> Document:
    """The application's document again, of what is stored. Raises TransformFailed."""
    return _called("back", transform.back, document)


def _called(name: str, function: Callable[[Document], Document], document: Document) -> Document:
    """One call. What it raises is told by its kind alone: its message may quote the document."""
    try:
        found: Any = function(deepcopy(document))
    except Exception as error:  # noqa: BLE001 - another's code, in which anything may happen
        raise TransformFailed(f"transform: {name} raised {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise TransformFailed(f"transform: {name} returned no document but {type(found).__name__}")
    return found


def _bytes_of(name: str, document: Document) -> bytes:
    try:
        return sorted_bytes(document)
    except (BSONError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise TransformFailed(f"transform: what {name} returned is no BSON document: {type(error).__name__}") from None


def _different(one: Document, other: Document) -> str:
    """The first field that differs, by its name: values stay out of messages."""
    names = (
        name
        for name in dict.fromkeys((*one, *other))
        if name not in one or name not in other or _differ(one, other, name)
    )
    return f"{next(names)} differs"


def _differ(one: Document, other: Document, name: str) -> bool:
    return sorted_bytes({"": one[name]}) != sorted_bytes({"": other[name]})
