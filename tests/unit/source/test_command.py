"""`docferry analyze --source`: needs no database, runs nothing of the application, and says what it did not read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docferry.cli.main import main
from support.source.calls import APPLICATIONS, SHOP, expected_of

TRAP = """
import pathlib
pathlib.Path({ran!r}).write_text("ran")
from pymongo import MongoClient
MongoClient().app.users.find_one({{"username": "ann"}})
"""


def run(*words: str | Path) -> tuple[int, Any]:
    found = CliRunner().invoke(main, ["analyze", *map(str, words), "--json"])
    return found.exit_code, json.loads(found.stdout)


def test_report_of_an_application(tmp_path: Path) -> None:
    code, told = run("--source", APPLICATIONS / "python", "--file", SHOP, "--out", tmp_path)
    assert code == 1  # not every call is served
    assert told["counts"] == Counter(one.verdict for one in expected_of("python"))
    for name in ("source.html", "source.md"):
        text = (tmp_path / name).read_text()
        assert "shop" in text
        assert "needs an access pattern" in text
    assert json.loads((tmp_path / "source.json").read_text())["calls"] == told["calls"]
    assert "<script" not in (tmp_path / "source.html").read_text()


def test_nothing_of_the_application_is_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "trap.py").write_text(TRAP.format(ran=str(ran)))
    code, told = run("--source", tmp_path / "app", "--file", SHOP, "--out", tmp_path / "out")
    assert (code, [one["verdict"] for one in told["calls"]]) == (0, ["served"])
    assert not ran.exists()


def test_broken_file_is_listed_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "app" / "node_modules").mkdir(parents=True)
    (tmp_path / "app" / "broken.py").write_text("def f(:\n")
    (tmp_path / "app" / "zeros.py").write_bytes(b"x = 1\0")
    (tmp_path / "app" / "deep.py").write_text("x = " + "(" * 5_000 + "1" + ")" * 5_000)
    (tmp_path / "app" / "good.py").write_text("def f(db, x):\n    db.users.find_one({'username': x})\n")
    code, told = run("--source", tmp_path / "app", "--file", SHOP, "--out", tmp_path / "out")
    assert (code, [one["verdict"] for one in told["calls"]]) == (1, ["served"])  # what was not read may have others
    assert {one["path"] for one in told["passed_over"]} == {"broken.py", "zeros.py", "deep.py"}
    assert [one["path"] for one in told["skipped"]] == ["node_modules"]


def test_markup_in_names_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "x.py").write_text("def f(db):\n    db['<img src=x>|`y`'].find_one({'<b>': 1})\n")
    run("--source", tmp_path / "app", "--file", SHOP, "--out", tmp_path / "out")
    assert "<img" not in (tmp_path / "out" / "source.html").read_text()
    assert "<b>" not in (tmp_path / "out" / "source.md").read_text()


@pytest.mark.parametrize("words", [[], ["--source", "."]], ids=["nothing to look at", "no file of a known language"])
def test_wrong_usage_ends_with_2(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words)[0] == 2
