"""Documents of one collection, added up: paths, types, presence, sizes, lengths, heavy values. Pure, in bounded memory.

Paths below an array are written `a[]`, paths below an object whose names are data `a.*`. No more than `MAX_PATHS` paths
are kept; what comes after is counted and said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import bson
from bson.objectid import ObjectId

from docferry.core.analyze.facts import HeavyValue, Looks, PathFacts, Spread
from docferry.core.mql.values import type_name

MAX_PATHS = 2_000
MAX_DEPTH = 32
NAMES_ARE_DATA = 64
"""An object with more different names than this, few of them common, has data for names."""
FEW_VALUES = 30
"""A field with so few different values holds categories, which a report may show."""
SHORT_VALUE = 40
"""Characters of one that may be shown."""
EXAMPLES = 3
KEPT_VALUES, KEPT_PATHS = 200, 24
"""Different values that are kept of a field which may refer to other documents, and such fields of a collection: they are looked
up in other collections, and are in no report."""
REFERS = re.compile(r"(ids?|_id|code|number|key|no|email|username|name|sku|slug)$", re.IGNORECASE)


class SketchKinds(Protocol):
    """`ports.analyze.Sketches`, as far as it is used here."""

    @property
    def distinct(self) -> Callable[[], Any]: ...
    @property
    def heavy(self) -> Callable[[], Any]: ...
    @property
    def quantiles(self) -> Callable[[], Any]: ...


_LOOKS: tuple[tuple[Looks, re.Pattern[str]], ...] = (
    ("date", re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?\Z")),
    ("uuid", re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")),
    ("object id", re.compile(r"[0-9a-f]{24}\Z")),
    ("number", re.compile(r"[+-]?\d+(\.\d+)?\Z")),
    ("e-mail", re.compile(r"[^@\s]{1,64}@[^@\s]+\.[a-zA-Z]{2,}\Z")),
    ("url", re.compile(r"https?://\S+\Z")),
)
_MONEY = re.compile(r"(price|amount|total|cost|balance|fee|salary|revenue)", re.IGNORECASE)


class PathNode:
    """One path while documents are added."""

    __slots__ = (
        "children", "distinct", "empty", "examples", "fractional", "heavy", "kept", "lengths", "longest", "looks", "merged",
        "name", "negative", "old", "seen", "seen_in", "types", "values", "young",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = 0
        self.seen_in = -1
        self.types: dict[str, int] = {}
        self.children: dict[str, PathNode] = {}
        self.merged = False
        self.values = 0
        self.empty = 0
        self.distinct: Any = None
        self.heavy: Any = None
        self.lengths: Any = None
        self.young: list[float] = [0.0, 0.0]
        self.old: list[float] = [0.0, 0.0]
        self.looks: dict[Looks, int] = {}
        self.longest = 0
        self.negative = False
        self.fractional = False
        self.examples: list[str] = []
        self.kept: dict[bytes, Any] | None = None
        """By their BSON; None: this is no field that refers to others."""


class Profile:
    """What the documents of one collection are like. `size_of` gives a document's bytes as DynamoDB counts them, or raises
    ValueError with the reason why it cannot be stored."""

    def __init__(self, sketches: SketchKinds, size_of: Callable[[Mapping[str, Any]], int], item_limit: int) -> None:
        self._sketches, self._size_of, self._limit = sketches, size_of, item_limit
        self.documents = 0
        self.bytes = 0
        self.root = PathNode("")
        self.sizes = sketches.quantiles()
        self.over = 0
        self.unstorable: dict[str, int] = {}
        self._paths = 0
        self.left_out = 0
        self._keeping = 0
        self._middle_age: float | None = None

    def add(self, document: Mapping[str, Any], size: int) -> None:
        """One document, decoded, and its bytes as BSON."""
        self.documents += 1
        self.bytes += size
        try:
            stored = self._size_of(document)
        except ValueError as error:
            self.unstorable[str(error)] = self.unstorable.get(str(error), 0) + 1
        else:
            self.sizes.add(stored)
            self.over += stored > self._limit
        self.root.seen += 1
        self._fields(self.root, document, 0, _age(document.get("_id")))

    def refuse(self, reason: str, size: int) -> None:
        """One document that cannot be decoded."""
        self.documents += 1
        self.bytes += size
        self.unstorable[reason] = self.unstorable.get(reason, 0) + 1

    def _fields(self, node: PathNode, document: Mapping[str, Any], depth: int, age: float | None) -> None:
        if depth >= MAX_DEPTH:
            self.left_out += 1
            return
        for name, value in document.items():
            known = not node.merged or name in node.children
            self._value(self._child(node, str(name) if known else "*"), value, depth, age)
        if len(node.children) > NAMES_ARE_DATA and not node.merged:
            self._merge_if_data(node)

    def _child(self, node: PathNode, name: str) -> PathNode:
        child = node.children.get(name)
        if child is None:
            if self._paths >= MAX_PATHS:
                self.left_out += 1
                return node.children.setdefault("…", PathNode("…"))
            self._paths += 1
            child = node.children[name] = PathNode(name)
            if name == "[]" or (name != "_id" and REFERS.search(name)):
                self._keep(child)
        return child

    def _keep(self, node: PathNode) -> None:
        if node.kept is None and self._keeping < KEPT_PATHS:
            self._keeping += 1
            node.kept = {}

    def _merge_if_data(self, node: PathNode) -> None:
        """Names that come and go are data: one node, `*`, stands for those that few documents have, from here on."""
        rare = {name: child for name, child in node.children.items() if child.seen <= 0.5 * node.seen}
        if len(rare) <= NAMES_ARE_DATA:
            return
        seldom = sum(child.seen <= 0.05 * node.seen for child in rare.values())
        if not _look_like_data(rare) and seldom < 0.8 * len(rare):
            return
        merged = PathNode("*")
        for child in rare.values():
            merged.seen += child.seen
            for name, count in child.types.items():
                merged.types[name] = merged.types.get(name, 0) + count
        self._paths -= len(rare) - 1
        node.children = {name: child for name, child in node.children.items() if name not in rare} | {"*": merged}
        node.merged = True

    def _value(self, node: PathNode, value: Any, depth: int, age: float | None) -> None:
        node.seen += 1
        kind = type_name(value)
        if kind == "object" and not isinstance(value, dict):
            kind = "dbRef"
        node.types[kind] = node.types.get(kind, 0) + 1
        if kind == "object":
            self._fields(node, value, depth + 1, age)
        elif kind == "array":
            self._array(node, value, depth, age)
        elif kind not in ("null", "undefined"):
            self._scalar(node, value, kind)

    def _array(self, node: PathNode, value: list[Any], depth: int, age: float | None) -> None:
        if node.lengths is None:
            node.lengths = self._sketches.quantiles()
        node.lengths.add(len(value))
        self._grow(node, len(value), age)
        if depth >= MAX_DEPTH:
            self.left_out += 1
            return
        inner = self._child(node, "[]")
        for one in value[:1_000]:
            self._value(inner, one, depth + 1, age)

    def _grow(self, node: PathNode, length: int, age: float | None) -> None:
        """Lengths of the older and of the younger half, by the time in the ObjectId."""
        if age is None:
            return
        if self._middle_age is None:
            self._middle_age = age
        self._middle_age += (age - self._middle_age) * 0.01
        half = node.old if age < self._middle_age else node.young
        half[0] += length
        half[1] += 1

    def _scalar(self, node: PathNode, value: Any, kind: str) -> None:
        if node.distinct is None:
            node.distinct, node.heavy = self._sketches.distinct(), self._sketches.heavy()
        node.values += 1
        text = _text_of(value, kind)
        short = text[:200]
        if kind == "objectId" and node.name != "_id":
            self._keep(node)
        if node.kept is not None and len(node.kept) < KEPT_VALUES and len(text) <= 200:
            node.kept.setdefault(bson.encode({"": value}), value)
        node.distinct.add(text.encode("utf-8", "surrogatepass"))
        node.heavy.add(short)
        if kind == "string":
            self._text(node, value)
        elif kind in ("int", "long", "double", "decimal"):
            number = float(value.to_decimal()) if kind == "decimal" else float(value)
            node.negative = node.negative or number < 0
            node.fractional = node.fractional or number != number or abs(number) > 2**62 or number != int(number)
            if _MONEY.search(node.name):
                node.looks["money"] = node.looks.get("money", 0) + 1
        if len(node.examples) < EXAMPLES:
            masked = mask(short)
            if masked not in node.examples:
                node.examples.append(masked)

    def _text(self, node: PathNode, value: str) -> None:
        node.empty += not value
        node.longest = max(node.longest, len(value.encode("utf-8", "surrogatepass")))
        if len(value) <= 254:
            look = next((look for look, pattern in _LOOKS if pattern.match(value)), None)
            if look is not None:
                node.looks[look] = node.looks.get(look, 0) + 1

    # --- what came of it ---------------------------------------------------------------------------------------------

    def paths(self) -> list[PathFacts]:
        """Every path, parents first."""
        found: list[PathFacts] = []
        self._collect(self.root, "", self.documents, found)
        return found

    def kept(self) -> dict[str, list[Any]]:
        """Path -> different values of fields that may refer to other documents."""
        found: dict[str, list[Any]] = {}
        self._kept(self.root, "", found)
        return found

    def _kept(self, node: PathNode, prefix: str, found: dict[str, list[Any]]) -> None:
        for name, child in node.children.items():
            path = _joined(prefix, name)
            if child.kept:
                found[path] = list(child.kept.values())
            self._kept(child, path, found)

    def _collect(self, node: PathNode, prefix: str, parents: int, found: list[PathFacts]) -> None:
        for name, child in node.children.items():
            if name == "…":
                continue
            path = _joined(prefix, name)
            found.append(_facts(child, path, parents))
            inner = child.types.get("object", 0)
            self._collect(child, path, inner or child.seen, found)

    def item_bytes(self) -> Spread:
        return spread(self.sizes)


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}[]" if name == "[]" else f"{prefix}.{name}" if prefix else name


def _facts(node: PathNode, path: str, parents: int) -> PathFacts:
    seen = max(node.seen, 1)
    distinct = round(node.distinct.estimate()) if node.distinct is not None else 0
    distinct = min(distinct, node.values)
    return PathFacts(
        path=path,
        present=min(1.0, node.seen / max(parents, 1)),
        types={name: count / seen for name, count in sorted(node.types.items(), key=lambda one: -one[1])},
        distinct=distinct,
        values=node.values,
        null=node.types.get("null", 0) / seen,
        empty=node.empty / seen,
        heavy=_heavy(node, distinct),
        looks={look: count / max(node.values, 1) for look, count in node.looks.items()},
        lengths=spread(node.lengths) if node.lengths is not None else None,
        grows=_grows(node),
        longest=node.longest,
        negative=node.negative,
        fractional=node.fractional,
        examples=tuple(node.examples),
    )


def _text_of(value: Any, kind: str) -> str:
    """A scalar as a person would write it; two that differ have different texts."""
    if kind == "string":
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds")
    return str(value) if kind in ("objectId", "decimal") else repr(value)


def _heavy(node: PathNode, distinct: int) -> tuple[HeavyValue, ...]:
    if node.heavy is None or node.values == 0:
        return ()
    public = distinct <= FEW_VALUES and node.longest <= SHORT_VALUE
    return tuple(
        HeavyValue(
            shown=value if public and len(value) <= SHORT_VALUE else mask(value),
            share=count / node.values,
        )
        for value, count in node.heavy.top(5)
        if count > 1
    )


def _grows(node: PathNode) -> bool:
    (old, olds), (young, youngs) = node.old, node.young
    return olds >= 50 and youngs >= 50 and old / olds > 1.5 * (young / youngs) + 1


def spread(sketch: Any) -> Spread:
    """A sketch of numbers, as it is told."""
    if not sketch.count:
        return Spread()
    p50, p95, p99 = (sketch.at(share) for share in (0.5, 0.95, 0.99))
    return Spread(count=sketch.count, p50=p50, p95=p95, p99=p99, max=sketch.max)


def mask(text: str) -> str:
    """The form of a text without the text: letters are x, digits are 9, and no more than 24 characters."""
    form = re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", text[:24]))
    return form + "…" if len(text) > 24 else form


def _look_like_data(names: Mapping[str, Any]) -> bool:
    """Whether most of the names are dates, numbers, ids or e-mail addresses."""
    matched = sum(any(pattern.match(name) for _, pattern in _LOOKS) for name in names)
    return matched > 0.8 * len(names)


def _age(id: Any) -> float | None:
    return id.generation_time.timestamp() if isinstance(id, ObjectId) else None
