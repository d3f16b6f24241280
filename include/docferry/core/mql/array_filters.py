"""Which elements of an array `$[name]` in an update's path stands for: the call's `array_filters`.

Source: MongoDB 6.0 manual, "$[<identifier>]", read 2026-11-29; held against a real mongod by property tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from docferry.core.mql.filters import compile_filter
from docferry.core.mql.update_errors import BAD_VALUE, FAILED_TO_PARSE, TYPE_MISMATCH
from docferry.core.mql.values import Document, as_bson, type_name
from docferry.errors import UpdateRefused

Element = Callable[[Any], bool]
"""Whether an element of an array is meant."""
_NAME: Final = re.compile(r"[a-z][a-zA-Z0-9]*")


def parse_array_filters(filters: Sequence[Any] | None, *, ordered: bool = False) -> dict[str, Element]:
    """By the name of each; `ordered` as `compile_filter` has it.

    Raises: UpdateRefused where MongoDB refuses them; CallRefused for what no query may ask here.
    """
    found: dict[str, Element] = {}
    for one in as_bson({"": list(filters or ())})[""]:
        if not isinstance(one, dict):
            raise UpdateRefused(TYPE_MISMATCH, f"An array filter is a document, not of type {type_name(one)}")
        name = _name_of(one)
        if name in found:
            raise UpdateRefused(
                FAILED_TO_PARSE, f"Found multiple array filters with the same top-level field name {name}"
            )
        found[name] = _element(name, one, ordered)
    return found


def _element(name: str, one: Document, ordered: bool) -> Element:
    compiled = compile_filter(one, ordered=ordered)
    return lambda value: compiled.matches({name: value})


def _name_of(one: Document) -> str:
    names = list(dict.fromkeys(_names(one)))
    if not names:
        raise UpdateRefused(FAILED_TO_PARSE, "Cannot use an expression without a top-level field name in arrayFilters")
    if len(names) > 1:
        raise UpdateRefused(
            FAILED_TO_PARSE, f"Expected a single top-level field name, found '{names[0]}' and '{names[1]}'"
        )
    if not _NAME.fullmatch(names[0]):
        raise UpdateRefused(
            BAD_VALUE, "The top-level field name must be an alphanumeric string beginning with a lowercase letter"
        )
    return names[0]


def _names(query: Mapping[str, Any]) -> Iterator[str]:
    for name, value in query.items():
        if name in ("$and", "$or", "$nor") and isinstance(value, list):
            for clause in value:
                if isinstance(clause, Mapping):
                    yield from _names(clause)
        elif name[:1] != "$":
            yield name.partition(".")[0]
