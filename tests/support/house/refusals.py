"""What the client refuses, as its source says it: the texts of its refusals, with `…` for what is only known at run time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from support.house.text import PACKAGE

_MADE_BY = ("CallRefused", "NoAccessPattern", "ScanTooLarge", "refuse", "_refuse")
_ROOMS = ("client", "core/access", "core/mql")
GAP = "…"


def refusals() -> set[str]:
    """Without those that say nothing of themselves: `…` alone."""
    found = {
        text
        for room in _ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _name(node.func) in _MADE_BY
        for text in _texts(_said(node))
    }
    return found - {GAP, f"'{GAP}'"}


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _said(call: ast.Call) -> ast.expr:
    named = [one.value for one in call.keywords if one.arg == "what"]
    return named[0] if named else call.args[0]


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(one.value) if isinstance(one, ast.Constant) else GAP for one in node.values)
    else:
        yield GAP
