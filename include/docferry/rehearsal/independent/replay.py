"""What a write makes of a document, by MongoDB's manual: as much of it as the drill's application asks for. Without docferry.

Sources: MongoDB 6.0 manual, "Update Operators", read 2026-11-24.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from docferry.rehearsal.independent.appearance import canonical

Document = dict[str, Any]
State = Document | None
"""A document as it is; None where there is none."""
REFUSED = "DuplicateKeyError"
_MISSING = object()


def replay(state: State, write: Mapping[str, Any]) -> tuple[State, Any]:
    """(what is there afterwards, what the write must have been told) of one write of a history."""
    method, argument = write["method"], write["argument"]
    if method == "insert_one":
        return (dict(argument), {"inserted": 1}) if state is None else (state, REFUSED)
    if state is None or not matches(state, write["query"]):
        nothing = {"delete_one": {"deleted": 0}, "find_one_and_update": {"document": None}}
        return state, nothing.get(method, {"matched": 0, "modified": 0})
    if method == "delete_one":
        return None, {"deleted": 1}
    after = {"_id": state["_id"], **argument} if method == "replace_one" else updated(state, argument)
    if method == "find_one_and_update":
        return after, {"document": after}
    return after, {"matched": 1, "modified": int(canonical(after) != canonical(state))}


def matches(state: Document, query: Mapping[str, Any]) -> bool:
    """Equality of top-level fields is all that is asked for."""
    return all(canonical(state.get(name)) == canonical(value) for name, value in query.items())


def updated(state: Document, update: Mapping[str, Mapping[str, Any]]) -> Document:
    after = copy.deepcopy(state)
    for operator, fields in update.items():
        for path, argument in fields.items():
            *steps, name = path.split(".")
            inner: Any = after
            for step in steps:
                inner = inner.get(step, _MISSING) if operator == "$unset" else inner.setdefault(step, {})
                if inner is _MISSING:
                    break
            if inner is not _MISSING:
                _OPERATORS[operator](inner, name, argument)
    return after


def _set(inner: Document, name: str, argument: Any) -> None:
    inner[name] = argument


def _unset(inner: Document, name: str, argument: Any) -> None:
    inner.pop(name, None)


def _inc(inner: Document, name: str, argument: Any) -> None:
    inner[name] = inner.get(name, 0) + argument


def _min(inner: Document, name: str, argument: Any) -> None:
    inner[name] = min(inner.get(name, argument), argument)


def _max(inner: Document, name: str, argument: Any) -> None:
    inner[name] = max(inner.get(name, argument), argument)


def _push(inner: Document, name: str, argument: Any) -> None:
    inner.setdefault(name, []).append(argument)


def _add_to_set(inner: Document, name: str, argument: Any) -> None:
    there = inner.setdefault(name, [])
    if all(canonical(one) != canonical(argument) for one in there):
        there.append(argument)


def _pull(inner: Document, name: str, argument: Mapping[str, Any]) -> None:
    if name in inner:
        inner[name] = [one for one in inner[name] if not matches(one, argument)]


_OPERATORS: Mapping[str, Callable[[Document, str, Any], None]] = {
    "$set": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$min": _min,
    "$max": _max,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
}
