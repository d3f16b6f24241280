"""The application of a drill: so many processes under mixed traffic, each with a history of its own, and children of this one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from docferry.errors import TimedOut, Unavailable
from docferry.sandbox.processes import ChildProcess, start_child

POLL_S = 0.1
END_S = 60.0
MORE_S = 120.0
"""For a machine that does other things, too: a request takes milliseconds."""


class Application:
    """The processes. They end when they are told to, or when this process ends, however that happens.

    `file` is the migration file, `env` how to reach both databases, `directory` takes histories and logs, `rate` is requests a
    second of each; eight of ten are writes. `large` is the share of documents over 400 KB.
    """

    def __init__(self, file: Path, env: Mapping[str, str], directory: Path, *, rate: float, large: float = 0.0) -> None:
        self._file, self._env, self._directory, self._rate = file, {**os.environ, **env}, directory, rate
        self._large = large
        self._children: list[ChildProcess] = []
        self._answers: dict[int, Answers] = {}

    def __repr__(self) -> str:
        return f"Application({len(self._answers)} processes, {self._rate:g}/s each)"

    def __enter__(self) -> Application:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs, without asking. Idempotent."""
        for child in self._children:
            if child.is_alive():
                child.signal(signal.SIGKILL)
                child.stop(grace_s=0)

    @property
    def alive(self) -> int:
        return len(self._answers)

    def history(self, number: int) -> Path:
        return self._directory / f"history-{number}.jsonl"

    def start(self, processes: int = 1) -> None:
        """So many more processes."""
        for _ in range(processes):
            number = len(self._children)
            options = {
                "file": self._file,
                "history": self.history(number),
                "number": number,
                "rate": self._rate,
                "large": self._large,
            }
            words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
            child = start_child(
                [sys.executable, "-m", "docferry.rehearsal.application", *words],
                name=f"application {number}",
                log=self._directory / f"application-{number}.log",
                env=self._env,
            )
            self._children.append(child)
            self._answers[number] = Answers(self.history(number))

    def kill(self, number: int) -> None:
        """SIGKILL, in the middle of its requests: its history ends with a write of unknown outcome."""
        self._answers.pop(number)
        self._children[number].signal(signal.SIGKILL)
        self._children[number].stop(grace_s=0)

    def require_alive(self) -> None:
        """Raises Unavailable, with the end of its log, if a process has ended by itself."""
        for number in self._answers:
            child = self._children[number]
            if not child.is_alive():
                raise Unavailable(f"{child.name} ended with {child.exit_code()}\n{child.log_tail()}")

    def requests(self) -> int:
        """Answered ones, of all that live."""
        return sum(answers.count() for answers in self._answers.values())

    def await_more(
        self, answers: int, *, timeout_s: float = MORE_S, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Until each process has had so many more requests answered. Raises: Unavailable if one has ended; TimedOut."""
        wanted = {number: one.count() + answers for number, one in self._answers.items()}
        deadline = time.monotonic() + timeout_s
        while left := [number for number, count in wanted.items() if self._answers[number].count() < count]:
            self.require_alive()
            meanwhile()
            if time.monotonic() > deadline:
                names = ", ".join(self._children[number].name for number in left)
                raise TimedOut(f"{names}: not {answers} more answers in {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def end(self) -> Sequence[Path]:
        """Let all end of their own accord; the histories of these, and of those that were killed.

        Raises: Unavailable, with the end of its log, if one did not end well.
        """
        self.require_alive()
        ending = [self._children[number] for number in self._answers]
        for child in ending:
            child.signal(signal.SIGTERM)
        for child in ending:
            child.wait(END_S)
            if child.exit_code() != 0:
                raise Unavailable(f"{child.name} ended with {child.exit_code()}\n{child.log_tail()}")
        self._answers.clear()
        return [self.history(number) for number in range(len(self._children))]


class Answers:
    """How many requests of a history have been answered so far."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._count = path, 0, 0

    def count(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, end, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(end)
            self._count += whole.count(b'{"at": "end"')
        return self._count
