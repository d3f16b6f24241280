"""What to do about a call that was counted as one that DynamoDB cannot serve: by its shape, all that is known of it. Pure.

advice_on(shape, mappings) -> str
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from docferry.core.access.calls import (
    CLIENT_CALLS,
    COLLECTION_CALLS,
    CURSOR_CALLS,
    DATABASE_CALLS,
    SERVED_CALLS,
    instead_of_options,
)
from docferry.core.access.read_plan import suggestion
from docferry.core.mapping.mapping import DocumentMapping

_SHAPE = re.compile(
    r"(?P<collection>.+)\.(?P<method>\w+)(?: [^(]*)?\((?P<fields>[^;]*)(?:; (?P<options>.*))?\)", re.DOTALL
)
UNTOLD = "what was called is not told: more shapes were counted than are kept"


def advice_on(shape: str, mappings: Mapping[str, DocumentMapping]) -> str:
    """What to write or declare instead. `shape` as `shape_of` or `shape_of_call` makes it, also one that was cut short."""
    found = _SHAPE.fullmatch(shape) or _SHAPE.fullmatch(f"{shape})")
    if found is None:
        return UNTOLD
    collection, method = found["collection"], found["method"]
    options = (found["options"] or "").split(", ") if found["options"] else []
    table = {**CLIENT_CALLS, **DATABASE_CALLS} if collection == "database" else {**CURSOR_CALLS, **COLLECTION_CALLS}
    if method == "aggregate" and collection != "database":
        return SERVED_CALLS[method].instead
    if method in table and method not in SERVED_CALLS:
        return table[method].instead
    if collection not in mappings:
        return f"add {collection} to the file's collections"
    if options:
        return instead_of_options(options)
    fields = [one.split(" ")[0] for one in found["fields"].split(", ")]
    return suggestion(mappings[collection], dict.fromkeys(filter(_is_named, fields), True))


def _is_named(field: str) -> bool:
    return field not in ("", "nothing")
