"""Calls by a driver's name on what cannot be known: which of them are listed as a driver's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from docferry.core.source.program import syntax as s
from docferry.core.source.program.drivers import (
    DISTINCT_NAMES,
    JAVASCRIPT,
    MONGOOSE,
    PYTHON,
    SHARED_NAMES,
    TO_COLLECTION,
    Method,
)
from docferry.core.source.program.recording import Arguments
from docferry.core.source.program.values import (
    CollectionHandle,
    DatabaseHandle,
    Fields,
    FunctionValue,
    Kind,
    Module,
    Plain,
    Several,
    Thing,
    Unknown,
    Value,
)

_LISTED = frozenset({"find", "aggregate", "distinct"})
"""Common names that are listed in a file which uses a driver, whatever they are given."""
_HOLDER = re.compile(r"(coll|collection|model|repo|repository)s?$", re.IGNORECASE)


def handle_of(receiver: Value, name: str, given: Arguments, driver: str) -> Value | None:
    """A database or collection out of a connection that cannot be known."""
    first = given.first()
    text = first.value if isinstance(first, Plain) and isinstance(first.value, str) else None
    if not isinstance(receiver, Unknown):
        return None
    if name in TO_COLLECTION and text is not None:
        return CollectionHandle(text, driver)
    return DatabaseHandle() if name in ("db", "get_database", "get_default_database") else None


def guessed(
    member: s.MemberNode, receiver: Value, given: Arguments, program: s.Program, *, uses: bool
) -> tuple[Method, str] | None:
    """(the method, its driver); None: no driver's call. `uses`: the file uses a driver."""
    sure = member.name in DISTINCT_NAMES and isinstance(receiver, Thing | Kind | Module | FunctionValue)
    if not (isinstance(receiver, Unknown) or sure) or not _looks_like_one(member, given, program, uses):
        return None
    if program.python:
        return (PYTHON[member.name], "pymongo") if member.name in PYTHON else None
    if member.name in JAVASCRIPT:
        return JAVASCRIPT[member.name], "mongodb"
    return (MONGOOSE[member.name], "mongoose") if member.name in MONGOOSE else None


def _looks_like_one(member: s.MemberNode, given: Arguments, program: s.Program, uses: bool) -> bool:
    name, first = member.name, given.first()
    if name in DISTINCT_NAMES:
        return (name in PYTHON) == program.python
    table: Mapping[str, Any] = PYTHON if program.python else MONGOOSE
    if name not in table:
        return False
    if name in SHARED_NAMES or (name in _LISTED and isinstance(first, Unknown)):
        return uses
    if isinstance(first, Fields) and name in ("find", "remove", "count", "distinct", "exists"):
        return True
    if isinstance(first, Several) and name == "aggregate":
        return True
    on = member.of
    called = on.name if isinstance(on, s.MemberNode) else on.id if isinstance(on, s.Name) else ""
    return bool(_HOLDER.search(called)) and not isinstance(first, FunctionValue) and name != "options"
