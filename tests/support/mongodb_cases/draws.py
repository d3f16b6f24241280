"""Documents, queries, updates, projections and sorts over few names and few values, so that they meet."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from docferry.testing.strategies import real
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from support.mongodb_cases.cases import Document

NAMES = ("a", "b", "c", "0", "1")
SCALARS: tuple[Any, ...] = (
    0, 1, 2, -1, 2**31 - 1, Int64(1), Int64(2**63 - 1), Int64(-(2**63)), 0.0, -0.0, 1.0, 1.5, 0.1, 1e300, 2.0**53, float("inf"),
    *map(Decimal128, ("0", "1", "1.00", "-0", "0.1", "1E+3", "9.999999999999999999999999999999999E+6144", "Infinity")),
    "", "a", "b", "1", None, True, False, datetime(2024, 1, 1), datetime(1970, 1, 1), Timestamp(1, 1), ObjectId("0" * 24), b"",
    b"a", Binary(b"a", 5), MinKey(), MaxKey(), Code("f"), Code("f", {"a": 1}), DBRef("c", 1), DBRef("c", 1, a=1), float("nan"),
)  # fmt: skip
names = st.sampled_from(NAMES)
paths = st.one_of(names, st.lists(names, min_size=1, max_size=3).map(".".join))
scalars = st.one_of(st.sampled_from((0, 1, 2, "a", None)), st.sampled_from(SCALARS))


def by_name(document: Document) -> Document:
    """Its fields in one order: DynamoDB does not keep it, so our equality does not depend on it, as MongoDB's does."""
    return dict(sorted(document.items()))


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3).map(by_name))


values = st.one_of(scalars, st.recursive(scalars, _containers, max_leaves=5)).map(lambda value: real({"v": value})["v"])
subdocuments = st.dictionaries(names, values, max_size=3).map(by_name)
NUMBERS = tuple(
    value for value in SCALARS if isinstance(value, int | float | Decimal128) and not isinstance(value, bool)
)
numbers = st.sampled_from(NUMBERS)
lines = st.lists(
    st.dictionaries(names, st.one_of(scalars, st.lists(scalars, max_size=2)), min_size=1, max_size=2).map(by_name),
    max_size=3,
)
fields = st.dictionaries(
    names, st.one_of(values, numbers, st.lists(values, max_size=4), subdocuments, lines, lines), min_size=1, max_size=5
).map(real)


def _mostly(usual: SearchStrategy[Any], odd: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.sampled_from(range(20)).flatmap(lambda chance: odd if chance == 19 else usual)


# --- queries ---------------------------------------------------------------------------------------------------------

TYPES = ("double", "string", "object", "array", "binData", "objectId", "bool", "date", "null", "javascript", "int", "timestamp",
    "long", "decimal", "minKey", "maxKey", "number", "javascriptWithScope", 16, 2.0, Decimal128("4"))  # fmt: skip


def _one(word: str, operands: SearchStrategy[Any]) -> SearchStrategy[Document]:
    return operands.map(lambda operand: {word: operand})


def _operators(inner: SearchStrategy[Document], depth: int = 2) -> SearchStrategy[Document]:
    plain = [_one(word, values) for word in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")]
    on_value = _operators(inner, depth - 1) if depth else st.one_of(*plain)
    return st.one_of(
        *plain,
        st.builds(lambda low, high: {"$gte": low, "$lt": high}, values, values),
        _one("$in", st.lists(values, max_size=3)),
        _one("$nin", st.lists(values, max_size=3)),
        _one("$exists", st.sampled_from((True, False, 0, 1.0, None, "", Decimal128("0")))),
        _one("$size", st.sampled_from((0, 1, 2.0, Int64(3), Decimal128("1")))),
        _one("$type", st.one_of(st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES), min_size=1, max_size=2))),
        _one("$all", st.lists(values, max_size=2)),
        _one("$all", st.lists(_one("$elemMatch", st.one_of(inner, on_value)), min_size=1, max_size=2)),
        _one("$not", on_value),
        _one("$elemMatch", st.one_of(inner, on_value)),
    )


def _queries(inner: SearchStrategy[Document]) -> SearchStrategy[Document]:
    operators = _operators(inner)
    conditions = st.dictionaries(paths, st.one_of(values, operators, operators), min_size=1, max_size=2)
    clauses = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(conditions, conditions, *(_one(word, clauses) for word in ("$and", "$or", "$nor")))


equalities = st.dictionaries(paths, values, max_size=2)
queries = st.recursive(equalities, _queries, max_leaves=3)

# --- updates ---------------------------------------------------------------------------------------------------------

_pushes = st.fixed_dictionaries(
    {"$each": st.lists(values, max_size=3)},
    optional={
        "$position": st.sampled_from((0, 1, -1, 5, -5, 1.0)),
        "$slice": st.sampled_from((0, 1, 2, -1, -2, 9, Int64(-9))),
        "$sort": st.one_of(
            st.sampled_from((1, -1, 1.0)), st.dictionaries(paths, st.sampled_from((1, -1)), min_size=1, max_size=2)
        ),
    },
)
ARGUMENTS: dict[str, SearchStrategy[Any]] = {
    "$set": values,
    "$setOnInsert": values,
    "$unset": st.just(""),
    "$inc": _mostly(numbers, values),
    "$mul": _mostly(numbers, values),
    "$min": values,
    "$max": values,
    "$rename": _mostly(paths, values),
    "$push": st.one_of(values, _pushes, _pushes),
    "$pull": st.one_of(values, _operators(equalities), equalities, _mostly(equalities, queries)),
    "$addToSet": _mostly(st.one_of(values, _one("$each", st.lists(values, max_size=3))), _one("$each", values)),
    "$pullAll": _mostly(st.lists(values, max_size=3), values),
    "$bit": _mostly(
        st.dictionaries(
            st.sampled_from(("and", "or", "xor")), st.sampled_from((0, 1, 5, -1, Int64(3))), min_size=1, max_size=2
        ),
        st.one_of(st.dictionaries(st.sampled_from(("and", "not")), scalars, max_size=2), values),
    ),
    "$pop": _mostly(st.sampled_from((1, -1, 1.0)), values),
}
_odd_paths = st.sampled_from(("_id", "_id", "_id.a", "", "a.", ".a", "a..b", "$a", "a.$b", "$a.b"))
_targets = _mostly(paths, _odd_paths)


@st.composite
def updates(pick: st.DrawFn) -> Document:
    """One or two operators. Now and then two of their paths conflict."""
    may_conflict = pick(st.sampled_from(range(10))) == 9
    found: Document = {}
    used: set[str] = set()
    for word in pick(st.lists(st.sampled_from(sorted(ARGUMENTS)), min_size=1, max_size=2, unique=True)):
        drawn = pick(st.dictionaries(_targets, ARGUMENTS[word], min_size=1, max_size=2))
        kept = {}
        for path, argument in drawn.items():
            tops = {path.partition(".")[0]}
            if word == "$rename" and isinstance(argument, str):
                tops.add(argument.partition(".")[0])
            if may_conflict or not tops & used:
                kept[path] = argument
            used |= tops
        found[word] = kept
    return found


# --- what meets a document -------------------------------------------------------------------------------------------


def places(value: Any, above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(path, value) of everything inside; into an array by the number of the element, and without it."""
    found: list[tuple[tuple[str, ...], Any]] = [(above, value)] if above else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*above, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*above, str(index)))
            found += places(inner, above)
    return found


def _place(pick: st.DrawFn, document: Document) -> tuple[tuple[str, ...], Any]:
    """Half of the time one that is deep inside, if any is: there the rules about arrays are."""
    found = places(document)
    deep = [place for place in found if len(place[0]) > 1 and not isinstance(place[1], dict)]
    inside: bool = pick(st.booleans())
    place: tuple[tuple[str, ...], Any] = pick(st.sampled_from(deep if deep and inside else found))
    return place


@st.composite
def queries_for(pick: st.DrawFn, documents: list[Document]) -> Document:
    """A query about something that is in one of the documents, or about anything."""
    path, value = _place(pick, pick(st.sampled_from(documents)))
    kind = pick(
        st.sampled_from(("any", "any", "equal", "compare", "in", "all", "elemMatch", "not", "size", "exists", "type"))
    )
    name = ".".join(path)
    operand: Any = value
    if kind == "any":
        return pick(queries)
    if kind == "compare":
        operand = {pick(st.sampled_from(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"))): value}
    elif kind in ("in", "all"):
        operand = {"$" + kind: [value, *pick(st.lists(values, max_size=1))]}
    elif kind == "not":
        operand = {"$not": {pick(st.sampled_from(("$eq", "$gt", "$lte"))): value}}
    elif kind == "elemMatch":
        operand = {"$elemMatch": {pick(st.sampled_from(("$eq", "$gte", "$ne"))): value}}
        if len(path) > 1 and pick(st.booleans()):
            name, operand = ".".join(path[:-1]), {"$elemMatch": {path[-1]: value}}
    elif kind == "size":
        operand = {"$size": len(value) if isinstance(value, list) else 1}
    elif kind == "exists":
        operand = {"$exists": pick(st.booleans())}
    elif kind == "type":
        operand = {"$type": pick(st.sampled_from(TYPES))}
    return {name: operand}


@st.composite
def updates_for(pick: st.DrawFn, document: Document) -> Document:
    """An update of something that is in the document, with an operator that suits it, or any update."""
    if pick(st.sampled_from(range(4))) == 3:
        return pick(updates())
    path, value = _place(pick, document)
    words = ["$set", "$unset", "$min", "$max", "$rename"]
    if isinstance(value, list):
        words = [*words, "$push", "$pull", "$pullAll", "$addToSet", "$pop"] * 2
    elif isinstance(value, int | float | Decimal128) and not isinstance(value, bool):
        words = [*words, "$inc", "$mul", "$bit"] * 2
    word = pick(st.sampled_from(words))
    argument = pick(ARGUMENTS[word])
    if word in ("$pull", "$addToSet") and isinstance(value, list) and value and pick(st.booleans()):
        argument = pick(st.sampled_from(value))
    if pick(st.sampled_from(range(5))) == 4:
        path = (*path, pick(names))
    return {word: {".".join(path): argument}}


@st.composite
def documents_with_queries(pick: st.DrawFn) -> tuple[list[Document], list[Document]]:
    documents = pick(st.lists(fields, min_size=1, max_size=6))
    return documents, pick(st.lists(queries_for(documents), min_size=1, max_size=6))


documents_with_updates = st.lists(
    fields.flatmap(lambda document: st.tuples(st.just(document), updates_for(document))), min_size=1, max_size=6
)

projections = st.builds(
    lambda names, wanted, key: {**dict.fromkeys(names, wanted), **key},
    st.lists(paths, max_size=3),
    st.sampled_from((0, 1, True, False, 2.5, Decimal128("0"))),
    st.sampled_from(({}, {"_id": 0}, {"_id": 1}, {"_id": True})),
)
sorts = st.lists(st.tuples(paths, st.sampled_from((1, -1))), max_size=2, unique_by=lambda pair: pair[0])
