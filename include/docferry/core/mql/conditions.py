"""The tree of conditions that a query is compiled into. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from docferry.core.mql.expressions import Evaluate, compile_expression
from docferry.core.mql.expressions.logic import truth
from docferry.core.mql.values import Document, Path, any_at, places_at
from docferry.errors import InvariantBroken

Test = Callable[[Any], bool]


class Node(Protocol):
    """A condition on a document (`matches`), or on one value inside an $elemMatch (`holds`).

    `positions`: of the elements of arrays by which a document that matches does so.
    """

    def matches(self, document: Mapping[str, Any]) -> bool: ...

    def positions(self, document: Mapping[str, Any]) -> Iterator[int]: ...

    def holds(self, value: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class OnField:
    """`element`: what one element must meet, of a condition on an array."""

    path: Path
    holds: Test
    leaf_arrays: bool = True
    element: Test | None = None

    def matches(self, document: Mapping[str, Any]) -> bool:
        return any_at(document, self.path, self.leaf_arrays, self.holds)

    def positions(self, document: Mapping[str, Any]) -> Iterator[int]:
        places = places_at(document, self.path, self.leaf_arrays)
        place, value = next((one for one in places if self.holds(one[1])), (None, None))
        if place is None and self.element is not None and isinstance(value, list):
            place = next(at for at, one in enumerate(value) if self.element(one))
        if place is not None:
            yield place


@dataclass(frozen=True, slots=True)
class Negated:
    inner: Node

    def matches(self, document: Mapping[str, Any]) -> bool:
        return not self.inner.matches(document)

    def positions(self, document: Mapping[str, Any]) -> Iterator[int]:
        return iter(())

    def holds(self, value: Any) -> bool:
        return not self.inner.holds(value)


@dataclass(frozen=True, slots=True)
class Combined:
    """All of several conditions, or any of them."""

    of: Callable[[Iterable[bool]], bool]
    nodes: tuple[Node, ...]

    def matches(self, document: Mapping[str, Any]) -> bool:
        return self.of(node.matches(document) for node in self.nodes)

    def positions(self, document: Mapping[str, Any]) -> Iterator[int]:
        for node in (one for one in self.nodes if one.matches(document)):
            yield from node.positions(document)

    def holds(self, value: Any) -> bool:
        return self.of(node.holds(value) for node in self.nodes)


@dataclass(frozen=True, slots=True)
class ExpressionNode:
    """A condition on a document. Raises: ExpressionRefused, where MongoDB refuses to evaluate it."""

    evaluate: Evaluate = field(repr=False)
    variables: Mapping[str, Any] = field(repr=False)

    def matches(self, document: Mapping[str, Any]) -> bool:
        return truth(self.evaluate({**self.variables, "ROOT": document, "CURRENT": document}))

    def positions(self, document: Mapping[str, Any]) -> Iterator[int]:
        return iter(())

    def holds(self, value: Any) -> bool:
        raise InvariantBroken("$expr is a condition on documents alone")


def combined(of: Callable[[Iterable[bool]], bool], nodes: Sequence[Node]) -> Node:
    """In MongoDB's order, conditions that are computed last: what is decided before one is reached, it cannot refuse."""
    flat: list[Node] = []
    for node in nodes:
        flat.extend(node.nodes if isinstance(node, Combined) and node.of is of else (node,))
    flat.sort(key=_turn)
    return flat[0] if len(flat) == 1 else Combined(of, tuple(flat))


def _turn(node: Node) -> int:
    return 0 if isinstance(node, Combined) else 2 if isinstance(node, ExpressionNode) else 1


def bound(query: Document, variables: Mapping[str, Any] | None, logical: Collection[str]) -> Document:
    """The query with each `$expr` compiled, at its top level and below `logical` operators: nowhere else MongoDB takes one."""
    found: Document = {}
    for name, value in query.items():
        if name == "$expr":
            found[name] = ExpressionNode(compile_expression(value), variables or {})
        elif name in logical and isinstance(value, list):
            found[name] = [bound(one, variables, logical) if isinstance(one, dict) else one for one in value]
        else:
            found[name] = value
    return found
