"""Child processes that never outlive us by accident, ports that no other process gets, and waiting without luck."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from docferry.errors import TimedOut, Unavailable

T = TypeVar("T")

TAIL_BYTES = 2_000

# Runs in the child before the program: asks the kernel to kill it when its parent dies, then becomes the program.
# Not preexec_fn: that runs Python between fork and exec, which deadlocks now and then in a process with threads.
# PR_SET_PDEATHSIG is 1 and survives exec. The parent may have died before the call, hence the look afterwards.
_TRAMPOLINE = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != parent:
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class _Launcher:
    """Starts children from one thread that lives as long as the process.

    Why: PR_SET_PDEATHSIG fires when the *thread* that forked ends, so a child started by a pool's worker would die
    with the pool.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
        self._jobs = queue.SimpleQueue()
        threading.Thread(target=self._work, name="docferry-launcher", daemon=True).start()

    def run(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        answer: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            job, answer = self._jobs.get()
            try:
                answer.set_result(job())
            except OSError as error:
                answer.set_exception(error)


_launcher: _Launcher | None = None
_launcher_lock = threading.Lock()


def _launch(job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    global _launcher
    with _launcher_lock:
        # After a fork (Airflow forks) the thread exists only in the parent.
        if _launcher is None or _launcher.owner != os.getpid():
            _launcher = _Launcher()
        launcher = _launcher
    return launcher.run(job)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid that cannot be mistaken: the kernel's start time (in clock ticks since boot) tells a reused one apart."""

    name: str
    pid: int
    started_ticks: int

    def is_alive(self) -> bool:
        return _started_ticks(self.pid) == self.started_ticks

    def stop(self, grace_s: float = 10) -> None:
        """SIGTERM, then SIGKILL after `grace_s`. For a process that need not be our child."""
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            if not self.is_alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, number)
            with contextlib.suppress(TimedOut):
                wait_until(lambda: not self.is_alive(), timeout_s=patience_s, what=f"the end of {self.name}")


def _started_ticks(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


class ChildProcess:
    """One running program of ours. Its output goes to `log`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.log = name, log
        self._process = process

    def __repr__(self) -> str:
        return f"ChildProcess({self.name!r}, pid={self.pid})"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.name, self.pid, _started_ticks(self.pid) or 0)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def exit_code(self) -> int | None:
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if the process has ended."""
        self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a frozen host."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> None:
        """Wait for the end. Raises: TimedOut."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{self.name} (pid {self.pid}) did not end within {timeout_s:.0f} s") from error

    def stop(self, grace_s: float = 10) -> None:
        """SIGTERM, SIGKILL after `grace_s`; then whatever it had started itself. Idempotent."""
        self.resume()  # A paused process would not see the SIGTERM.
        self.signal(signal.SIGTERM)
        try:
            self.wait(grace_s)
        except TimedOut:
            self.signal(signal.SIGKILL)
            self.wait(10)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def log_tail(self) -> str:
        return log_tail(self.log)


def start_child(
    command: Sequence[str | Path],
    *,
    name: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    outlive_parent: bool = False,
) -> ChildProcess:
    """Start a program in a session of its own (Ctrl-C does not reach it), output appended to `log` (mode 600).

    It is killed by the kernel when this process ends, however that ends, unless `outlive_parent`.
    Raises: Unavailable if it cannot be started at all.
    """
    words = [str(word) for word in command]
    if not outlive_parent and sys.platform == "linux":
        words = [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), *words]

    def spawn() -> subprocess.Popen[bytes]:
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
            )

    try:
        return ChildProcess(name, _launch(spawn), log)
    except OSError as error:
        raise Unavailable(f"{name} cannot be started: {error}") from error


def log_tail(log: Path) -> str:
    """The last lines of a log, at most TAIL_BYTES."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def wait_until(
    condition: Callable[[], T | None],
    *,
    timeout_s: float,
    what: str,
    child: ChildProcess | None = None,
    every_s: float = 0.03,
) -> T:
    """Ask until the answer is true, and return it.

    Raises: Unavailable at once if `child` has ended, TimedOut after `timeout_s`, both with the tail of its log.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        if child is not None and not child.is_alive():
            raise Unavailable(f"{child.name} ended with {child.exit_code()} before {what}\n{child.log_tail()}")
        if time.monotonic() > deadline:
            tail = f"\n{child.log_tail()}" if child is not None else ""
            raise TimedOut(f"waited {timeout_s:.0f} s in vain for {what}{tail}")
        time.sleep(every_s)


class ReservedPort:
    """A free port of 127.0.0.1 that stays ours, also while its server is down.

    Why: between 'find a free port' and 'the server listens' another process can get the same one. A socket that is
    bound but does not listen keeps the kernel from giving the port away, and does not hinder a server that sets
    SO_REUSEADDR, as mongod, hypercorn and werkzeug do.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        # After bind: set before, two reservations could share one port.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    def __repr__(self) -> str:
        return f"ReservedPort({self.number})"

    def close(self) -> None:
        self._socket.close()
