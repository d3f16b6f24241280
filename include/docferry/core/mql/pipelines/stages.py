"""A pipeline: its stages, one after the other, over the documents that its $matches find. Pure.

    pipeline = compile_pipeline([{"$match": {"city": "Bern"}}, {"$count": "n"}], now=...)    Raises: CallRefused, by name
    pipeline.match                       what leads to the documents, a filter of all that $matches ask of them as they are stored
    pipeline.run(documents)              Raises: ExpressionRefused, as MongoDB, and past the memory that it may hold

What has no order has none in MongoDB either: groups, and documents without a $sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from bson.int64 import Int64

from docferry.core.bson_codec.order import ABSENT
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.expressions import Scope, comparing, scope_of, variables_of
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.pipelines.grouping import ACCUMULATORS, Stage, group
from docferry.core.mql.pipelines.memory import MOST_BYTES, Memory
from docferry.core.mql.pipelines.moving import matches_first
from docferry.core.mql.pipelines.shaping import Shape, add_fields, project_stage, replace_root, replace_with, unset
from docferry.core.mql.projection import sort_documents
from docferry.core.mql.values import Document, as_bson, whole_number
from docferry.errors import CallRefused


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`match` is all that may be asked first, {} if there is none; `stages` follow it; `variables` are known to all of it."""

    match: Mapping[str, Any] = field(repr=False)
    stages: Sequence[Stage] = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)
    now: datetime

    def run(self, documents: Iterable[Document], most_bytes: int = MOST_BYTES) -> list[Document]:
        """Of documents that `match` finds, to what comes out. A stage may hold so many bytes, and so may the result."""
        made: Iterable[Document] = documents
        scoped = partial(scope_of, now=self.now, variables=self.variables)
        for stage in self.stages:
            made = stage(made, scoped, Memory(most_bytes))
        return list(Memory(most_bytes).held(made))


def compile_pipeline(
    stages: Sequence[Any], *, now: datetime, let: Mapping[str, Any] | None = None, ordered: bool = False
) -> Pipeline:
    """`ordered`: documents are equal with their fields in one order, as in MongoDB.

    Raises: CallRefused for a stage, an operator or an accumulator that is not known here, by name.
    """
    asked = [_named(one) for one in as_bson({"": list(stages)})[""]]
    variables = comparing(variables_of(let, now=now), ordered=ordered)
    if not all(isinstance(one, dict) for name, one in asked if name == "$match"):
        raise _refuse("$match with anything but a document")
    found = matches_first(asked)
    match = found.pop(0)[1] if found and found[0][0] == "$match" else {}
    stages_run = [_match(one, variables) if name == "$match" else STAGES[name](one) for name, one in found]
    return Pipeline(match, stages_run, variables, now)


def _named(stage: Any) -> tuple[str, Any]:
    if not isinstance(stage, dict) or len(stage) != 1:
        raise _refuse("a stage that is no document with one field")
    ((name, asked),) = stage.items()
    if name not in STAGES:
        raise _refuse(f"the stage {name}")
    return name, asked


def _refuse(what: str) -> CallRefused:
    return CallRefused(
        f"{what} of an aggregation",
        f"use {' '.join(STAGES)} (in $group {' '.join(ACCUMULATORS)}), and compute the rest in the application",
    )


# --- stages ----------------------------------------------------------------------------------------------------------

Scoped = Callable[[Document], Scope]


def _shaping(make: Callable[[Any], Shape]) -> Callable[[Any], Stage]:
    def stage(asked: Any) -> Stage:
        shape = make(asked)
        return lambda documents, scoped, memory: (shape(one, scoped(one)) for one in documents)

    return stage


def _match(asked: Any, variables: Mapping[str, Any] | None = None) -> Stage:
    found = compile_filter(asked, variables)
    return lambda documents, scoped, memory: filter(found.matches, documents)


def _sort(asked: Any) -> Stage:
    if not isinstance(asked, dict) or not asked:
        raise _refuse("$sort without fields")
    sort_documents([], asked)
    return lambda documents, scoped, memory: iter(sort_documents(memory.held(documents), asked))


def _skip(asked: Any) -> Stage:
    count = whole_number(asked)
    if count is None or count < 0:
        raise _refuse("$skip with anything but a whole number that is not negative")
    return lambda documents, scoped, memory: islice(documents, count, None)


def _limit(asked: Any) -> Stage:
    count = whole_number(asked)
    if count is None or count < 1:
        raise _refuse("$limit with anything but a positive whole number")
    return lambda documents, scoped, memory: islice(documents, count)


def _count(asked: Any) -> Stage:
    if not isinstance(asked, str) or not asked or asked[:1] == "$" or "." in asked:
        raise _refuse("$count without the name of a field")

    def run(documents: Iterable[Document], scoped: Scoped, memory: Memory) -> Iterator[Document]:
        number = sum(1 for _ in documents)
        if number:
            yield {asked: number}

    return run


def _unwind(asked: Any) -> Stage:
    given = {"path": asked} if isinstance(asked, str) else asked
    if not isinstance(given, dict) or given.keys() - {"path", "includeArrayIndex", "preserveNullAndEmptyArrays"}:
        raise _refuse("$unwind with what it does not know")
    path, index, keep = (
        given.get("path"),
        given.get("includeArrayIndex"),
        given.get("preserveNullAndEmptyArrays", False),
    )
    if not isinstance(path, str) or path[:1] != "$" or not path[1:] or not isinstance(keep, bool):
        raise _refuse("$unwind without a path")
    if index is not None and (not isinstance(index, str) or not index or index[:1] == "$"):
        raise _refuse("$unwind with an index that is no name of a field")
    names = path[1:].split(".")

    def run(documents: Iterable[Document], scoped: Scoped, memory: Memory) -> Iterator[Document]:
        for document in documents:
            for value, at in _unwound(_reached(document, names), keep):
                made = document if value is _SAME else _with(document, names, value)
                yield made if index is None else _with(made, index.split("."), at)

    return run


_SAME: Final = object()


def _reached(document: Mapping[str, Any], names: Sequence[str]) -> Any:
    """What a path leads to, through documents alone."""
    value: Any = document
    for name in names:
        value = (fields_of(value) or {}).get(name, ABSENT)
    return value


def _unwound(value: Any, keep: bool) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, list) and value:
        yield from ((one, Int64(at)) for at, one in enumerate(value))
    elif isinstance(value, list) or value is None or value is ABSENT:
        if keep:
            yield (ABSENT if isinstance(value, list) else _SAME), None
    else:
        yield _SAME, None


def _with(document: Mapping[str, Any], names: Sequence[str], value: Any) -> Document:
    found = dict(document)
    name, *rest = names
    made = _with(fields_of(found.get(name)) or {}, rest, value) if rest else value
    if made is ABSENT:
        found.pop(name, None)
    else:
        found[name] = made
    return found


def _sort_by_count(asked: Any) -> Stage:
    grouped, ordered = group({"_id": asked, "count": {"$sum": 1}}), _sort({"count": -1})
    return lambda documents, scoped, memory: ordered(grouped(documents, scoped, memory), scoped, memory)


STAGES: Final[Mapping[str, Callable[[Any], Stage]]] = {
    "$match": _match,
    "$project": _shaping(project_stage),
    "$addFields": _shaping(add_fields),
    "$set": _shaping(add_fields),
    "$unset": _shaping(unset),
    "$sort": _sort,
    "$skip": _skip,
    "$limit": _limit,
    "$count": _count,
    "$unwind": _unwind,
    "$group": group,
    "$replaceRoot": _shaping(replace_root),
    "$replaceWith": _shaping(replace_with),
    "$sortByCount": _sort_by_count,
}
UPDATE_STAGES: Final = ("$addFields", "$set", "$project", "$unset", "$replaceRoot", "$replaceWith")


def update_pipeline(
    stages: Sequence[Any], *, now: datetime, let: Mapping[str, Any] | None = None, ordered: bool = False
) -> Callable[[Document], Document]:
    """What an update that is a pipeline makes of a document. Raises: CallRefused as `compile_pipeline`, and for other stages."""
    for one in stages:
        if not isinstance(one, Mapping) or next(iter(one), "") not in UPDATE_STAGES:
            raise CallRefused("an update by a pipeline with other stages", f"use {' '.join(UPDATE_STAGES)}")
    pipeline = compile_pipeline(stages, now=now, let=let, ordered=ordered)
    return lambda document: pipeline.run([document])[0]
