"""The source of an application: read within bounds, and what is passed over is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from docferry.adapters.local.application import SourceBounds, SourceDirectory
from docferry.errors import ConfigError


def tree(root: Path, **bounds: int) -> SourceDirectory:
    return SourceDirectory(root, [".py"], SourceBounds(**bounds))


def put(root: Path, name: str, content: bytes = b"x = 1\n") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def test_files_of_known_endings_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b.py", "a/c.py", "a.txt", "readme.md"):
        put(tmp_path, name)
    assert [one.path for one in tree(tmp_path).files()] == ["b.py", "a/c.py"]


@pytest.mark.parametrize("name", ["node_modules", ".venv", "venv", "site-packages", "dist", ".git"])
def test_packages_and_environments_are_skipped_and_said_so(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"app/{name}/deep/x.py")
    put(tmp_path, "app/y.py")
    found = tree(tmp_path)
    assert [one.path for one in found.files()] == ["app/y.py"]
    assert [one.path for one in found.skipped] == [f"app/{name}"]


def test_environment_of_another_name_is_known_by_its_file(tmp_path: Path) -> None:
    put(tmp_path, "py311/pyvenv.cfg", b"")
    put(tmp_path, "py311/lib/x.py")
    found = tree(tmp_path)
    assert list(found.files()) == []
    assert [(one.path, one.why) for one in found.skipped] == [("py311", "a virtual environment")]


def test_links_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "outside/secret.py")
    put(tmp_path, "app/x.py")
    os.symlink(tmp_path / "outside", tmp_path / "app" / "linked")
    os.symlink(tmp_path / "outside" / "secret.py", tmp_path / "app" / "one.py")
    found = tree(tmp_path / "app")
    assert [one.path for one in found.files()] == ["x.py"]
    assert [(one.path, one.why) for one in found.skipped] == [("linked", "a link")]


def test_what_is_no_text_or_too_large_is_listed(tmp_path: Path) -> None:
    put(tmp_path, "latin.py", b"x = '\xe9'\n")
    put(tmp_path, "huge.py", b"#" * 2_000)
    put(tmp_path, "small.py")
    found = tree(tmp_path, file_bytes=1_000)
    assert [one.path for one in found.files()] == ["small.py"]
    assert {one.path for one in found.passed_over} == {"latin.py", "huge.py"}


def test_reading_ends_at_the_bound_and_says_how_much_is_left(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, f"{number}.py")
    found = tree(tmp_path, files=2)
    assert len(list(found.files())) == 2
    assert [one.why for one in found.passed_over] == ["3 more files, beyond 2 files or 200 MB"]


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory"):
        tree(tmp_path / "nothing")
