"""`make demo` that is interrupted: no process and no litter is left, at whatever moment it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

WRITING = "an application writes to MongoDB"


def wait_for(process: subprocess.Popen[str], words: str) -> set[psutil.Process]:
    """Read the demo's lines until one holds `words`; returns the processes that it has started by then."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            time.sleep(1)
            return set(psutil.Process(process.pid).children(recursive=True))
    raise AssertionError(f"it ended without saying {words!r}")


def command_of(process: psutil.Process) -> list[str]:
    """Nothing, of one that has ended meanwhile."""
    try:
        words: list[str] = process.cmdline()
        return words
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def left_of(seen: set[psutil.Process]) -> list[str]:
    return [str(process) for process in seen if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("words", "options", "number", "code"),
    [
        ("starting MongoDB", (), signal.SIGINT, 130),
        ("waiting for Airflow", ("--keep",), signal.SIGINT, 130),
        ("waiting for Airflow", (), signal.SIGTERM, 143),
        (WRITING, ("--keep",), signal.SIGINT, 130),
    ],
)
def test_nothing_is_left_behind(
    words: str, options: tuple[str, ...], number: signal.Signals, code: int, tmp_path: Path
) -> None:
    temporary, directory = tmp_path / "t", tmp_path / "d"
    temporary.mkdir()
    directory.mkdir()
    command = [sys.executable, "-m", "demo", "--users", "200", *options]
    demo = subprocess.Popen(
        command,
        cwd=directory,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = wait_for(demo, words)
    if words == WRITING:
        assert any("demo.traffic" in command_of(process) for process in seen)
    os.killpg(demo.pid, number)  # as a terminal does: everything in the foreground gets it
    demo.communicate(timeout=60)
    assert demo.returncode == code
    assert len(seen) >= 2
    assert left_of(seen) == []
    assert list(temporary.iterdir()) == []
    kept = directory / "build" / "analysis"  # what an analysis that had ended has written, and the demo has said where
    left = [path for path in directory.rglob("*") if path.is_file() and not path.is_relative_to(kept)]
    assert [path.name for path in left] == []
