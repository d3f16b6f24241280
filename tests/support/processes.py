"""docferry's own commands in processes of their own, started fast enough to be killed by the dozen.

A process that has imported docferry, and done nothing else, forks each of them: an import costs seconds, a fork nothing.
Each is a real process with its own pid, connections and leases, and dies of a real SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from docferry.flows.ledger.positions import REPLICATION
from docferry.ports.flows import Record

from support.backfill.rig import Rig

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["docferry.cli.main"])
PR_SET_PDEATHSIG = 1
STANDS_STILL = "it stands still"


def stand_still(*arguments: Any, **options: Any) -> None:
    """In the place of a function, by `settings`: the process says so, and stays there until it is killed."""
    print(STANDS_STILL, flush=True)
    time.sleep(3600)


def _run(words: Sequence[str], env: Mapping[str, str], log: str, settings: Mapping[str, Any]) -> None:
    """`docferry WORDS`, its output in `log`. `settings` are values by name: docferry.flows.backfill.chunk_loader.CHECKPOINT_S."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(descriptor, number)
    from docferry.cli import main as cli

    for name, value in settings.items():
        module, _, constant = name.rpartition(".")
        getattr(sys.modules[module], constant)  # a name that has moved is an error, and nothing that is never called
        setattr(sys.modules[module], constant, value)
    cli.main(list(words), standalone_mode=True)


class Victim:
    """One run of a command. Use as a context manager, or start it and see to its end."""

    def __init__(self, rig: Rig, log: Path, *words: str, settings: Mapping[str, Any] | None = None) -> None:
        self.words, self.log = words, log
        command = [words[0], str(rig.file), *words[1:]]
        self._process = _FORKS.Process(target=_run, args=(command, rig.env, str(log), settings or {}), daemon=True)
        self._process.start()

    def __repr__(self) -> str:
        return f"Victim({' '.join(self.words)}, pid {self.pid}, ended with {self.exit_code})"

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, -9 if it was killed."""
        return self._process.exitcode

    def is_alive(self) -> bool:
        return self._process.exitcode is None

    def kill(self) -> bool:
        """SIGKILL; whether that was its end."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_alive():
                os.kill(self.pid, signal.SIGKILL)
        return self.wait(60) == -signal.SIGKILL

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for as long as the block: what it is at stays undone meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """Its exit code."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        if code is None:
            pytest.fail(f"{self} still ran after {timeout_s} s: {self.said()}")
        return code

    def said(self) -> str:
        """Everything that the runs with this log have said."""
        return self.log.read_text() if self.log.exists() else ""

    def made(self, record: Record | None) -> bool:
        """Whether this process was the last to write a record of the ledger."""
        return record is not None and str(record.body.get("mark", "")).split("/")[2:3] == [str(self.pid)]


def applied_by(rig: Rig, victim: Victim) -> Callable[[], bool]:
    """A question: has this replicator moved the position since now?"""
    before = rig.ledger.read(*REPLICATION)
    old = (before.body.get("time", ""), int(before.body.get("events", 0))) if before else ("", 0)

    def moved() -> bool:
        record = rig.ledger.read(*REPLICATION)
        if record is None or not victim.made(record) or "time" not in record.body:
            return False
        return (record.body["time"], int(record.body["events"])) > old and int(record.body["events"]) > old[1]

    return moved


def loaded_by(rig: Rig, victim: Victim) -> Callable[[], bool]:
    """A question: has this loader moved a checkpoint, since it was first seen to hold the chunk, or finished one?"""
    seen: dict[tuple[str, str], int] = {}
    ever = False

    def moved() -> bool:
        nonlocal ever
        for name, record in rig.chunks().items():
            if victim.made(record):
                read = int(record.body["read"])
                ever = ever or record.body["state"] == "done" or read > seen.setdefault(name, read)
        return ever

    return moved
