"""MongoDB's projections and sorts over documents in hand.

Projections: inclusion or exclusion of dotted paths, `_id` either way. Sorts: by dotted paths, up or down. Whatever computes
a value is refused by name.

Source: MongoDB 6.0 manual, "Project Fields to Return from Query" and "cursor.sort()", read 2026-11-24; held against a real
mongod by property tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bson import DBRef

from docferry.core.bson_codec.order import ABSENT, OrderKey, order_key
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.values import Document, Path, as_bson, is_true, whole_number
from docferry.errors import CallRefused

Projection = Mapping[str, Any] | Iterable[str]
Sort = Sequence[tuple[str, int]] | Mapping[str, int]
_Tree = dict[str, Any]

_SUGGESTION: Final = "name the fields to include or to exclude, or shape the document in the application"


# --- projections -----------------------------------------------------------------------------------------------------


def project(document: Document, projection: Projection | None) -> Document:
    """The document as `find` returns it under a projection: a dict, or a list of names to include. None is everything.

    An empty one is everything, too.
    Raises: CallRefused for $slice, $elemMatch, $meta, positional paths, expressions, and what MongoDB refuses.
    """
    if projection is None:
        return document
    if not isinstance(projection, Mapping):
        projection = dict.fromkeys(projection, 1)
    plan = _parse(as_bson(projection))
    if not plan.tree:
        return document
    return _included(document, plan.tree) if plan.including else _excluded(document, plan.tree)


@dataclass(frozen=True, slots=True)
class _Plan:
    tree: _Tree
    including: bool


def _parse(projection: Document) -> _Plan:
    wanted = dict(_flags((), projection))
    key = wanted.pop(("_id",), None)
    kinds = set(wanted.values())
    if len(kinds) > 1:
        raise CallRefused("a projection that includes some fields and excludes others", _SUGGESTION)
    including = kinds == {True} or (not kinds and key is True)
    tree: _Tree = {}
    for path in wanted:
        _grow(tree, path)
    if key is not None and "_id" in tree:
        raise CallRefused("a projection with a path beside a part of it", _SUGGESTION)
    if (key is not False and "_id" not in tree) if including else key is False:
        tree["_id"] = None
    return _Plan(tree, including)


def _flags(above: Path, projection: Document) -> Iterator[tuple[Path, bool]]:
    for name, value in projection.items():
        parts = tuple(name.split("."))
        if any(part[:1] == "$" or not part for part in parts):
            raise CallRefused(f"{name} in a projection" if name else "an empty name in a projection", _SUGGESTION)
        path = (*above, *parts)
        if isinstance(value, dict) and value and not next(iter(value)).startswith("$"):
            yield from _flags(path, value)
        elif isinstance(value, bool) or is_number(value):
            yield path, is_true(value)
        else:
            operator = next(iter(value), "") if isinstance(value, dict) else ""
            raise CallRefused(
                f"{operator or 'a value or an expression'} in a projection, at '{'.'.join(path)}'", _SUGGESTION
            )


def _grow(tree: _Tree, path: Path) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if tree is None:
            raise CallRefused("a projection with a path beside a part of it", _SUGGESTION)
    if path[-1] in tree:
        raise CallRefused("a projection with a path beside a part of it", _SUGGESTION)
    tree[path[-1]] = None


def _included(fields: Mapping[str, Any], tree: _Tree) -> Document:
    found: Document = {}
    for name, value in fields.items():
        if name not in tree:
            continue
        inner = value if tree[name] is None else _included_value(value, tree[name])
        if inner is not ABSENT:
            found[name] = inner
    return found


def _included_value(value: Any, tree: _Tree) -> Any:
    if isinstance(value, list):
        return [inner for inner in (_included_value(one, tree) for one in value) if inner is not ABSENT]
    fields = fields_of(value)
    return ABSENT if fields is None else _included(fields, tree)


def _excluded(fields: Mapping[str, Any], tree: _Tree) -> Document:
    found: Document = {}
    for name, value in fields.items():
        if name not in tree:
            found[name] = value
        elif tree[name] is not None:
            found[name] = _excluded_value(value, tree[name])
    return found


def _excluded_value(value: Any, tree: _Tree) -> Any:
    if isinstance(value, list):
        return [_excluded_value(one, tree) for one in value]
    fields = fields_of(value)
    if fields is None:
        return value
    found = _excluded(fields, tree)
    return value if isinstance(value, DBRef) and len(found) == len(fields) else found


# --- sorts -----------------------------------------------------------------------------------------------------------


def sort_documents(documents: Iterable[Document], sort: Sort) -> list[Document]:
    """The documents in the order of a `find` with this sort; those that sort equal stay as they came.

    What is missing sorts as null; an array by its smallest element, or its largest where the sort goes down; an empty one
    before null.
    Raises: CallRefused for a direction other than 1 and -1, and for what MongoDB answers by rules that are not here: two
    sorted paths through arrays in one document, a number in a path that also names a field of an array's documents.
    """
    pairs = list(sort.items() if isinstance(sort, Mapping) else sort)
    fields = [(_sort_path(name), _direction(name, direction)) for name, direction in pairs]
    rows = [(_sort_keys(document, fields), document) for document in documents]
    for at, (_, direction) in reversed(list(enumerate(fields))):
        rows.sort(key=partial(_at, at), reverse=direction < 0)
    return [document for _, document in rows]


def _at(at: int, row: tuple[list[OrderKey], Document]) -> OrderKey:
    return row[0][at]


def _direction(name: str, direction: Any) -> int:
    whole = whole_number(direction)
    if whole not in (1, -1):
        raise CallRefused(f"a sort of '{name}' in a direction other than 1 and -1", "sort up or down")
    return whole


def _sort_path(name: str) -> Path:
    parts = tuple(name.split("."))
    if any(part[:1] == "$" or not part for part in parts):
        raise CallRefused(f"a sort by '{name}'", "sort by the names of fields")
    return parts


def _sort_keys(document: Document, fields: list[tuple[Path, int]]) -> list[OrderKey]:
    keys: list[OrderKey] = []
    arrays = 0
    for path, direction in fields:
        through, values = _sorted_by(document, path)
        arrays += through
        keys.append((min if direction > 0 else max)(order_key(value) for value in values))
    if arrays > 1:
        raise CallRefused("a sort by two paths that lead through arrays", "sort by one of them, or in the application")
    return keys


def _sorted_by(document: Mapping[str, Any], path: Path) -> tuple[bool, list[Any]]:
    """(whether the path meets an array, the values that stand for the document)."""
    value: Any = document
    for depth, part in enumerate(path):
        if isinstance(value, list):
            return True, _in_array(value, path[depth:])
        value = (fields_of(value) or {}).get(part, None)
    return (True, value or [ABSENT]) if isinstance(value, list) else (False, [value])


def _in_array(array: list[Any], rest: Path) -> list[Any]:
    part = rest[0]
    if part.isascii() and part.isdigit():
        if any(part in (fields_of(element) or {}) for element in array):
            raise CallRefused(f"a sort where '{part}' is a place in an array and a field", "sort in the application")
        element = array[int(part)] if str(int(part)) == part and int(part) < len(array) else None
        return _sorted_by({"": element}, ("", *rest[1:]))[1]
    found: list[Any] = []
    for element in array:
        found += _sorted_by(element, rest)[1] if isinstance(element, dict) else [None]
    return found or [None]
