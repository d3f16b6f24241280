"""MongoDB's updates of one document, for a stated set of operators, meant exactly; all others are refused by name.

$set $unset $inc $mul $min $max $rename $push ($each $position $slice $sort) $pull $addToSet ($each) $pop $currentDate
$setOnInsert. Paths are dotted and may name an element of an array by its number. Not here: positional paths ($, $[],
$[name]), pipelines, $bit, $pullAll.

Paths are worked on in MongoDB's order: names by their bytes, numbers by value. So new fields come in that order.

Source: MongoDB 6.0 manual, "Update Operators", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cmp_to_key
from typing import Any, Final

import bson
from bson import DBRef, Regex

from docferry.core.bson_codec.codec import BSON_OPTIONS
from docferry.core.bson_codec.order import ABSENT, same
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.update_errors import (
    BAD_VALUE,
    CANNOT_BACKFILL_ARRAY,
    CONFLICTING_UPDATE_OPERATORS,
    DOLLAR_PREFIXED_FIELD_NAME,
    EMPTY_FIELD_NAME,
    FAILED_TO_PARSE,
    IMMUTABLE_FIELD,
    INVALID_ID_FIELD,
    NOT_SINGLE_VALUE_FIELD,
    PATH_NOT_VIABLE,
)
from docferry.core.mql.update_operators import OPERATORS, Operator, parse_operator
from docferry.core.mql.values import Document, Path, as_bson, empty_timestamp, type_name
from docferry.errors import CallRefused, UpdateRefused

MOST_PADDING: Final = 1_500_000
"""Nulls that MongoDB adds to an array at most, to reach a number in a path."""

_NOT_HERE: Final = frozenset({"$bit", "$pullAll", "$pushAll", "$v"})
_SUGGESTION: Final = (
    "use $set $unset $inc $mul $min $max $rename $push $pull $addToSet $pop $currentDate $setOnInsert on plain paths, "
    "or read the document, change it and replace it"
)


def apply_update(document: Document, update: Mapping[str, Any], *, now: datetime, inserting: bool = False) -> Document:
    """The document as MongoDB's `update_one` leaves it; the same object if not a bit of it changes.

    `now` is what $currentDate sets; with `inserting`, $setOnInsert counts and an `_id` may be set.
    Raises: UpdateRefused with MongoDB's code; CallRefused for what is not supported.
    """
    plan = _parse(update, now, inserting)
    before = bson.encode(document)
    working: Document = _unfolded(document)
    for path, change in plan.steps():
        if inserting and path[0][0] == "$":
            # MongoDB stores some of these and refuses others.
            raise CallRefused(f"an upsert of '{path[0]}'", "use a name that does not start with $")
        _apply(working, path, change)
        touched = path[0] == "_id" or (isinstance(change, _Rename) and change.source[0] == "_id")
        if touched and "_id" in document and not _same_bits(working, document):
            raise _immutable(f"Performing an update on the path '{'.'.join(path)}' would modify")
    after = bson.encode(working)
    return document if after == before else bson.decode(after, BSON_OPTIONS)


def upsert_document(filter: Mapping[str, Any], update: Mapping[str, Any], *, now: datetime) -> Document:
    """What an upsert inserts where nothing matches: the filter's equalities, then the update. `_id` comes first, if any.

    The caller makes an `_id` where there is none.
    Raises: UpdateRefused with MongoDB's code; CallRefused for what is not supported.
    """
    _parse(update, now, True)  # MongoDB refuses an update for itself before it looks at the filter
    seed = _seed(compile_filter(filter).pinned)
    return _insertable(apply_update(seed, update, now=now, inserting=True))


def check_replacement(document: Mapping[str, Any], replacement: Mapping[str, Any]) -> Document:
    """What `replace_one` stores instead of `document`: the replacement, under the document's `_id`, which comes first.

    For an upsert, `document` is what its filter says of the `_id`, or nothing.
    Raises: UpdateRefused for operators, and for another `_id`.
    """
    if not isinstance(replacement, Mapping):
        raise CallRefused("a pipeline as a replacement", _SUGGESTION)
    new = as_bson(replacement)
    dollar = next((name for name in new if name[:1] == "$"), None)
    if dollar is not None:
        raise UpdateRefused(
            DOLLAR_PREFIXED_FIELD_NAME,
            f"The dollar ($) prefixed field '{dollar}' is not allowed in the context of an update's replacement document",
        )
    if "_id" in document:
        if "_id" in new and not same(new["_id"], document["_id"]):
            raise _immutable("After applying the update,", " was found to have been altered")
        new = {**new, "_id": document["_id"]}
    return _insertable(new)


def check_insert(document: Document) -> Document:
    """What an insert of `document`, which has an `_id`, stores: the `_id` first.

    Raises: UpdateRefused with MongoDB's code for an `_id` that it does not store; CallRefused for an empty timestamp, which
            it fills in.
    """
    if isinstance(document["_id"], list):  # an upsert says so with another code
        raise UpdateRefused(INVALID_ID_FIELD, "The '_id' value cannot be of type array")
    return _insertable(document)


# --- parsing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rename:
    """Goes to the path that it stands at."""

    source: Path


@dataclass(frozen=True, slots=True)
class _Reserved:
    """A path on which something is planned that this step does not do."""


_Change = Operator | _Rename | _Reserved


@dataclass(frozen=True, slots=True)
class _Plan:
    """A tree of path parts with changes at its leaves."""

    children: dict[str, _Plan | _Change] = field(default_factory=dict)

    def add(self, path: Path, change: _Change) -> None:
        """Raises UpdateRefused if another change is on the same path, above or below it."""
        node = self
        for depth, part in enumerate(path[:-1], start=1):
            inner = node.children.setdefault(part, _Plan())
            if not isinstance(inner, _Plan):
                raise _conflict(path, path[:depth])
            node = inner
        if path[-1] in node.children:
            raise _conflict(path, path)
        node.children[path[-1]] = change

    def steps(self, above: Path = ()) -> Iterator[tuple[Path, _Change]]:
        for part in sorted(self.children, key=cmp_to_key(_compare_parts)):
            inner = self.children[part]
            if isinstance(inner, _Plan):
                yield from inner.steps((*above, part))
            else:
                yield (*above, part), inner


def _compare_parts(one: str, other: str) -> int:
    if _is_number(one) and _is_number(other) and int(one) != int(other):
        return int(one) - int(other)
    mine, theirs = one.encode(), other.encode()
    return (mine > theirs) - (mine < theirs)


def _conflict(path: Path, at: Path) -> UpdateRefused:
    return UpdateRefused(
        CONFLICTING_UPDATE_OPERATORS,
        f"Updating the path '{'.'.join(path)}' would create a conflict at '{'.'.join(at)}'",
    )


def _parse(update: Mapping[str, Any], now: datetime, inserting: bool) -> _Plan:
    if not isinstance(update, Mapping):
        raise CallRefused("an update that is a pipeline", _SUGGESTION)
    if not update:
        raise UpdateRefused(FAILED_TO_PARSE, "The update names no operator")
    plan = _Plan()
    for word, fields in as_bson(update).items():
        if word in _NOT_HERE:
            raise CallRefused(f"the update operator {word}", _SUGGESTION)
        if word not in OPERATORS and word != "$rename":
            raise UpdateRefused(FAILED_TO_PARSE, f"Unknown modifier: {word}. Expected a valid update modifier")
        if not isinstance(fields, dict):
            raise UpdateRefused(
                FAILED_TO_PARSE,
                f"Modifiers operate on fields but we found type {type_name(fields)} instead, for {word}",
            )
        for name, argument in fields.items():
            if word == "$rename":
                _plan_rename(plan, name, argument)
                continue
            path = _path(name)
            operator = parse_operator(word, name, argument, now)
            plan.add(path, operator if inserting or word != "$setOnInsert" else _Reserved())
    return plan


def _plan_rename(plan: _Plan, name: str, target: Any) -> None:
    if not isinstance(target, str):
        raise UpdateRefused(BAD_VALUE, f"The 'to' field for $rename must be a string: '{name}'")
    source, path = _path(name), _path(target)
    plan.add(source, _Reserved())
    if "\0" in target:
        raise UpdateRefused(BAD_VALUE, "The 'to' field for $rename cannot contain an embedded null byte")
    if source == path:
        raise UpdateRefused(BAD_VALUE, f"The source and target field for $rename must differ: '{name}'")
    shorter = min(len(source), len(path))
    if source[:shorter] == path[:shorter]:
        raise UpdateRefused(
            BAD_VALUE, f"The source and target field for $rename must not be on the same path: '{name}'"
        )
    plan.add(path, _Rename(source))


def _path(name: str) -> Path:
    if not name:
        raise UpdateRefused(EMPTY_FIELD_NAME, "An empty update path is not valid.")
    parts = tuple(name.split("."))
    if "" in parts:
        raise UpdateRefused(
            EMPTY_FIELD_NAME, f"The update path '{name}' contains an empty field name, which is not allowed."
        )
    positional = next((part for part in parts if part == "$" or part[:2] == "$["), None)
    if positional is not None:
        raise CallRefused(f"the positional path '{name}'", _SUGGESTION)
    return parts


# --- applying --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path leads: the deepest value on it, what holds that, and how many parts were used."""

    holder: Any
    found: Any
    taken: int


def _find(root: Document, path: Path) -> _Place:
    holder: Any = None
    found: Any = root
    for taken, part in enumerate(path):
        inner = _child(found, part)
        if inner is ABSENT:
            return _Place(holder, found, taken)
        holder, found = found, inner
    return _Place(holder, found, len(path))


def _child(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, ABSENT)
    if isinstance(value, list) and _is_number(part) and int(part) < len(value):
        return value[int(part)]
    return ABSENT


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 20


def _apply(root: Document, path: Path, change: _Change) -> None:
    if isinstance(change, _Reserved):
        return
    if isinstance(change, _Rename):
        _rename(root, change.source, path)
        return
    place = _find(root, path)
    if place.taken == len(path):
        _put(place.holder, path, change.update(place.found, ".".join(path)))
    elif change.create is not None:
        _create(place, path, change.create())
    elif change.viable and not _is_viable(place, path):
        raise _not_viable(path, place.taken)


def _put(holder: Any, path: Path, value: Any) -> None:
    """In place of what is there. What is removed from an array leaves a null."""
    if isinstance(holder, list):
        holder[int(path[-1])] = None if value is ABSENT else value
    elif value is ABSENT:
        del holder[path[-1]]
    else:
        _check_dollar(path)
        holder[path[-1]] = value


def _check_dollar(path: Path) -> None:
    if path[0][0] == "$":
        raise UpdateRefused(
            DOLLAR_PREFIXED_FIELD_NAME, f"The dollar ($) prefixed field '{path[0]}' is not valid for storage"
        )


def _is_viable(place: _Place, path: Path) -> bool:
    part = path[place.taken]
    return isinstance(place.found, dict) or (isinstance(place.found, list) and _is_number(part))


def _not_viable(path: Path, taken: int) -> UpdateRefused:
    return UpdateRefused(
        PATH_NOT_VIABLE,
        f"Cannot use the part '{path[taken]}' of '{'.'.join(path)}' to go on from '{'.'.join(path[:taken])}'",
    )


def _create(place: _Place, path: Path, value: Any) -> None:
    if not _is_viable(place, path):
        raise _not_viable(path, place.taken)
    _check_dollar(path)
    for part in reversed(path[place.taken + 1 :]):
        value = {part: value}
    part = path[place.taken]
    if isinstance(place.found, dict):
        place.found[part] = value
        return
    padding = int(part) - len(place.found)
    if padding > MOST_PADDING:
        raise UpdateRefused(CANNOT_BACKFILL_ARRAY, f"can't backfill more than {MOST_PADDING} elements")
    place.found.extend([None] * padding)
    place.found.append(value)


def _rename(root: Document, source: Path, target: Path) -> None:
    there = _find(root, source)
    if there.taken < len(source):
        if there.taken and not _is_viable(there, source):
            raise _not_viable(source, there.taken)
        return
    _refuse_array(root, source, source[:-1], "source")
    place = _find(root, target)
    _refuse_array(root, target, target[: min(place.taken, len(target) - 1)], "destination")
    if place.taken == len(target):
        _put(place.holder, target, there.found)
    else:
        _create(place, target, there.found)
    del there.holder[source[-1]]


def _refuse_array(root: Document, path: Path, way: Path, which: str) -> None:
    for depth in range(1, len(way) + 1):
        if isinstance(_find(root, way[:depth]).found, list):
            raise UpdateRefused(
                BAD_VALUE, f"The {which} field of $rename cannot be an array element: '{'.'.join(path)}'"
            )


# --- the document ----------------------------------------------------------------------------------------------------


def _unfolded(value: Any) -> Any:
    """A copy whose documents and arrays are its own; paths lead into a DBRef as into any document."""
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return {name: _unfolded(inner) for name, inner in value.items()}
    return [_unfolded(inner) for inner in value] if isinstance(value, list) else value


def _same_bits(working: Document, document: Document) -> bool:
    return "_id" in working and bson.encode({"": working["_id"]}) == bson.encode({"": document["_id"]})


def _immutable(before: str, after: str = "") -> UpdateRefused:
    return UpdateRefused(IMMUTABLE_FIELD, f"{before} the immutable field '_id'{after}")


def _seed(pinned: tuple[tuple[str, Any], ...]) -> Document:
    seed: Document = {}
    paths: list[Path] = []
    for name, value in sorted(pinned, key=lambda pair: pair[0].encode()):
        path = tuple(name.split("."))
        if any(path[: len(one)] == one[: len(path)] for one in paths):
            raise UpdateRefused(
                NOT_SINGLE_VALUE_FIELD, f"cannot infer query fields to set, path '{name}' is matched twice"
            )
        paths.append(path)
        _create(_find(seed, path), path, value)
    return seed


def _insertable(document: Document) -> Document:
    """With its `_id` first. Raises UpdateRefused for an `_id` that MongoDB does not store."""
    empty = empty_timestamp(document)
    if empty is not None:
        raise CallRefused(f"an empty timestamp in '{empty}', which MongoDB fills in", "set the time that you mean")
    if "_id" not in document:
        return document
    key = document["_id"]
    if isinstance(key, list):
        raise UpdateRefused(NOT_SINGLE_VALUE_FIELD, "the immutable field '_id' was found to be an array")
    if isinstance(key, Regex):
        raise UpdateRefused(INVALID_ID_FIELD, "The '_id' value cannot be of type regex")
    if isinstance(key, dict) and any(name[:1] == "$" for name in key):
        raise UpdateRefused(DOLLAR_PREFIXED_FIELD_NAME, "_id fields may not contain '$'-prefixed fields")
    return {"_id": key, **document}
