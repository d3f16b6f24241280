"""`$expr` of a query: a condition that an expression computes, with the variables of the call. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from docferry.core.mql.expressions import Evaluate, compile_expression
from docferry.core.mql.expressions.logic import truth
from docferry.core.mql.values import Document
from docferry.errors import InvariantBroken


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
