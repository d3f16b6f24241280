"""A test that replaces something names what is there: the long tests run seldom, and types do not show it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from support.house.text import name
from support.place import ROOT

OURS = ("docferry", "support")


def test_whatever_a_test_replaces_in_a_module_is_there() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    found = [f"{name(path)}:{line}: {what}" for path in paths for line, what in missing(path)]
    assert found == []


def missing(path: Path) -> Iterator[tuple[int, str]]:
    """`monkeypatch.setattr(module, "name", ...)` of a module of ours that has no such name."""
    text = path.read_text()
    if "setattr(" not in text:
        return
    nodes = list(ast.walk(ast.parse(text)))
    modules = dict(imported(nodes))
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Name(id=of), ast.Constant(value=str(what)), _]):
                if of in modules and not hasattr(modules[of], what):
                    yield node.lineno, f"{modules[of].__name__} has no {what}"


def imported(nodes: list[ast.AST]) -> Iterator[tuple[str, ModuleType]]:
    for node in nodes:
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] not in OURS:
            continue
        for one in node.names:
            try:
                yield one.asname or one.name, importlib.import_module(f"{node.module}.{one.name}")
            except ModuleNotFoundError:
                continue  # no module: a class, a function
