"""Vectors of a collection that keeps the order of fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from docferry.core.mapping.mapping import DocumentMapping
from docferry.testing.vectors_documents import USER, VERSION, extended, mapping


def ordering() -> DocumentMapping:
    """Of `users`, which keeps the order of fields."""
    return DocumentMapping(replace(mapping("users").settings, order="keep"))


def order() -> dict[str, Any]:
    """A document and its items with their orders; and one of which an order does not fit any more."""
    two = [{"z": 1, "a": {"y": 2, "x": 3}}, {"z": 4, "a": {"y": 5, "x": 6}}]
    wide = {f"f{number:02d}": number for number in range(37, 0, -1)}
    document = {**USER, "~x": {"": 1, "PK": 2}, "alike": two, "unlike": [two[0], {"a": 1, "b": 2}], "wide": wide}
    items = ordering().encode(document, VERSION)
    root = items[0] | {"visits2": {"N": "6"}}
    unfit = ordering().decode([root, *items[1:]]).document
    return {
        "document": extended(document), "items": items, "unfit": {"items": [root, *items[1:]], "document": extended(unfit)},
    }  # fmt: skip
