"""Which documents of a collection are migrated: an equality or a range on fields that never change.

One object says it to all: `holds` to whatever has a document in hand, `query` to MongoDB. Both mean the same, types and missing
fields included, which a property test holds against a real mongod. An array in such a field is neither in nor out: MongoDB would
match its elements one by one, and the document would be of both sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bson import Binary, Decimal128, ObjectId, Regex, json_util
from bson.errors import BSONError

from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import is_nan
from docferry.core.mql.filters import Filter, compile_filter
from docferry.core.mql.values import Document, Path, as_bson, is_expression
from docferry.errors import FilterUndecided, OutsideFilter

RANGES: Final = ("$gt", "$gte", "$lt", "$lte")
_ORDERED: Final = (str, int, float, Decimal128, datetime, ObjectId)
_EQUAL: Final = (*_ORDERED, bool, bytes, Binary)
SERVED: Final = (
    "a plain value, {$in: [...]}, or a range of {$gt $gte $lt $lte}; dates as {$date: '2024-01-01T00:00:00Z'}"
)


@dataclass(frozen=True, slots=True)
class _Condition:
    """On one field. `bounds` are those of a range: by the words that bound a query on the same side, what its bound must meet."""

    path: Path
    test: Filter
    bounds: tuple[Mapping[str, Filter], ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def takes(self, value: Any) -> bool:
        return self.test.matches(_nested(self.path, value))

    def is_implied_by(self, asked: Any) -> bool:
        """Whether whatever meets what a query asks of the field meets this, too."""
        if not is_expression(asked):
            return False
        if isinstance(values := asked.get("$in"), list):
            return all(not isinstance(one, Regex) and self.takes(one) for one in values)
        return bool(self.bounds) and all(
            any(word in asked and test.matches(_nested(self.path, asked[word])) for word, test in bound.items())
            for bound in self.bounds
        )


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """A compiled filter: all of its conditions, each on one field. `query` is what MongoDB is asked, with binary comparison."""

    query: Document = field(repr=False)
    _conditions: tuple[_Condition, ...] = field(repr=False)

    @property
    def fields(self) -> tuple[str, ...]:
        """The dotted paths."""
        return tuple(self.query)

    @property
    def top_fields(self) -> frozenset[str]:
        """The fields of the top level that decide."""
        return frozenset(one.path[0] for one in self._conditions)

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Whether a document is migrated. It is as `codec.BSON_OPTIONS` reads it.

        Raises: FilterUndecided, if nothing else keeps it out and a field is an array, or is inside one.
        """
        undecided = ""
        for one in self._conditions:
            if _array_on(document, one.path):
                undecided = undecided or one.name
            elif not one.test.matches(document):
                return False
        if undecided:
            what = f"{undecided} is an array, or inside one, and the collection's filter asks for one value: neither in nor out"
            raise FilterUndecided(what, path=undecided)
        return True

    def require(self, document: Mapping[str, Any]) -> None:
        """Raises: OutsideFilter, FilterUndecided."""
        if not self.holds(document):
            raise OutsideFilter("it is outside the collection's filter", path=", ".join(self.fields))

    def is_implied_by(self, query: Mapping[str, Any], equalities: Mapping[str, Any]) -> bool:
        """Whether all documents that a query finds are migrated: an array apart, which nothing decides. `equalities` are the
        query's, by dotted paths."""
        return all(
            one.takes(equalities[one.name]) if one.name in equalities else one.is_implied_by(query.get(one.name))
            for one in self._conditions
        )


def _nested(path: Path, value: Any) -> Document:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def _array_on(document: Mapping[str, Any], path: Path) -> bool:
    value: Any = document
    for name in path:
        fields = fields_of(value)
        if fields is None:
            return False
        value = fields.get(name)
        if isinstance(value, list):
            return True
    return False


def compile_document_filter(said: Mapping[str, Any]) -> DocumentFilter | None:
    """Of a filter as the file has it, values that YAML has not as extended JSON; None: there is none.

    Raises: ValueError, with what is not served.
    """
    if not said:
        return None
    try:
        read = json_util.loads(json.dumps(said))
        query = as_bson(read) if isinstance(read, dict) else {}
    except (TypeError, ValueError, BSONError, OverflowError) as error:
        raise ValueError(f"holds what is no value here ({type(error).__name__})") from error
    if not query:
        raise ValueError("names no field")
    conditions: list[_Condition] = []
    for name, condition in query.items():
        path = tuple(name.split("."))
        if not all(path) or any(step.isdigit() or step[:1] == "$" for step in path):
            raise ValueError(f"'{name}' is no plain path")
        _refuse_condition(name, condition)
        conditions.append(_Condition(path, compile_filter({name: condition}), _bounds(name, condition)))
    return DocumentFilter(query, tuple(conditions))


def _bounds(name: str, condition: Any) -> tuple[Mapping[str, Filter], ...]:
    found = condition.items() if is_expression(condition) and set(condition) <= set(RANGES) else ()
    return tuple(
        {
            word[:3]: compile_filter({name: {f"{word[:3]}e": bound}}),
            f"{word[:3]}e": compile_filter({name: {word: bound}}),
        }
        for word, bound in found
    )


def _refuse_condition(name: str, condition: Any) -> None:
    if not is_expression(condition):
        _require(name, condition, None)
        return
    words = set(condition)
    if words == {"$in"}:
        if not isinstance(condition["$in"], list) or not condition["$in"]:
            raise ValueError(f"'{name}': $in wants a list of at least one value")
        for value in condition["$in"]:
            _require(name, value, None)
    elif words == {"$eq"}:
        _require(name, condition["$eq"], None)
    elif words <= set(RANGES):
        for word, value in condition.items():
            _require(name, value, word)
    else:
        raise ValueError(f"'{name}': {', '.join(sorted(words))} is not served")


def _require(name: str, value: Any, word: str | None) -> None:
    """A value of a type whose equality, or with a `word` order, is the same everywhere."""
    kinds = _ORDERED if word else _EQUAL
    known = isinstance(value, kinds) and not (word and isinstance(value, bool))
    if not (known or (value is None and not word)) or is_nan(value):
        what = "a text, a number, a date or an ObjectId" if word else "a single value"
        raise ValueError(f"'{name}': {word or 'an equality'} wants {what}")
