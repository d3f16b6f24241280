"""Runs one program and sees to it that nothing it ever started survives. A script of its own: the standard library only.

    python -I -S guard.py PARENT DIRECTORY PROGRAM ARGUMENTS...

Airflow's processes start others, some in sessions of their own, and none ends when its parent is killed. This process
becomes the parent of every orphan below it (a subreaper), so all of them can be found. It ends them and removes
DIRECTORY when the program ends, on SIGTERM, and when process PARENT ends, however that happens (0: there is no such process).
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 4.0


def main() -> None:
    parent, directory, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    signal.signal(signal.SIGTERM, _leave)
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        if parent:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it ended before we asked
                return
        program = subprocess.Popen(command)
        while os.wait()[0] != program.pid:
            pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_descendants()
        shutil.rmtree(directory, ignore_errors=True)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _end_descendants() -> None:
    """SIGTERM to all, SIGKILL to those that are there after GRACE_S."""
    told: set[int] = set()
    deadline = time.monotonic() + GRACE_S
    while left := _descendants():
        late = time.monotonic() > deadline
        for pid in left if late else left - told:
            _send(pid, signal.SIGKILL if late else signal.SIGTERM)
        told |= left
        _reap()
        time.sleep(0.05)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _descendants() -> set[int]:
    """Every process below this one that has not ended."""
    parents = dict(filter(None, map(_parent_of, Path("/proc").glob("[0-9]*"))))
    found: set[int] = set()
    layer = {os.getpid()}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer}
        found |= layer
    return found


def _parent_of(entry: Path) -> "tuple[int, int] | None":
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return None
    # A zombie below a living process is that one's affair; ours are reaped.
    return None if fields[0] == "Z" else (int(entry.name), int(fields[1]))


if __name__ == "__main__":
    main()
