"""DBRef: a subdocument like others, which drivers read as a type of its own.

Paths lead into it (`owner.$id`) as MongoDB's own do. What is taken apart comes back as a driver would have read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.dbref import DBRef

_OWN = ("$ref", "$id", "$db")


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """The fields of a subdocument, None for anything else."""
    if isinstance(value, dict):
        return value
    return value.as_doc() if isinstance(value, DBRef) else None


def reference_of(document: dict[str, Any]) -> dict[str, Any] | DBRef:
    """A subdocument as drivers read it: a DBRef, if it has the fields of one with values of their types."""
    if "$id" not in document or not isinstance(document.get("$ref"), str):
        return document
    if not isinstance(document.get("$db"), str | None):
        return document
    extra = {name: value for name, value in document.items() if name not in _OWN}
    return DBRef(document["$ref"], document["$id"], document.get("$db"), extra)
