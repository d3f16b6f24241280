"""Whatever a guarded program started is gone when the program, the guard or the guard's parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from docferry.sandbox import airflow_guard as guard

# Starts a child in a session of its own that ignores SIGTERM, and a grandchild whose parent ends at once.
PROGRAM = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"
sleeper = [sys.executable, "-c", "import time; time.sleep(120)"]
orphan = f"import subprocess; print(subprocess.Popen({sleeper!r}).pid, flush=True)"
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
print(child.pid, flush=True)
subprocess.run([sys.executable, "-c", orphan])
print("up", flush=True)
time.sleep(float(sys.argv[1]))
"""
# A parent between the test and the guard, so that it can be killed.
PARENT = "import os, subprocess, sys; subprocess.run([a.replace('PARENT', str(os.getpid())) for a in sys.argv[1:]])"


def start(directory: Path, seconds: float) -> tuple[subprocess.Popen[str], list[int]]:
    """The guard's parent, and the pids of what runs below the guarded program."""
    command = [sys.executable, "-I", "-S", guard.__file__, "PARENT", str(directory), sys.executable, "-c", PROGRAM]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *command, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = []
    for line in parent.stdout:
        if line.strip() == "up":
            break
        pids.append(int(line))
    return parent, pids


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def the_program_ends(_: subprocess.Popen[str]) -> None:
    """It has been told to, after a second."""


def the_guard_is_told_to_end(parent: subprocess.Popen[str]) -> None:
    (below,) = psutil.Process(parent.pid).children()
    below.send_signal(signal.SIGTERM)


def the_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    os.kill(parent.pid, signal.SIGKILL)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", [the_program_ends, the_guard_is_told_to_end, the_parent_is_killed])
def test_nothing_survives(end: Callable[[subprocess.Popen[str]], None], tmp_path: Path) -> None:
    directory = tmp_path / "home"
    directory.mkdir()
    parent, pids = start(directory, seconds=1 if end is the_program_ends else 120)
    assert len(pids) == 2
    end(parent)
    deadline = time.monotonic() + guard.GRACE_S + 10
    while not (gone(pids) and not directory.exists()):
        assert time.monotonic() < deadline, f"left: {pids}, {list(tmp_path.iterdir())}"
        time.sleep(0.05)
    parent.wait(10)
