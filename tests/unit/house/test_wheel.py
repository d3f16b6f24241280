"""What is in the wheel and in the sdist: what users import or run, and nothing of the repository's own."""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.house.built import build, copy_of_sources
from support.place import ROOT

LIMIT_BYTES = 1_500_000  # Python alone: a picture or a price book more would be seen
ROOMS = {"adapters", "cli", "client", "config", "core", "errors", "flows", "ports", "rehearsal", "sandbox", "testing"}
DATA = {"docferry/config/price_books/us-east-1.yaml", "docferry/py.typed", "docferry/rehearsal/shop.yaml"}


@dataclass(frozen=True, slots=True)
class Built:
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("built")
    sources = copy_of_sources(directory / "sources")
    sdist = build("sdist", sources, directory)
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, filter="data")
    again = directory / sdist.name.removesuffix(".tar.gz")
    (directory / "again").mkdir()
    return Built(
        wheel=build("wheel", sources, directory), sdist=sdist, wheel_of_sdist=build("wheel", again, directory / "again")
    )


def of_library() -> set[str]:
    """The library's files as they are in the repository."""
    files = (path for path in (ROOT / "include" / "docferry").rglob("*") if path.is_file())
    return {path.relative_to(ROOT / "include").as_posix() for path in files if "__pycache__" not in path.parts}


def packed(wheel: Path) -> set[str]:
    """A wheel's files, without what describes it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_the_library_and_nothing_else(built: Built) -> None:
    assert packed(built.wheel) == of_library()
    assert {name for name in packed(built.wheel) if not name.endswith(".py")} == DATA
    assert {name.split("/")[1] for name in packed(built.wheel) if name.count("/") > 1} == ROOMS


def test_sdist_holds_the_library_and_what_builds_it(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    described = {name for name in names if ".egg-info/" in name} | {
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
    }
    assert names - described == {f"include/{name}" for name in of_library()}


def test_both_hold_little_beside_python(built: Built) -> None:
    assert {path.name for path in (built.wheel, built.sdist) if path.stat().st_size >= LIMIT_BYTES} == set()


def test_wheel_of_the_sdist_is_the_wheel(built: Built) -> None:
    assert built.wheel_of_sdist.name == built.wheel.name
    assert packed(built.wheel_of_sdist) == packed(built.wheel)


def test_wheel_has_one_program(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        entries = next(name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        text = archive.read(entries).decode()
    assert text.split() == ["[console_scripts]", "docferry", "=", "docferry.cli.start:main"]
