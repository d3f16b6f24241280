"""MongoDB's updates of one document, for a stated set of operators, meant exactly; all others are refused by name.

$set $unset $inc $mul $bit $min $max $rename $push ($each $position $slice $sort) $pull $pullAll $addToSet ($each) $pop
$currentDate $setOnInsert. Paths are dotted and may name elements of an array: by a number, `$`, `$[]`, `$[name]`. Pipelines
are those of `pipelines.UPDATE_STAGES`.

Paths are worked on in MongoDB's order: names by their bytes, numbers by value. So new fields come in that order.

Source: MongoDB 6.0 manual, "Update Operators", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import bson
from bson import DBRef, Regex

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.order import ABSENT, same
from docferry.core.mql.array_filters import parse_array_filters
from docferry.core.mql.filters import Filter, compile_filter
from docferry.core.mql.pipelines import update_pipeline
from docferry.core.mql.update_errors import (
    BAD_VALUE,
    CANNOT_BACKFILL_ARRAY,
    DOLLAR_PREFIXED_FIELD_NAME,
    FAILED_TO_PARSE,
    IMMUTABLE_FIELD,
    INVALID_ID_FIELD,
    NOT_SINGLE_VALUE_FIELD,
    PATH_NOT_VIABLE,
)
from docferry.core.mql.update_plan import SUGGESTION, Change, Rename, Reserved, parse_update
from docferry.core.mql.update_steps import PathEnd, Steps, find
from docferry.core.mql.values import Document, Path, as_bson, empty_timestamp, is_index
from docferry.errors import CallRefused, UpdateRefused

MOST_PADDING: Final = 1_500_000
"""Nulls that MongoDB adds to an array at most, to reach a number in a path."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change makes of a document: the same object if not a bit of it is another."""

    document: Document = field(repr=False)
    counted: bool
    """MongoDB counts it as modified even where nothing is different."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Updating:
    """One update as an application asks for it, for whichever documents match its query."""

    query: Filter = field(repr=False)
    update: Mapping[str, Any] | Sequence[Any] = field(repr=False)
    """Operators, or a pipeline."""
    now: datetime
    array_filters: Sequence[Any] | None = field(default=None, repr=False)
    let: Mapping[str, Any] | None = field(default=None, repr=False)
    ordered: bool = False
    """Documents are equal with their fields in one order, as in MongoDB."""

    def apply(self, document: Document) -> Changed:
        """As `apply_update`."""
        if not isinstance(self.update, Mapping):
            return self._through(document)
        return self._applied(document, query=self.query)

    def inserted(self) -> Document:
        """What it inserts where nothing matches: the query's equalities, then the update. `_id` comes first, if any.

        The caller makes an `_id` where there is none.
        Raises: as `apply_update`.
        """
        if not isinstance(self.update, Mapping):
            return self._through(_insertable(_seed(self.query.pinned))).document
        # MongoDB refuses an update for itself before it looks at the query.
        parse_update(self.update, self.now, True, parse_array_filters(self.array_filters))
        return _insertable(self._applied(_seed(self.query.pinned), inserting=True).document)

    def _applied(self, document: Document, *, inserting: bool = False, query: Filter | None = None) -> Changed:
        assert isinstance(self.update, Mapping)
        return apply_update(
            document,
            self.update,
            now=self.now,
            inserting=inserting,
            array_filters=self.array_filters,
            query=query,
            ordered=self.ordered,
        )

    def _through(self, document: Document) -> Changed:
        """What the pipeline makes of it."""
        if self.array_filters:
            raise UpdateRefused(FAILED_TO_PARSE, "arrayFilters may not be specified for pipeline-style updates")
        make = update_pipeline(self.update, now=self.now, let=self.let, ordered=self.ordered)  # type: ignore[arg-type]
        computed = make(document)
        if isinstance(computed.get("_id"), list):
            raise _id_is_an_array()
        made = _under_its_id(document, as_bson(computed))
        if "_id" in document and "_id" in computed and not _same_bits(computed, document):
            raise CallRefused("a pipeline that makes of an _id an equal number of another type", "leave _id as it is")
        return Changed(document if bson.encode(made) == bson.encode(document) else made, not _begins_with_id(computed))


def apply_update(
    document: Document,
    update: Mapping[str, Any],
    *,
    now: datetime,
    inserting: bool = False,
    array_filters: Sequence[Any] | None = None,
    query: Filter | None = None,
    ordered: bool = False,
) -> Changed:
    """The document as MongoDB's `update_one` leaves it.

    `now` is what $currentDate sets; with `inserting`, $setOnInsert counts and an `_id` may be set. `query` is by which the
    document was found: a positional `$` needs it. `ordered`: documents are equal with their fields in one order.
    Raises: UpdateRefused with MongoDB's code; CallRefused for what is not supported.
    """
    filters = parse_array_filters(array_filters, ordered=ordered)
    plan = parse_update(update, now, inserting, filters, ordered=ordered)
    before = bson.encode(document)
    working: Document = _unfolded(document)
    steps, counted = Steps(working, filters, lambda: query.position(document) if query is not None else None), False
    for path, change in steps.of(plan):
        if inserting and path[0][0] == "$":
            # MongoDB stores some of these and refuses others.
            raise CallRefused(f"an upsert of '{path[0]}'", "use a name that does not start with $")
        counted |= _apply(working, path, change)
        touched = path[0] == "_id" or (isinstance(change, Rename) and change.source[0] == "_id")
        if touched and "_id" in document and not _same_bits(working, document):
            raise _immutable(f"Performing an update on the path '{'.'.join(path)}' would modify")
    after = bson.encode(working)
    return Changed(document if after == before else bson.decode(after, BSON_OPTIONS), counted)


def replaced(document: Mapping[str, Any], replacement: Mapping[str, Any]) -> Changed:
    """As `check_replacement`. MongoDB counts one as modified unless it is what is stored, with its `_id` given, and first."""
    new = check_replacement(document, replacement)
    own_id = _begins_with_id(replacement) and _same_bits({"_id": as_bson(replacement)["_id"]}, new)
    return Changed(new, counted=not own_id)


def check_replacement(document: Mapping[str, Any], replacement: Mapping[str, Any]) -> Document:
    """What `replace_one` stores instead of `document`: the replacement, under the document's `_id`, which comes first.

    For an upsert, `document` is what its filter says of the `_id`, or nothing.
    Raises: UpdateRefused for operators, and for another `_id`.
    """
    if not isinstance(replacement, Mapping):
        raise CallRefused("a pipeline as a replacement", SUGGESTION)
    new = as_bson(replacement)
    dollar = next((name for name in new if name[:1] == "$"), None)
    if dollar is not None:
        raise UpdateRefused(
            DOLLAR_PREFIXED_FIELD_NAME,
            f"The dollar ($) prefixed field '{dollar}' is not allowed in the context of an update's replacement document",
        )
    return _under_its_id(document, new)


def _under_its_id(document: Mapping[str, Any], new: Document) -> Document:
    if "_id" in document:
        if "_id" in new and not same(new["_id"], document["_id"]):
            raise _immutable("After applying the update,", " was found to have been altered")
        new = {**new, "_id": document["_id"]}
    return _insertable(new)


def replacement_upserted(filter: Mapping[str, Any], replacement: Mapping[str, Any]) -> Document:
    """What a replacement inserts where nothing matches: the filter gives the `_id`, if anything does.

    Raises as `check_replacement`.
    """
    pinned = compile_filter(filter).equalities
    return check_replacement({"_id": pinned["_id"]} if "_id" in pinned else {}, replacement)


def check_insert(document: Document) -> Document:
    """What an insert of `document`, which has an `_id`, stores: the `_id` first.

    Raises: UpdateRefused with MongoDB's code for an `_id` that it does not store; CallRefused for an empty timestamp, which
            it fills in.
    """
    if isinstance(document["_id"], list):  # an upsert says so with another code
        raise _id_is_an_array()
    return _insertable(document)


def _id_is_an_array() -> UpdateRefused:
    return UpdateRefused(INVALID_ID_FIELD, "The '_id' value cannot be of type array")


def _apply(root: Document, path: Path, change: Change) -> bool:
    """Whether MongoDB counts it, even where nothing is different."""
    if isinstance(change, Reserved):
        return False
    if isinstance(change, Rename):
        _rename(root, change.source, path)
        return False
    place = find(root, path)
    if place.taken == len(path):
        counted = change.counted(place.found)
        _put(place.holder, path, change.update(place.found, ".".join(path)))
        return counted
    if change.create is not None:
        _create(place, path, change.create())
    elif change.viable and not _is_viable(place, path):
        raise _not_viable(path, place.taken)
    return False


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


def _is_viable(place: PathEnd, path: Path) -> bool:
    part = path[place.taken]
    return isinstance(place.found, dict) or (isinstance(place.found, list) and is_index(part))


def _not_viable(path: Path, taken: int) -> UpdateRefused:
    return UpdateRefused(
        PATH_NOT_VIABLE,
        f"Cannot use the part '{path[taken]}' of '{'.'.join(path)}' to go on from '{'.'.join(path[:taken])}'",
    )


def _create(place: PathEnd, path: Path, value: Any) -> None:
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
    there = find(root, source)
    if there.taken < len(source):
        if there.taken and not _is_viable(there, source):
            raise _not_viable(source, there.taken)
        return
    _refuse_array(root, source, source[:-1], "source")
    place = find(root, target)
    _refuse_array(root, target, target[: min(place.taken, len(target) - 1)], "destination")
    if place.taken == len(target):
        _put(place.holder, target, there.found)
    else:
        _create(place, target, there.found)
    del there.holder[source[-1]]


def _refuse_array(root: Document, path: Path, way: Path, which: str) -> None:
    for depth in range(1, len(way) + 1):
        if isinstance(find(root, way[:depth]).found, list):
            raise UpdateRefused(
                BAD_VALUE, f"The {which} field of $rename cannot be an array element: '{'.'.join(path)}'"
            )


def _unfolded(value: Any) -> Any:
    """A copy whose documents and arrays are its own; paths lead into a DBRef as into any document."""
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return {name: _unfolded(inner) for name, inner in value.items()}
    return [_unfolded(inner) for inner in value] if isinstance(value, list) else value


def _begins_with_id(given: Mapping[str, Any]) -> bool:
    return next(iter(given), None) == "_id"


def _same_bits(working: Document, document: Mapping[str, Any]) -> bool:
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
        _create(find(seed, path), path, value)
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
