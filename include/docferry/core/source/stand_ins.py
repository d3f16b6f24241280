"""Values in place of those that only a running application knows, so that a call can be made. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from bson.objectid import ObjectId

from docferry.core.access.parameters import typed
from docferry.core.access.read_plan import nested
from docferry.core.mapping.item_plan import AnyOf, Exists
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.source.calls import SOME
from docferry.errors import CallRefused

_TEXT: Final = "x"
_OID, _DATE = "5" * 24, "2024-01-01"
_LISTS = frozenset({"$in", "$nin", "$all"})
_OPERANDS: Final[Mapping[str, Any]] = {
    "$exists": True, "$size": 1, "$type": "string", "$regex": "x", "$options": "i", "$mod": [2, 0], "$not": {"$eq": "x"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fill:
    """A way to fill the holes of a filter. `narrow`: what is said if it is served only so."""

    make: Callable[[DocumentMapping | None, str], Any]
    narrow: str = ""

    def __call__(self, mapping: DocumentMapping | None, query: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._value(mapping, name, value) for name, value in query.items()}

    def _value(self, mapping: DocumentMapping | None, path: str, value: Any) -> Any:
        if value is SOME:
            return self.make(mapping, path)
        if isinstance(value, dict):
            return {name: self._operand(mapping, path, name, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._value(mapping, path, one) for one in value]
        return value

    def _operand(self, mapping: DocumentMapping | None, path: str, name: str, value: Any) -> Any:
        inner = path if name.startswith("$") else name
        if value is not SOME:
            return self._value(mapping, inner, value)
        if name in _LISTS:
            return [self.make(mapping, inner), _TEXT]
        return _OPERANDS[name] if name in _OPERANDS else self.make(mapping, inner)


def _typed(mapping: DocumentMapping | None, path: str) -> Any:
    """Of the type that the migration file declares."""
    if mapping is not None:
        for text in ("1", _OID, _DATE, "true"):
            with suppress(CallRefused):
                value = typed(mapping.root, path, text)
                if not isinstance(value, str):
                    return value
    return _TEXT


def _number(mapping: DocumentMapping | None, path: str) -> Any:
    return 1


def _as_indexed(mapping: DocumentMapping | None, path: str) -> Any:
    """The value that an index asks for (`when`), where there is one."""
    for index in mapping.root.indexes if mapping is not None else ():
        for field, wanted in index.when:
            if ".".join(field) == path and not isinstance(wanted, Exists):
                return wanted.values[0] if isinstance(wanted, AnyOf) else wanted
    return _typed(mapping, path)


FILLS: Final = (
    Fill(_typed),
    Fill(_number),
    Fill(_as_indexed, "served only for the values that the index's `when` asks for"),
)


def filled(value: Any) -> Any:
    """An option, a projection or an update without holes."""
    if value is SOME:
        return 1
    if isinstance(value, dict):
        return {name: _filled_inside(name, inner) for name, inner in value.items()}
    return [filled(one) for one in value] if isinstance(value, list) else value


def _filled_inside(name: str, value: Any) -> Any:
    """An operator takes a document, of which nothing is known."""
    if value is SOME and name.startswith("$") and name not in _SINGLE:
        return {"x": 1}
    return filled(value)


_SINGLE = frozenset({"$each", "$slice", "$position", "$sort", "$eq", "$gt", "$gte", "$lt", "$lte", "$ne", "$in", "$nin", "$size",
                     "$exists", "$meta"})  # fmt: skip


_OPTIONS: Final[Mapping[str, Any]] = {
    "collation": {"locale": "en"}, "array_filters": [{"x": 1}], "hint": "x_1", "let": {"x": 1}, "sort": [("x", 1)],
    "upsert": True, "return_document": True,
}  # fmt: skip


def filled_option(name: str, value: Any) -> Any:
    """One of pymongo's options, of its own kind."""
    return _OPTIONS.get(name, 1) if value is SOME else filled(value)


def key_filter(mapping: DocumentMapping | None) -> dict[str, Any]:
    """A filter that pins the table key: the best that an unknown filter may be."""
    if mapping is None:
        return {}
    return {path: _typed(mapping, path) for path in sorted(mapping.root.pk.fields | mapping.root.sk.fields)}


def new_document(mapping: DocumentMapping | None, document: Any) -> dict[str, Any]:
    """A document that is inserted, without holes; if it is not known, one with all that the key asks for."""
    if not isinstance(document, dict):
        return {"_id": ObjectId(_OID), **nested(key_filter(mapping))}
    return {name: _value_of(mapping, name, value) for name, value in document.items()}


def _value_of(mapping: DocumentMapping | None, path: str, value: Any) -> Any:
    if value is SOME:
        return _typed(mapping, path)
    if isinstance(value, dict):
        return {name: _value_of(mapping, f"{path}.{name}", inner) for name, inner in value.items()}
    return [_value_of(mapping, path, one) for one in value] if isinstance(value, list) else value
