"""The ledger's records: what they hold is known in flows/ledger alone, and docs/architecture.md names each."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.place import ROOT

LEDGER = "docferry.flows.ledger"
INCLUDE = ROOT / "include"
STORES = ("docferry/flows/ledger/", "docferry/adapters/aws/ledger.py", "docferry/testing/fakes/ledger.py")
"""Who may look into a record: the modules of the records, and what stores them."""
CALLS = {"read": 0, "list": 0, "write": 0, "take_or_create": 1}
"""Calls that name a section, and which argument that is."""
ADDRESSED_BY_HAND = (
    "docferry/client/membership.py",
    "docferry/client/following.py",
    "docferry/testing/vectors_ledger.py",
)
"""Outside flows/ledger: the application's process writes the record of its own life, under the mode that it has read; the
vectors try what a ledger promises."""


PROGRAMS = "docferry/core/source/program/"
"""There, a body is a function's."""


def sources() -> list[Path]:
    folders = [INCLUDE / "docferry", INCLUDE / "demo", ROOT / "plugins", ROOT / "dags"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(INCLUDE if INCLUDE in path.parents else ROOT).as_posix()


def bodies(path: Path) -> list[str]:
    """Where a record's dict is reached for: `.body` of whatever is not a reply of HTTP."""
    tree = ast.parse(path.read_text())
    found = [one for one in ast.walk(tree) if isinstance(one, ast.Attribute) and one.attr == "body"]
    return [f"{name_of(path)}:{one.lineno}" for one in found if ast.unparse(one.value) != "request"]


def test_no_dict_of_a_record_leaves_its_module() -> None:
    outside = [path for path in sources() if not name_of(path).startswith((*STORES, PROGRAMS))]
    assert [place for path in outside for place in bodies(path)] == []


def test_every_record_is_addressed_in_its_module() -> None:
    outside = [path for path in sources() if not name_of(path).startswith((*STORES, *ADDRESSED_BY_HAND))]
    calls = [
        f"{name_of(path)}:{call.lineno}"
        for path in outside
        for call, _ in addressing(path)
        if not ast.unparse(call.func).endswith("take_or_create")
    ]
    assert calls == []


def addressing(path: Path) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Calls that name a section, with the expression that names it."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call):
            target, _, called = ast.unparse(call.func).rpartition(".")
            of_a_ledger = target.endswith("ledger") or called == "take_or_create"
            if of_a_ledger and called in CALLS and len(call.args) > CALLS[called]:
                yield call, call.args[CALLS[called]]


def section_of(module: ModuleType, where: ast.expr) -> str | None:
    """A section's name up to its colon; None if the record itself says where it is, or nothing of the ledger is called."""
    found: Any = None
    if isinstance(where, ast.Starred) and isinstance(where.value, ast.Name):
        found = getattr(module, where.value.id, [None])[0]
    elif isinstance(where, ast.Name):
        found = getattr(module, where.id, None)
    elif isinstance(where, ast.Constant):
        found = where.value
    elif isinstance(where, ast.JoinedStr):
        first = where.values[0]
        found = (
            first.value
            if isinstance(first, ast.Constant)
            else getattr(module, ast.unparse(where)[3:].partition("}")[0])
        )
    elif isinstance(where, ast.Call) and isinstance(where.func, ast.Name):
        found = getattr(module, where.func.id)("")
    return found.partition(":")[0] if isinstance(found, str) else None


def sections() -> set[str]:
    """Every section that code reads or writes."""
    found = set()
    for path in sources():
        written = path.read_text()
        if not name_of(path).startswith((STORES[0], ADDRESSED_BY_HAND[0])) and "take_or_create" not in written:
            continue
        module = importlib.import_module(name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        found |= {section_of(module, where) for _, where in addressing(path)}
    return {one for one in found if one}


def listed() -> set[str]:
    table = (ROOT / "docs/architecture.md").read_text().partition("## The ledger")[2]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    return {name.partition("/")[0].partition(":")[0] for row in rows for name in re.findall(r"`([^`]+)`", row[1])}


def test_the_table_of_records_has_each_kind_and_no_other() -> None:
    assert sections() == listed()


@pytest.mark.parametrize(
    ("code", "section"),
    [("ledger.read(*TWO, 1)", "two"), ("ledger.list(f'dead:{x}')", "dead"), ("ledger.write(f'{ONE}:{x}', y)", "one")],
)
def test_a_section_is_found_however_it_is_written(code: str, section: str, tmp_path: Path) -> None:
    module = ModuleType("made")
    module.ONE, module.TWO = "one", ("two", "key")  # type: ignore[attr-defined]
    (file := tmp_path / "made.py").write_text(code)
    assert [section_of(module, where) for _, where in addressing(file)] == [section]
