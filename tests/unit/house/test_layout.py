"""The layout: small folders, small modules, one class a name, and rooms that use one another in one direction only.

Each list of exceptions is exact: one that is no longer needed fails the test, too, and goes.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path

from support.place import ROOT

TREES = ("include", "plugins", "dags", "benchmarks", "tests")
MOST_FILES, MOST_LINES = 14, 400

FULL_FOLDERS: Set[str] = set()
LONG_MODULES: Set[str] = set()
CYCLES: Set[frozenset[str]] = set()


def modules_of(*trees: str) -> list[Path]:
    return sorted(path for tree in trees for path in (ROOT / tree).rglob("*.py") if "__pycache__" not in path.parts)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_folders_hold_at_most_14_python_files() -> None:
    files = Counter(shown(path.parent) for path in modules_of(*TREES))
    assert {folder for folder, count in files.items() if count > MOST_FILES} == FULL_FOLDERS


def test_modules_have_at_most_400_lines() -> None:
    long = {shown(path) for path in modules_of(*TREES) if len(path.read_text().splitlines()) > MOST_LINES}
    assert long == LONG_MODULES


def test_no_two_public_classes_share_a_name() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules_of("include", "plugins"):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(shown(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def library() -> dict[str, Path]:
    """Each module of include/ and plugins/, by its dotted name; a package is its `__init__`."""
    found = {}
    for tree in ("include", "plugins"):
        for path in modules_of(tree):
            parts = path.relative_to(ROOT / tree).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules that one imports anywhere: in functions, and for types alone, too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in known else node.module for name in names)


def room_of(module: str, known: Mapping[str, Path]) -> str:
    """A room is a folder of modules. What lies beside rooms, as `docferry.errors`, is a room of its own."""
    if known[module].name == "__init__.py":
        return module
    folder = known[module].parent
    return module if any(folder.glob("*/__init__.py")) else module.rpartition(".")[0] or module


def room_graph(known: Mapping[str, Path]) -> dict[str, set[str]]:
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for module, path in known.items():
        room = room_of(module, known)
        graph[room] |= {room_of(name, known) for name in imported(path, known) if name in known} - {room}
    return dict(graph)


def cycles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Rooms that each reach the other."""
    reach = {room: reachable(room, graph) for room in graph}
    groups = {room: frozenset(other for other in seen if room in reach[other]) for room, seen in reach.items()}
    return {group for group in groups.values() if len(group) > 1}


def reachable(room: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = {room}
    while waiting:
        found = set().union(*(graph[one] for one in waiting))
        waiting, seen = found - seen, seen | found
    return seen


def test_rooms_do_not_use_one_another_in_a_circle() -> None:
    assert cycles(room_graph(library())) == CYCLES


def test_a_circle_of_rooms_is_seen() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str](), "e": {"a"}}
    assert cycles(graph) == {frozenset("abc")}
