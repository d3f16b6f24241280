"""The file's YAML, and on which line each of its values stands. Nothing in it is evaluated: YAML's safe subset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from docferry.errors import Problem

MAX_FILE_BYTES = 1_000_000
MAX_NODES = 200_000
"""Values in the file once every alias is written out."""
Path_ = tuple[str | int, ...]
Lines = Mapping[Path_, int]
"""The line that each place of the file stands on, from 1."""


class _Loader(yaml.SafeLoader):
    """Says where a value is that its type cannot have: 2024-99-99 is no date."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError) as error:
            what = "this is no value of the type that YAML takes it for: put it in quotes if it is a text"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error


def read_yaml(text: bytes, source: str) -> tuple[Any, dict[Path_, int], list[Problem]]:
    if len(text) > MAX_FILE_BYTES:
        return None, {}, [Problem(where="file", what=f"over {MAX_FILE_BYTES} bytes: this is no migration file")]
    try:
        node = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
        if node is not None and _size(node, {}) > MAX_NODES:
            return None, {}, [Problem(where="YAML", what="its aliases multiply, or one contains itself", line=1)]
        tree = yaml.load(text.decode(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        return None, {}, [Problem(where="YAML", what=what, line=mark.line + 1 if mark else None)]
    if node is None or not isinstance(tree, dict):
        return None, {}, [Problem(where="file", what="is empty or no mapping; see include/migrations for examples")]
    lines: dict[Path_, int] = {}
    twice: list[Problem] = []
    _walk(node, (), lines, twice, set())
    return tree, lines, twice


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for. An alias that contains itself stands for endlessly many."""
    found = known.get(id(node))
    if found is None:
        known[id(node)] = MAX_NODES + 1  # what a cycle finds
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        found = known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return found


def _walk(node: yaml.Node, path: Path_, lines: dict[Path_, int], twice: list[Problem], seen: set[int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in seen:  # an alias: its content has its lines already
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            _walk(inner, (*path, index), lines, twice, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, inner in node.value:
            name = str(key.value)
            if name in keys:
                twice.append(Problem(where=dotted((*path, name)), what="is there twice", line=key.start_mark.line + 1))
            keys.add(name)
            lines[(*path, name)] = key.start_mark.line + 1
            _walk(inner, (*path, name), lines, twice, seen)


def dotted(path: Path_) -> str:
    return ".".join(str(step) for step in path) or "file"


def line_of(lines: Lines, path: Path_) -> int | None:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def problem_at(lines: Lines, path: Path_, what: str, suggestion: str = "") -> Problem:
    """A problem of what stands at a place of the file."""
    return Problem(where=dotted(path), what=what, suggestion=suggestion, line=line_of(lines, path))
