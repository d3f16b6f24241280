"""Updates by pipelines: named cases, and drawn ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support.mongodb_cases.cases import NOW, Document
from support.mongodb_cases.draws import fields, names, paths, places, scalars, values

Stages = list[Document]

PIPED: list[tuple[Document, Stages, Document | int]] = [
    ({"a": 1}, [{"$set": {"b": {"$add": ["$a", 1]}}}], {"a": 1, "b": 2}),
    ({"a": 1}, [{"$set": {"b": "$a"}}, {"$unset": "a"}], {"b": 1}),
    ({"a": {"b": 1}}, [{"$addFields": {"a.c": {"$multiply": ["$a.b", 2]}}}], {"a": {"b": 1, "c": 2}}),
    ({"a": 1, "b": 2}, [{"$replaceWith": {"c": {"$max": ["$a", "$b"]}}}], {"c": 2}),
    ({"a": {"x": 1}}, [{"$replaceRoot": {"newRoot": "$a"}}], {"x": 1}),
    ({"a": 1, "b": 2}, [{"$project": {"a": 1}}], {"a": 1}),
    ({"a": [1, 2]}, [{"$set": {"n": {"$size": "$a"}}}], {"a": [1, 2], "n": 2}),
    ({"a": 1}, [{"$set": {"a": "$$NOW"}}], {"a": NOW}),
    ({"a": 1}, [{"$unset": "_id"}], {"a": 1}),
    ({"a": 1}, [{"$set": {"_id": 7}}], 66),
    ({"a": "x"}, [{"$set": {"b": {"$size": "$a"}}}], 17124),
    ({"a": 1}, [{"$replaceWith": "$a"}], 40228),
]
"""The document, the pipeline; what becomes of it, or MongoDB's code."""


@st.composite
def piped_updates(pick: st.DrawFn) -> tuple[Document, Stages]:
    """What removes fields comes last: MongoDB gives a field that is added again its old place, ours the last one."""
    document: Document = pick(fields)
    stages = [_stage(pick, document, _ADDING) for _ in range(pick(st.sampled_from((0, 0, 1))))]
    return document, [*stages, _stage(pick, document, (*_ADDING, "$unset", "$project"))]


_ADDING = ("$set", "$set", "$addFields", "$replaceWith", "$replaceRoot")


def _stage(pick: st.DrawFn, document: Document, words: tuple[str, ...]) -> Document:
    word = pick(st.sampled_from(words))
    if word in ("$set", "$addFields"):
        return {word: {pick(_targets): _expression(pick, document) for _ in range(pick(st.sampled_from((1, 1, 2))))}}
    if word == "$unset":
        return {word: pick(st.one_of(_targets, st.lists(_targets, min_size=1, max_size=2, unique=True)))}
    if word == "$project":
        shown = pick(st.sampled_from((0, 1)))
        return {word: dict.fromkeys(pick(st.lists(names, min_size=1, max_size=2, unique=True)), shown)}
    whole = (
        {pick(names): _expression(pick, document)} if pick(st.booleans()) else {"$mergeObjects": ["$$ROOT", {"a": 1}]}
    )
    return {word: whole if word == "$replaceWith" else {"newRoot": whole}}


_targets = st.one_of(names, paths, st.just("_id"))


def _expression(pick: st.DrawFn, document: Document) -> Any:
    path = "$" + ".".join(pick(st.sampled_from(places(document)))[0])
    value = {"$literal": pick(st.one_of(values, scalars))}
    kind = pick(
        st.sampled_from(("path", "path", "literal", "add", "ifNull", "cond", "array", "size", "concat", "document"))
    )
    return {
        "path": path, "literal": value, "add": {"$add": [path, 1]}, "ifNull": {"$ifNull": [path, value]},
        "cond": {"$cond": [{"$gt": [path, value]}, path, "$$REMOVE"]}, "array": [path, value], "size": {"$size": path},
        "concat": {"$concatArrays": [{"$cond": [{"$isArray": path}, path, []]}, [value]]}, "document": {"x": path, "y": 1},
    }[kind]  # fmt: skip
