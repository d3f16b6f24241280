"""What MongoDB's unique indexes hold of a document: an entry for each combination of values that must be its alone.

As MongoDB makes them: a missing field is null, an array gives one entry for each element (an empty one a value of its own), and
fields below one array go element by element. A sparse index leaves out what has none of its fields, a partial one what its filter
does not match. Refused by name is what this does not know: other kinds of index, collations, a number as a step of a path.

Source: MongoDB 6.0 manual, "Unique Indexes", "Multikey Indexes", "Sparse Indexes", "Partial Indexes", read 2026-11-29; held
against a real mongod by a contract test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from bson import json_util
from bson.errors import BSONError

from docferry.core.bson_codec.order import same
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.filters import Filter, compile_filter
from docferry.core.mql.values import Path, as_bson
from docferry.core.settings import UniqueSettings
from docferry.errors import KeyNotRepresentable

MOST_FIELDS: Final = 16
"""Of one index: so many values, however long, have a key."""


class EmptyArray(Enum):
    """What stands in an index for an array without elements. It equals itself, and nothing else: not null either."""

    EMPTY = "empty array"


EMPTY_ARRAY: Final = EmptyArray.EMPTY
Entry = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class IndexEntries:
    """A unique index, compiled."""

    settings: UniqueSettings
    paths: tuple[Path, ...]
    partial: Filter | None = field(repr=False)

    def of(self, document: Mapping[str, Any]) -> Iterator[Entry]:
        """The document's entries, some perhaps several times. `document` is as `codec.BSON_OPTIONS` reads it.

        Raises: KeyNotRepresentable for what MongoDB does not index either: two arrays side by side.
        """
        if self.partial is not None and not self.partial.matches(document):
            return
        rests: list[Path | None] = list(self.paths)
        yield from self._expand(document, rests, [None] * len(rests), 0)

    def _expand(
        self, document: Mapping[str, Any], rests: Sequence[Path | None], values: Sequence[Any], missing: int
    ) -> Iterator[Entry]:
        """`rests` are the ways that are left below `document`, None where a value is found; `missing`: how many led nowhere."""
        rests, values = list(rests), list(values)
        array: list[Any] | None = None
        through: list[int] = []
        for place, rest in enumerate(rests):
            if rest is None:
                continue
            value, left, there = _reach(document, rest)
            if isinstance(value, list):
                if array is not None and value is not array:
                    what = f"{self.settings.name} cannot index two arrays that stand side by side"
                    raise KeyNotRepresentable(what, path=self.settings.fields[place])
                array, rests[place] = value, left
                through.append(place)
            else:
                values[place], rests[place] = value, None
                missing += not there
        if array is None:
            if not (self.settings.sparse and missing == len(values)):
                yield tuple(values)
            return
        for element in array or [EMPTY_ARRAY]:
            for place in through:
                if not rests[place]:
                    values[place] = element
            ends = [None if rest is None or not rest else rest for rest in rests]
            yield from self._expand(fields_of(element) or {}, ends, values, missing)


def _reach(document: Mapping[str, Any], path: Path) -> tuple[Any, Path, bool]:
    """(the value at the end of a path or the first array on it, what is left of the path, whether there is one)."""
    value: Any = document
    for at, name in enumerate(path):
        fields = fields_of(value)
        if fields is None or name not in fields:
            return None, (), False
        value = fields[name]
        if isinstance(value, list):
            return value, path[at + 1 :], True
    return value, (), True


def compile_index(settings: UniqueSettings, *, ordered: bool = False) -> IndexEntries:
    """`ordered` as `compile_filter` has it, for a partial one.

    Raises: ValueError, with what is not served; CallRefused, naming an operator of its filter.
    """
    if not settings.fields:
        raise ValueError("names no field")
    if len(settings.fields) > MOST_FIELDS:
        raise ValueError(f"has {len(settings.fields)} fields, and {MOST_FIELDS} are served")
    if len(set(settings.fields)) < len(settings.fields):
        raise ValueError("names a field twice")
    if settings.sparse and settings.partial is not None:
        raise ValueError("is sparse and partial, which MongoDB does not take either")
    paths = tuple(tuple(name.split(".")) for name in settings.fields)
    for name, path in zip(settings.fields, paths, strict=True):
        if not all(path) or any(step.isdigit() or "$**" in step for step in path):
            raise ValueError(f"'{name}' is no plain path")
    fields_needed(settings)
    partial = compile_filter(filter_in(settings), ordered=ordered) if settings.partial is not None else None
    return IndexEntries(settings, paths, partial)


def filter_in(settings: UniqueSettings) -> Mapping[str, Any]:
    """The filter of a partial index with the values that it means. Raises: ValueError for what is no extended JSON."""
    try:
        found: Mapping[str, Any] = json_util.loads(json.dumps(settings.partial))
    except (TypeError, ValueError, BSONError) as error:
        raise ValueError(f"has a filter that is no extended JSON ({error})") from error
    return found


def unlike(settings: UniqueSettings, index: Mapping[str, Any] | None) -> str:
    """In what MongoDB's index (as listIndexes has it) is not the one that is kept; '' if it is that one."""
    if index is None:
        return "MongoDB has no such index"
    if not index.get("unique") and index["name"] != "_id_":
        return "in MongoDB it is not unique"
    if tuple(index["key"]) != settings.fields or not all(kind in (1, -1) for kind in index["key"].values()):
        return f"in MongoDB its key is {dict(index['key'])}"
    if index.get("collation", {}).get("locale", "simple") != "simple":
        return f"in MongoDB it has the collation {index['collation']['locale']}, and guards compare bytes"
    if bool(index.get("sparse")) != settings.sparse:
        return f"in MongoDB it is {'sparse' if index.get('sparse') else 'not sparse'}"
    theirs = index.get("partialFilterExpression")
    mine = filter_in(settings) if settings.partial is not None else None
    if (theirs is None) != (mine is None) or (theirs is not None and not same(as_bson(theirs), as_bson(mine or {}))):
        return f"in MongoDB its filter is {theirs}" if theirs is not None else "in MongoDB it has no filter"
    return ""


def fields_needed(settings: UniqueSettings) -> frozenset[str]:
    """The fields of the top level that decide about a document's entries. Raises: ValueError for a filter of another form."""
    named = {name.partition(".")[0] for name in settings.fields}
    return frozenset(named | set(_named_in(settings.partial or {})))


def _named_in(query: Mapping[str, Any]) -> Iterator[str]:
    for name, value in query.items():
        if name[:1] != "$":
            yield name.partition(".")[0]
        elif name in ("$and", "$or") and isinstance(value, list):
            for clause in value:
                yield from _named_in(clause)
        else:
            raise ValueError(f"has a filter with {name}, which is no filter of an index")
