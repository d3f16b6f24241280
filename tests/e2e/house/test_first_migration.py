"""The page of the first migration: its commands run as they stand, on its own database, and print what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docferry.errors import Unavailable
from docferry.sandbox.stack import read_stack
from support.house.built import copy_of_sources
from support.house.walk import Walk, not_printed, printed_by_block, walk_of
from support.place import ROOT

pytestmark = [pytest.mark.cutover, pytest.mark.slow]

INSTALL = "1. Install"
WAIT_S = 1_500
OURS = ("PYTHON", "DOCFERRY_", "AWS_", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def page() -> Walk:
    return walk_of(ROOT / "docs" / "first-migration.md")


@pytest.fixture
def desk(page: Walk, tmp_path: Path) -> Iterator[Path]:
    """A directory with the files that the page lets one save."""
    for name, text in page.files.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    with suppress(Unavailable):  # `docferry down`, where the commands did not come so far
        read_stack(tmp_path / "build" / "stack").stop()


def run(script: str, directory: Path, environment: dict[str, str]) -> tuple[int, str]:
    """A script of bash and all that it starts; its exit code and what it has printed."""
    with (directory / "output").open("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(timeout=WAIT_S)
        finally:
            with suppress(ProcessLookupError):  # what runs in the background
                os.killpg(shell.pid, signal.SIGTERM)
        output.seek(0)
        return code, output.read()


def environment(programs: Path) -> dict[str, str]:
    """Of a shell that knows nothing of these tests, but `docferry` and `python` of this environment."""
    programs.mkdir()
    for name, words in (("docferry", " -m docferry.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {"PATH": f"{programs}:{kept['PATH']}", "PYTHONPATH": str(ROOT / "include")}


@pytest.mark.timeout(WAIT_S + 60)
def test_every_command_of_the_page_runs_and_prints_what_it_says(page: Walk, desk: Path) -> None:
    code, output = run(page.script(without=INSTALL), desk, environment(desk / "programs"))
    assert code == 0, output[-4000:]
    printed = printed_by_block(output)
    missing = {
        step.section: lines
        for number, step in enumerate(page.steps)
        if (lines := not_printed(step.shown, printed.get(number, [])))
    }
    assert missing == {}, output


@pytest.mark.timeout(WAIT_S + 60)
def test_the_page_installs_it(page: Walk, tmp_path: Path) -> None:
    sources = copy_of_sources(tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    code, output = run("set -e\n" + page.commands(INSTALL), sources, kept)
    assert (code, "version" in output) == (0, True), output[-2000:]
