"""Transforms for tests, as a user would write them."""

from __future__ import annotations

from typing import Any

from docferry import Transform

Document = dict[str, Any]


def _swap(document: Document) -> Document:
    """Two fields change places; the inverse of itself, for every document."""
    one, other = document.pop("n", _NOWHERE), document.pop("profile", _NOWHERE)
    return document | {name: value for name, value in (("n", other), ("profile", one)) if value is not _NOWHERE}


def _rename(document: Document) -> Document:
    """Two fields change their names, each in its place; the inverse of itself, too."""
    return {{"n": "profile", "profile": "n"}.get(name, name): value for name, value in document.items()}


renamed = Transform(forward=_rename, back=_rename)
_NOWHERE = object()
swapped = Transform(forward=_swap, back=_swap)


def _kinds_apart(document: Document) -> Document:
    """The parts of a document (which are its children), each with a word more; and the document with how many it has."""
    parts = document.get("parts")
    if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
        document |= {"parts": [{**part, "~of": len(parts)} for part in parts], "~parts": len(parts)}
    return document


def _kinds_together(document: Document) -> Document:
    if document.pop("~parts", None) is not None:
        # An empty array stays in the root: nothing to be taken away.
        document["parts"] = [
            {name: value for name, value in part.items() if name != "~of"} for part in document["parts"]
        ]
    return document


counted = Transform(forward=_kinds_apart, back=_kinds_together)
"""One changed part changes all items: what an update did not touch is written again, too."""
