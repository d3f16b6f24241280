"""pymongo's options of a call, by name, however an application gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MORE: Mapping[str, Sequence[str]] = {
    "insert_one": ("bypass_document_validation", "session", "comment"),
    "insert_many": ("bypass_document_validation", "session", "comment"),
    "update_one": (
        "bypass_document_validation", "collation", "array_filters", "hint", "session", "let", "sort", "comment",
    ),
    "replace_one": ("bypass_document_validation", "collation", "hint", "session", "let", "sort", "comment"),
    "delete_one": ("collation", "hint", "session", "let", "comment"),
    "find_one_and_update": ("upsert", "return_document", "array_filters", "hint", "session", "let", "comment"),
}  # fmt: skip
"""pymongo's parameters behind those that are written out below, in their order."""
_ANY = frozenset({"find_one_and_update"})
"""Which take MongoDB's own options, too."""


def named_options(method: str, more: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """All options by name. Raises: TypeError as pymongo does."""
    known = MORE[method]
    if not more and (options.keys() <= set(known) or method in _ANY):
        return options
    if len(more) > len(known):
        raise TypeError(f"{method}() takes {len(more) - len(known)} positional argument(s) fewer")
    given = dict(zip(known, more, strict=False))
    if twice := given.keys() & options.keys():
        raise TypeError(f"{method}() got multiple values for argument '{min(twice)}'")
    if method not in _ANY and (unknown := options.keys() - set(known)):
        raise TypeError(f"{method}() got an unexpected keyword argument '{min(unknown)}'")
    return given | options
