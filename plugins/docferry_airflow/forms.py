"""What a person may choose when a DAG is started: parameters with a title, a description and a section of the form.

Airflow checks them against their JSON schema when a run is asked for; what the schema cannot say (a name that has to be typed
only where something is changed) the operators check, before they change anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

if TYPE_CHECKING:
    from docferry.config import Migration

SCOPE, HOW, SAFETY = "What it works on", "How", "Safety"
"""Sections of the forms, in this order: which part of the migration, bounds and ways, and what must be said before it changes
anything."""


def flag(title: str, description: str, on: bool = False, section: str = HOW) -> Param:
    """A switch; off until a person turns it on, or the other way round."""
    return Param(on, type="boolean", title=title, description=description, section=section)


def dry_run(description: str = "Only say what would be done, and what would refuse it.", on: bool = False) -> Param:
    """Whether a run changes anything. What mends is a dry run until a person says otherwise."""
    return flag("Dry run", description, on, SAFETY)


def confirmation(migration: Migration) -> Param:
    """The migration's name, typed by who wants data changed: `require_typed` of the operators compares it."""
    text = f"Type {migration.name} to have anything changed. A dry run needs none."
    return Param("", type="string", title="The migration's name", description=text, section=SAFETY)


def text(title: str, description: str, section: str = HOW) -> Param:
    """A line of text that may be left out."""
    return Param("", type="string", title=title, description=description, section=section)


def lines(title: str, description: str, section: str = SCOPE) -> Param:
    """Any number of texts, one a line."""
    return Param([], type="array", items={"type": "string"}, title=title, description=description, section=section)


def one_of(title: str, choices: Sequence[str], description: str, section: str = HOW) -> Param:
    """One of these; the first unless a person says otherwise."""
    return Param(choices[0], enum=list(choices), title=title, description=description, section=section)


def some_of(title: str, choices: Sequence[Any], description: str, section: str = SAFETY) -> Param:
    """Any of these; none unless a person says otherwise."""
    items = {"type": "string", "enum": list(choices)}
    return Param([], type="array", items=items, title=title, description=description, section=section)


def some_collections(migration: Migration) -> Param:
    """A choice of collections; none chosen means all."""
    names: Sequence[str] = list(migration.mappings)
    items = {"type": "string", "enum": names}
    text = "Only these collections; none means all."
    return Param([], type="array", items=items, examples=names, title="Collections", description=text, section=SCOPE)


def whole_number(title: str, description: str, section: str = HOW) -> Param:
    """A number that may be left out."""
    return Param(None, type=["null", "integer"], minimum=1, title=title, description=description, section=section)


def number(title: str, value: float, description: str, section: str = HOW, **bounds: float) -> Param:
    """A number within bounds: `minimum`, `maximum`, `exclusiveMinimum`. Whole if its default is."""
    kind = "integer" if isinstance(value, int) else "number"
    schema: dict[str, Any] = {"type": kind, "title": title, "section": section, **bounds}
    return Param(value, description=description, **schema)
