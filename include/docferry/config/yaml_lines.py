"""The file's YAML, and on which line each of its values stands. Nothing in it is evaluated: YAML's safe subset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from docferry.errors import Problem

MAX_FILE_BYTES = 1_000_000
MAX_NODES = 200_000
"""Values in the file once every alias is written out."""
Path_ = tuple[str | int, ...]


class Lines(dict[Path_, int]):
    """The line that each place of the file stands on, from 1; in `texts` what is written where YAML reads something else than
    text (`no`, `2024`)."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[Path_, str] = {}

    def also(self, place: Path_, called: Path_) -> None:
        """What stands at a place is called otherwise, too."""
        for path, line in list(self.items()):
            if path[: len(place)] == place:
                self.setdefault((*called, *path[len(place) :]), line)


_TEXT = "tag:yaml.org,2002:str"
_READ_AS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
_BRACES = "in YAML a { begins a mapping: put a key template into quotes"
_COMMENT = re.compile(r"""^[^"'#]*:\s+[^"'#\s][^"'#]*\s\#\{[^}]*\}""")
"""A key template without quotes, of which YAML takes a part for a comment."""


class _Loader(yaml.SafeLoader):
    """Names are texts, whatever YAML would read them as. Says where a value is that its type cannot have, such as 2024-99-99."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag.rpartition(":")[2] in _READ_AS:
                key.tag = _TEXT
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError) as error:
            what = "YAML reads this as another type, of which it is no value: put it in quotes if it is a text"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error


def read_yaml(text: bytes, source: str) -> tuple[Any, Lines, list[Problem]]:
    lines = Lines()
    if len(text) > MAX_FILE_BYTES:
        return None, lines, [Problem(where="file", what=f"over {MAX_FILE_BYTES} bytes: this is no migration file")]
    try:
        node = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
        if node is not None and _size(node, {}) > MAX_NODES:
            return None, lines, [Problem(where="YAML", what="its YAML aliases expand without end, or too far", line=1)]
        tree = yaml.load(text.decode(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        written = text.decode(errors="replace").splitlines()[mark.line : mark.line + 1] if mark else ()
        hint = _BRACES if any("{" in one for one in written) else ""
        return None, lines, [Problem(where="YAML", what=what, suggestion=hint, line=line)]
    if node is None or not isinstance(tree, dict):
        what = "is empty, or not a mapping of keys to values; see include/migrations for examples"
        return None, lines, [Problem(where="file", what=what)]
    problems = list(_comments(text.decode()))
    _walk(node, (), lines, problems, set())
    return tree, lines, problems


def _comments(text: str) -> Iterator[Problem]:
    for number, line in enumerate(text.splitlines(), start=1):
        if _COMMENT.match(line):
            what = "to YAML, what stands behind ' #' is a comment, and no part of the key template"
            yield Problem(where="YAML", what=what, suggestion="put the template into quotes", line=number)


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


def _walk(node: yaml.Node, path: Path_, lines: Lines, problems: list[Problem], seen: set[int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in seen:  # an alias: its content has its lines already
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if node.tag != _TEXT:
            lines.texts[path] = node.value
    elif isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            _walk(inner, (*path, index), lines, problems, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, inner in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in keys:
                problems.append(Problem(where=dotted((*path, name)), what="is there twice", line=line))
            elif (kind := key.tag.rpartition(":")[2]) in _READ_AS:
                what = f"YAML reads {name or 'this name'} as {_READ_AS[kind]}, and a name is a text"
                problems.append(
                    Problem(where=dotted((*path, name)), what=what, suggestion=f"put it in quotes: '{name}'", line=line)
                )
            keys.add(name)
            lines[(*path, name)] = line
            _walk(inner, (*path, name), lines, problems, seen)


def dotted(path: Path_) -> str:
    return ".".join(str(step) for step in path) or "file"


def line_of(lines: Lines, path: Path_) -> int | None:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def problem_at(lines: Lines, path: Path_, what: str, suggestion: str = "") -> Problem:
    """A problem of what stands at a place of the file."""
    return Problem(where=dotted(path), what=what, suggestion=suggestion, line=line_of(lines, path))
