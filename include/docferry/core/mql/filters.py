"""MongoDB's query language over one document: a stated set of operators, meant exactly; all others are refused by name.

$eq $ne $gt $gte $lt $lte $in $nin $exists $not $and $or $nor $size $mod $regex $all $elemMatch $type $expr, and a plain value.
Paths are dotted and look into arrays as MongoDB's do. Comparisons stay within one type (numbers are one); null matches what is
missing. Two documents are equal whatever the order of their fields, which DynamoDB does not keep, unless they are to be
`ordered`. $expr knows the operators of
`core.mql.expressions`, $regex a part of PCRE. Not here: $where, $comment, text, geography, bits, collations.

Source: MongoDB 6.0 manual, "Query and Projection Operators", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bson import Regex

from docferry.core.bson_codec.order import (
    ABSENT,
    NAN_KEY,
    RANK_OF_ABSENT,
    RANK_OF_MAX_KEY,
    RANK_OF_MIN_KEY,
    RANK_OF_NULL,
    KeyOf,
    order_key,
)
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import remainder, whole_part
from docferry.core.mql.conditions import Combined, ExpressionNode, Negated, Node, OnField, Test, bound, combined
from docferry.core.mql.expressions import comparing, equality_of
from docferry.core.mql.expressions.patterns import matcher, with_options
from docferry.core.mql.values import (
    TYPE_CODES,
    Document,
    as_bson,
    is_expression,
    is_true,
    type_code,
    whole_number,
)
from docferry.errors import CallRefused


@dataclass(frozen=True, slots=True)
class Terms:
    """What the conditions of one query have in common: by which keys values are equal, and the equalities that are met by all
    that is found (`pinned`; None where an equality pins nothing)."""

    equality: KeyOf
    pinned: list[tuple[str, Any]] | None = None

    def pin(self, name: str, value: Any) -> None:
        if self.pinned is not None:
            self.pinned.append((name, value))

    @property
    def apart(self) -> Terms:
        """For conditions that not all that is found must meet."""
        return Terms(self.equality)


SUGGESTION: Final = (
    "use $eq $ne $gt $gte $lt $lte $in $nin $exists $not $and $or $nor $size $mod $regex $all $elemMatch $type, as MongoDB does, "
    "or filter in the application"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A compiled query. `pinned` are its equalities in order, a path as often as the query names it."""

    root: Node
    pinned: tuple[tuple[str, Any], ...]

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Whether MongoDB would find the document. It is as `codec.BSON_OPTIONS` reads it."""
        return self.root.matches(document)

    @property
    def equalities(self) -> dict[str, Any]:
        """Dotted path -> value, for each path that must equal one value (or be an array with it; null: or be missing)."""
        found: dict[str, Any] = {}
        for path, value in self.pinned:
            found.setdefault(path, value)
        return found

    def position(self, document: Mapping[str, Any]) -> int | None:
        """Which element of an array an update's `$` stands for, in a document that matches; None: no condition was met by one.

        Raises: CallRefused, if they were met by elements at several places: MongoDB leaves open which one it is.
        """
        found = set(self.root.positions(document))
        if len(found) > 1:
            raise CallRefused(
                "the positional $ of an update whose query is met by elements at several places",
                "name the element by one $elemMatch, or by array_filters",
            )
        return next(iter(found), None)


def compile_filter(
    query: Mapping[str, Any], variables: Mapping[str, Any] | None = None, *, ordered: bool = False
) -> Filter:
    """Compile a query as pymongo's `find` takes it. `variables` are those that `$expr` knows, by their names without $$.
    `ordered`: documents are equal with their fields in one order, as in MongoDB.

    Raises: CallRefused, naming an operator that is not supported, or one whose operand MongoDB would not take.
    """
    pinned: list[tuple[str, Any]] = []
    variables = comparing(variables, ordered=ordered)
    root = _every_field(bound(as_bson(query), variables, _LOGICAL), Terms(equality_of(variables), pinned))
    return Filter(root=root, pinned=tuple(pinned))


# --- the tree of conditions ------------------------------------------------------------------------------------------


_PLACES: Final = ("$near", "$nearSphere", "$geoWithin", "$geoIntersects")
_INSTEAD: Final[Mapping[str, str]] = {
    "$text": "ask a search service beside DynamoDB, which has no full text",
    "$where": "store what is computed in a field, and ask for that",
    "$expr": "give it at the top level of the query, or below $and, $or and $nor",
    "$comment": "give the comment as an option of the call",
    **dict.fromkeys(_PLACES, "store a geohash in a field, and ask for it or for a range"),
}


def _refuse(what: str, word: str = "") -> CallRefused:
    """`word` is an operator for which there is more to say than what is served."""
    special = _INSTEAD.get(word)
    return CallRefused(what, f"{special}; or {SUGGESTION}" if special else SUGGESTION)


def _every_field(query: Document, terms: Terms) -> Node:
    """All conditions of a query document."""
    nodes: list[Node] = []
    for name, value in query.items():
        if isinstance(value, ExpressionNode):
            nodes.append(value)
        elif name in _LOGICAL:
            nodes.append(_LOGICAL[name](name, value, terms))
        elif name[:1] == "$":
            raise _refuse(f"the query operator {name}", name)
        else:
            nodes.append(_field(name, value, terms))
    return combined(all, nodes)


def _clauses(name: str, value: Any) -> list[Document]:
    if not isinstance(value, list) or not value or not all(isinstance(clause, dict) for clause in value):
        raise _refuse(f"{name} with anything but an array of at least one document")
    return value


def _and(name: str, value: Any, terms: Terms) -> Node:
    return combined(all, [_every_field(clause, terms) for clause in _clauses(name, value)])


def _or(name: str, value: Any, terms: Terms) -> Node:
    clauses = _clauses(name, value)
    return combined(any, [_every_field(clause, terms if len(clauses) == 1 else terms.apart) for clause in clauses])


def _nor(name: str, value: Any, terms: Terms) -> Node:
    return Negated(combined(any, [_every_field(clause, terms.apart) for clause in _clauses(name, value)]))


_LOGICAL: Final[Mapping[str, Callable[[str, Any, Terms], Node]]] = {"$and": _and, "$or": _or, "$nor": _nor}


def _field(name: str, value: Any, terms: Terms) -> Node:
    if isinstance(value, Regex):
        return _leaf(name, matcher(value))
    if is_expression(value):
        return _operators(name, value, terms)
    return _equality(name, value, terms)


def _operators(name: str, expression: Document, terms: Terms) -> Node:
    nodes: list[Node] = []
    for word, operand in with_options(expression).items():
        parse = _OPERATORS.get(word)
        if parse is None:
            raise _refuse(f"the query operator {word}", word)
        nodes.append(parse(name, operand, terms))
    return nodes[0] if len(nodes) == 1 else Combined(all, tuple(nodes))


def _leaf(name: str, test: Test, leaf_arrays: bool = True) -> OnField:
    return OnField(tuple(name.split(".")), test, leaf_arrays)


# --- operators on a field --------------------------------------------------------------------------------------------


def _equality(name: str, wanted: Any, terms: Terms) -> Node:
    terms.pin(name, wanted)
    return _leaf(name, _comparison("$eq", wanted, terms.equality))


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$eq": operator.eq,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def _comparison(word: str, wanted: Any, key_of: KeyOf = order_key) -> Test:
    if isinstance(wanted, Regex):
        raise _refuse("a regular expression in a query", "$regex")
    compare, key = _COMPARISONS[word], key_of(wanted)
    with_equals = compare(0, 0)
    # Across types: MinKey is below and MaxKey above everything, and what is missing is null.
    of_other_types = (key[0] == RANK_OF_MIN_KEY and word[:3] == "$gt") or (
        key[0] == RANK_OF_MAX_KEY and word[:3] == "$lt"
    )

    def test(value: Any) -> bool:
        found = key_of(value)
        if found[0] != key[0]:
            if found[0] == RANK_OF_ABSENT and key[0] == RANK_OF_NULL:
                return with_equals
            return of_other_types
        if NAN_KEY in (found, key):
            return with_equals and found == key
        return compare(found, key)

    return test


def _compare(word: str) -> Callable[[str, Any, Terms], Node]:
    return lambda name, wanted, terms: _leaf(name, _comparison(word, wanted))


def _not_equal(name: str, wanted: Any, terms: Terms) -> Node:
    return Negated(_leaf(name, _comparison("$eq", wanted, terms.equality)))


def _in(name: str, wanted: Any, terms: Terms) -> Node:
    if not isinstance(wanted, list):
        raise _refuse("$in or $nin with anything but an array")
    if any(is_expression(value) for value in wanted):
        raise _refuse("an operator inside $in or $nin")
    tests = [matcher(value) for value in wanted if isinstance(value, Regex)]
    equality = terms.equality
    keys = {equality(value) for value in wanted if not isinstance(value, Regex)}
    if (RANK_OF_NULL,) in keys:
        keys.add((RANK_OF_ABSENT,))
    if len(wanted) == 1 and not tests:
        terms.pin(name, wanted[0])
    return _leaf(name, lambda value: equality(value) in keys or any(test(value) for test in tests))


def _not_in(name: str, wanted: Any, terms: Terms) -> Node:
    return Negated(_in(name, wanted, terms.apart))


def _exists(name: str, wanted: Any, terms: Terms) -> Node:
    node = _leaf(name, lambda value: value is not ABSENT, leaf_arrays=False)
    return node if is_true(wanted) else Negated(node)


def _not(name: str, expression: Any, terms: Terms) -> Node:
    if isinstance(expression, Regex):
        return Negated(_leaf(name, matcher(expression)))
    if not is_expression(expression):
        raise _refuse("$not with anything but a document of operators")
    return Negated(_operators(name, expression, terms.apart))


def _size(name: str, wanted: Any, terms: Terms) -> Node:
    size = whole_number(wanted)
    if size is None or size < 0:
        raise _refuse("$size with anything but a whole number that is not negative")
    return _leaf(name, lambda value: isinstance(value, list) and len(value) == size, leaf_arrays=False)


def _all(name: str, wanted: Any, terms: Terms) -> Node:
    if not isinstance(wanted, list):
        raise _refuse("$all with anything but an array")
    if wanted and all(isinstance(value, dict) and next(iter(value), "") == "$elemMatch" for value in wanted):
        return Combined(all, tuple(_operators(name, value, terms.apart) for value in wanted))
    if any(is_expression(value) for value in wanted):
        raise _refuse("an operator other than $elemMatch inside $all")
    nodes = tuple(_field(name, value, terms) for value in wanted)
    return Combined(all if nodes else any, nodes)


def _elem_match(name: str, wanted: Any, terms: Terms) -> Node:
    if not isinstance(wanted, dict):
        raise _refuse("$elemMatch with anything but a document")
    if is_expression(wanted) and next(iter(wanted)) not in _LOGICAL:
        return _any_element(name, _operators("", wanted, terms.apart).holds)
    query = _every_field(wanted, terms.apart)
    return _any_element(name, lambda value: (fields := _as_fields(value)) is not None and query.matches(fields))


def _any_element(name: str, test: Test) -> OnField:
    path = tuple(name.split("."))
    return OnField(path, lambda value: isinstance(value, list) and any(map(test, value)), False, test)


def _as_fields(value: Any) -> Mapping[str, Any] | None:
    """As an $elemMatch sees an element: an array is a document whose fields are called 0, 1, ..."""
    return {str(index): inner for index, inner in enumerate(value)} if isinstance(value, list) else fields_of(value)


def _mod(name: str, wanted: Any, terms: Terms) -> Node:
    parts = [whole_part(one) for one in wanted] if isinstance(wanted, list) and len(wanted) == 2 else [None]
    if None in parts or not parts[0]:
        raise _refuse("$mod with anything but a divisor and a remainder")
    return _leaf(name, lambda value: remainder(value, parts[0] or 1) == parts[1])


def _type(name: str, wanted: Any, terms: Terms) -> Node:
    codes: set[int] = set()
    for one in wanted if isinstance(wanted, list) else [wanted]:
        code = TYPE_CODES.get(one) if isinstance(one, str) else whole_number(one)
        if one == "number":
            codes |= {1, 16, 18, 19}
        elif code in TYPE_CODES.values():
            codes.add(code or 0)
        else:
            raise _refuse("$type with an unknown type")
    if not codes:
        raise _refuse("$type with no type")
    return _leaf(name, lambda value: type_code(value) in codes)


_OPERATORS: Final[Mapping[str, Callable[[str, Any, Terms], Node]]] = {
    "$eq": _equality,
    "$ne": _not_equal,
    **{word: _compare(word) for word in ("$gt", "$gte", "$lt", "$lte")},
    "$in": _in,
    "$nin": _not_in,
    "$exists": _exists,
    "$not": _not,
    "$regex": lambda name, wanted, terms: _leaf(name, matcher(wanted)),
    "$size": _size,
    "$mod": _mod,
    "$all": _all,
    "$elemMatch": _elem_match,
    "$type": _type,
}
