"""An application installs and loads only what a client needs; each package that is imported is a requirement."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from support.place import ROOT

IMPORT_S = 0.05
LIBRARY = ROOT / "include" / "docferry"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OF_EXTRAS = {  # where packages of an extra may be imported at the top of a module
    "cli": ("cli", "rehearsal"),
    "testing": ("testing",),
}
MODULES = {
    "amazon-dax-client": "amazondax",
    "pyyaml": "yaml",
    "opentelemetry-api": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "tree-sitter": "tree_sitter",
    "tree-sitter-javascript": "tree_sitter_javascript",
    "tree-sitter-typescript": "tree_sitter_typescript",
}


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def names(requirements: list[str]) -> set[str]:
    """The modules of some requirements."""
    found = {re.split(r"[\s;<>=\[]", one, maxsplit=1)[0].lower() for one in requirements}
    return {MODULES.get(name, name) for name in found}


def extras() -> set[str]:
    return set().union(*(names(requirements) for requirements in EXTRAS.values()))


def loaded(module: str) -> set[str]:
    """What an import loads, in a process of its own."""
    done = run(
        "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(list(sys.modules)))",
        module,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_docferry_takes_less_than_50_ms() -> None:
    code = "import time; t = time.perf_counter(); import docferry; print(time.perf_counter() - t)"
    best = min(float(run(code).stdout) for _ in range(5))
    assert best < IMPORT_S


def test_import_docferry_loads_no_other_package() -> None:
    before = set(json.loads(run("import json, sys; print(json.dumps(list(sys.modules)))").stdout))
    found = {name.partition(".")[0] for name in loaded("docferry") - before} - set(sys.stdlib_module_names)
    assert found == {"docferry"}


@pytest.mark.parametrize("module", ["docferry.client", "docferry.wiring"])
def test_what_an_application_imports_loads_no_extra_and_nothing_of_the_command_line(module: str) -> None:
    found = loaded(module)
    rooms = {f"docferry.{room}" for room in ("cli", "rehearsal", "sandbox", "testing")}
    assert found & (rooms | extras() | {"airflow"}) == set()


def test_the_client_loads_no_parser_of_files_until_it_connects() -> None:
    assert loaded("docferry.client") & {"pydantic", "yaml", "boto3", "pymongo"} == set()


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_command_line_without_its_extra_says_what_to_install(missing: str) -> None:
    done = run("import sys; sys.modules[sys.argv[1]] = None; from docferry.cli.start import main; main()", missing)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f'docferry: the command line needs {missing}, which is not installed: pip install "docferry[cli]"\n'
    )


def test_another_module_that_is_missing_is_not_taken_for_the_extra() -> None:
    done = run("import sys; sys.modules['pydantic'] = None; from docferry.cli.start import main; main()")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
    assert "docferry[cli]" not in done.stderr


def imports(node: ast.AST, *, top: bool) -> Iterator[str]:
    """The packages that a module imports: at its top alone, or in its functions, too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module.partition(".")[0]
        elif not (top and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from imports(child, top=top)


def third_parties(path: Path, *, top: bool) -> set[str]:
    found = set(imports(ast.parse(path.read_text()), top=top))
    return found - set(sys.stdlib_module_names) - {"docferry"}


def declared(path: Path, *, top: bool) -> set[str]:
    """What a module may import: what every client has, and the extras of its room, or all extras inside functions."""
    base = names(PROJECT["dependencies"]) | {"bson", "botocore"}  # pymongo's, and boto3's
    if not top:
        return base | extras()
    room = path.relative_to(LIBRARY).parts[0]
    return base.union(*(names(EXTRAS[extra]) for extra, rooms in OF_EXTRAS.items() if room in rooms))


@pytest.mark.parametrize("top", [True, False], ids=["at the top", "anywhere"])
def test_packages_that_are_imported_are_required(top: bool) -> None:
    paths = sorted(LIBRARY.rglob("*.py"))
    undeclared = {str(path.relative_to(ROOT)): third_parties(path, top=top) - declared(path, top=top) for path in paths}
    assert {path: found for path, found in undeclared.items() if found} == {}


def test_requirements_are_imported() -> None:
    used = set().union(*(third_parties(path, top=False) for path in LIBRARY.rglob("*.py")))
    required = names(PROJECT["dependencies"]) | extras()
    assert required - used - {"amazondax"} == set()  # loaded by name, where a file has a `dax` section
    assert required & packages_distributions().keys() >= required - {"amazondax"}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_each_requirement_says_why_it_is_there(file: str) -> None:
    lines = [line for line in (ROOT / file).read_text().splitlines() if "==" in line]
    assert [line for line in lines if not re.search(r"# \w+", line)] == []
    assert [line for line in lines if not re.match(r"[\w.-]+==[\w.]+", line)] == []


def test_each_dependency_of_the_library_says_why_it_is_there() -> None:
    section = (ROOT / "pyproject.toml").read_text().partition("\n[project]\n")[2].partition("\n[project.scripts]\n")[0]
    lines = re.findall(r'^.*"[\w-]+>=[^"]*".*$', section, re.MULTILINE)
    count = len(PROJECT["dependencies"]) + sum(map(len, EXTRAS.values()))
    assert len(lines) == count
    assert [line for line in lines if "# " not in line] == []
