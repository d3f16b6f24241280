"""Updates of elements that a query or array filters name: `$`, `$[]` and `$[name]`. Named cases, and drawn ones."""

from __future__ import annotations

from typing import Any

from bson import Int64
from hypothesis import strategies as st

from support.mongodb_cases.cases import Document
from support.mongodb_cases.draws import ARGUMENTS, by_name, fields, places, queries_for, scalars

ElementCase = tuple[Document, Document, Document, list[Document] | None, Document | int]
"""The document, the query, the update, the array filters; and what becomes of it, or MongoDB's code."""

LINES: Document = {"l": [{"n": "a", "q": 1}, {"n": "b", "q": 2}, {"n": "a", "q": 3}]}
GRID: Document = {"g": [{"r": [1, 2]}, {"r": [2, 3]}]}

ELEMENTS: list[ElementCase] = [
    ({"a": [1, 2, 3]}, {"a": 2}, {"$set": {"a.$": 9}}, None, {"a": [1, 9, 3]}),
    ({"a": [1, 2, 3]}, {"a": {"$gt": 1}}, {"$inc": {"a.$": 1}}, None, {"a": [1, 3, 3]}),
    (LINES, {"l.n": "b"}, {"$set": {"l.$.q": 9}}, None, {"l": [*LINES["l"][:1], {"n": "b", "q": 9}, *LINES["l"][2:]]}),
    (LINES, {"l": {"$elemMatch": {"n": "a", "q": {"$gt": 1}}}}, {"$unset": {"l.$.n": ""}}, None,
     {"l": [*LINES["l"][:2], {"q": 3}]}),
    (LINES, {"l": {"$elemMatch": {"n": "b"}}}, {"$set": {"l.0.q": 5, "l.$.q": 7}}, None,
     {"l": [{"n": "a", "q": 5}, {"n": "b", "q": 7}, LINES["l"][2]]}),
    (GRID, {"g.r": 3}, {"$set": {"g.$.r.0": 9}}, None, {"g": [{"r": [1, 2]}, {"r": [9, 3]}]}),
    ({"a": [1, 2], "b": [5, 6, 7]}, {"a": 2}, {"$set": {"b.$": 0}}, None, {"a": [1, 2], "b": [5, 0, 7]}),
    ({"a": [1], "b": {}}, {"a": 1}, {"$set": {"b.$": 0}}, None, {"a": [1], "b": {"0": 0}}),
    ({"a": [1]}, {}, {"$set": {"a.$": 0}}, None, 2),
    ({"a": [1]}, {"a": {"$ne": 2}}, {"$set": {"a.$": 0}}, None, 2),
    ({"a": [1, 2]}, {"a": [1, 2]}, {"$set": {"a.$": 0}}, None, 2),
    ({"a": [1]}, {"a": 1}, {"$set": {"a.$": 0, "a.0": 1}}, None, 40),
    ({"a": [1]}, {"a": 1}, {"$set": {"$": 0}}, None, 2),
    ({"a": [1]}, {"a": 1}, {"$set": {"a.$.$": 0}}, None, 2),
    ({"a": [1]}, {"a": 1}, {"$rename": {"a.$": "b"}}, None, 2),
    ({"a": [1, 2]}, {}, {"$inc": {"a.$[]": 1}}, None, {"a": [2, 3]}),
    ({"a": []}, {}, {"$inc": {"a.$[]": 1}}, None, {"a": []}),
    (GRID, {}, {"$mul": {"g.$[].r.$[]": 10}}, None, {"g": [{"r": [10, 20]}, {"r": [20, 30]}]}),
    (LINES, {}, {"$set": {"l.$[].z": 0}}, None, {"l": [{**one, "z": 0} for one in LINES["l"]]}),
    ({"a": [1, 2]}, {}, {"$unset": {"a.$[]": ""}}, None, {"a": [None, None]}),
    ({}, {}, {"$set": {"a.$[]": 1}}, None, 2),
    ({"a": 1}, {}, {"$set": {"a.$[]": 1}}, None, 2),
    ({"a": 1}, {}, {"$set": {"a.b.$[]": 1}}, None, 2),
    ({"a": [1]}, {}, {"$set": {"a.$[]": 1, "a.0": 2}}, None, 40),
    ({"a": [1]}, {}, {"$set": {"a.$[].b": 1}}, None, 28),
    ({"a": [1]}, {}, {"$set": {"$[]": 1}}, None, 2),
    ({"a": [1, 5, 9]}, {}, {"$set": {"a.$[x]": 0}}, [{"x": {"$gte": 5}}], {"a": [1, 0, 0]}),
    (LINES, {}, {"$inc": {"l.$[x].q": 1}}, [{"x.n": "a", "x.q": {"$lt": 3}}], {"l": [{"n": "a", "q": 2}, *LINES["l"][1:]]}),
    (LINES, {}, {"$set": {"l.$[x].q": 0, "l.$[y].n": "z"}}, [{"x.n": "a"}, {"y.q": 3}],
     {"l": [{"n": "a", "q": 0}, {"n": "b", "q": 2}, {"n": "z", "q": 0}]}),
    (GRID, {}, {"$set": {"g.$[].r.$[x]": 0}}, [{"x": 2}], {"g": [{"r": [1, 0]}, {"r": [0, 3]}]}),
    (GRID, {}, {"$push": {"g.$[x].r": 7}}, [{"x.r": 3}], {"g": [{"r": [1, 2]}, {"r": [2, 3, 7]}]}),
    ({"a": [1, 2]}, {}, {"$set": {"a.$[x]": 0}}, [{"$or": [{"x": 2}, {"x": 3}]}], {"a": [1, 0]}),
    ({"a": [1]}, {}, {"$set": {"a.$[x]": 0, "a.$[y]": 1}}, [{"x": 1}, {"y": 1}], 40),
    ({"a": [1]}, {}, {"$set": {"a.$[x]": 0, "a.$[y]": 1}}, [{"x": 1}, {"y": 2}], {"a": [0]}),
    ({"a": [1]}, {}, {"$set": {"a.$[x]": 0}}, None, 2),
    ({"a": [1]}, {}, {"$set": {"a.$[]": 0}}, [{"x": 1}], 9),
    ({"a": [1]}, {}, {"$set": {"a.$[x]": 0}}, [{"x": 1}, {"x": 2}], 9),
    ({"a": [1]}, {}, {"$set": {"a.$[x]": 0}}, [{}], 9),
    ({"a": [1]}, {}, {"$set": {"a.$[x]": 0}}, [{"x": 1, "y": 1}], 9),
    ({"a": [1]}, {}, {"$set": {"a.$[X]": 0}}, [{"X": 1}], 2),
    ({"a": 6, "b": Int64(1)}, {}, {"$bit": {"a": {"and": 3, "or": 8}, "b": {"xor": 3}, "c": {"or": 5}}}, None,
     {"a": 10, "b": Int64(2), "c": 5}),
    ({"a": 1}, {}, {"$bit": {"a": {"and": 1.0}}}, None, 2),
    ({"a": 1}, {}, {"$bit": {"a": {}}}, None, 2),
    ({"a": 1}, {}, {"$bit": {"a": {"not": 1}}}, None, 2),
    ({"a": 1.0}, {}, {"$bit": {"a": {"and": 1}}}, None, 2),
    ({"a": [1, 2, 1.0, 3]}, {}, {"$pullAll": {"a": [1, 3]}}, None, {"a": [2]}),
    ({"a": 1}, {}, {"$pullAll": {"a": [1]}}, None, 2),
    ({"a": [1]}, {}, {"$pullAll": {"a": 1}}, None, 2),
    ({"a": [1]}, {}, {"$pushAll": {"a": [1]}}, None, 9),
]  # fmt: skip


@st.composite
def element_updates(pick: st.DrawFn) -> tuple[Document, Document, Document, list[Document]]:
    """A document, a query that may find it, an update of elements of it, and its array filters."""
    document: Document = pick(fields)
    query = pick(st.one_of(st.just({}), queries_for([document])))
    update: Document = {}
    filters: dict[str, Document] = {}
    words = (
        "$set",
        "$unset",
        "$inc",
        "$push",
        "$pull",
        "$pullAll",
        "$bit",
        "$min",
        "$max",
        "$addToSet",
        "$pop",
        "$setOnInsert",
    )
    for word in pick(st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True)):
        path, value = pick(st.sampled_from(places(document)))
        argument = pick(ARGUMENTS[word])
        update[word] = {_elements(pick, path, value, filters): argument}
    if pick(st.sampled_from(range(8))) == 7:
        filters["z"] = {"z": 1}
    return document, query, update, list(filters.values())


def _elements(pick: st.DrawFn, path: tuple[str, ...], value: Any, filters: dict[str, Document]) -> str:
    """The path with `$`, `$[]` or `$[name]` for some of its numbers, or behind it where it leads to an array."""
    parts = list(path)
    if isinstance(value, list) and pick(st.booleans()):
        parts.append("0")
    for at, part in enumerate(parts[1:], start=1):
        if not part.isdigit() or not pick(st.sampled_from((True, True, False))):
            continue
        kind = pick(st.sampled_from(("$", "$[]", "$[x]", "$[y]")))
        parts[at] = kind
        if len(kind) == 4:
            name = kind[2]
            filters[name] = pick(_filters(name, parts[at + 1 :]))
    return ".".join(parts)


def _filters(name: str, rest: list[str]) -> st.SearchStrategy[Document]:
    asked = st.one_of(
        scalars,
        *(scalars.map(lambda one, word=word: {word: one}) for word in ("$ne", "$gte", "$lt")),  # type: ignore[misc]
    )
    path = ".".join([name, *[one for one in rest if one[:1] != "$"]])
    return st.one_of(
        asked.map(lambda one: {name: one}),
        asked.map(lambda one: by_name({path: one})),
        st.just({name: {"$exists": True}}),
    )
