"""All of it at once: replica set and AWS, in one directory that goes away with them."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, TypeVar

from docferry.errors import Unavailable
from docferry.sandbox.aws import SandboxAws
from docferry.sandbox.mongo import SandboxReplicaSet
from docferry.sandbox.processes import ProcessIdentity
from docferry.sandbox.tools import Say, ensure_ministack, ensure_mongod, ensure_moto, say_nothing

T = TypeVar("T")

PREFIX = "docferry-stack-"
STACK_FILE = "stack.json"
LOCK_FILE = "owner.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStack:
    """A stack that another process started. Its repr shows no credentials."""

    file: Path
    directory: Path
    environment: Mapping[str, str]
    processes: tuple[ProcessIdentity, ...]

    def __repr__(self) -> str:
        return f"KeptStack({self.directory}, {len(self.processes)} processes)"

    def env(self) -> dict[str, str]:
        return dict(self.environment)

    def is_alive(self) -> bool:
        return bool(self.processes) and all(process.is_alive() for process in self.processes)

    def stop(self) -> None:
        """Stop its processes, by their identity, never by a bare pid, and remove its directory and the file. Idempotent."""
        for process in self.processes:
            process.stop(grace_s=2)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.file.unlink(missing_ok=True)


def read_stack(directory: Path) -> KeptStack:
    """Read the stack.json that a running stack left in `directory`. Raises: Unavailable if there is none."""
    try:
        content = json.loads((directory / STACK_FILE).read_text())
    except FileNotFoundError as error:
        raise Unavailable(f"no stack is up: {directory / STACK_FILE} does not exist") from error
    return KeptStack(
        file=directory / STACK_FILE,
        directory=Path(content["directory"]),
        environment=content["env"],
        processes=tuple(ProcessIdentity(**process) for process in content["processes"]),
    )


def render_exports(env: Mapping[str, str]) -> str:
    """Shell lines that bring another shell to the same stack, for `eval "$(docferry env)"`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(env.items()))


class SandboxStack:
    """MongoDB and AWS on this machine, for as long as the `with` block or until close().

    `announce_in` names a directory for one more stack.json (mode 600: it holds credentials), where another shell
    finds it. `keep` leaves everything running when this process ends; `read_stack(...).stop()` ends it then.
    `mongo` takes the arguments of SandboxReplicaSet beyond the directory.
    Raises: PreflightFailed, Unavailable, TimedOut; nothing is left running then.
    """

    def __init__(
        self,
        *,
        members: int = 1,
        dax: bool = False,
        keep: bool = False,
        announce_in: Path | None = None,
        mongo: Mapping[str, Any] | None = None,
        say: Say = say_nothing,
    ) -> None:
        self._members, self._dax, self._keep = members, dax, keep
        self._announce_in, self._mongo_options, self._say = announce_in, dict(mongo or {}), say
        self._owner = os.getpid()
        self._directory: Path | None = None
        self._lock: IO[str] | None = None
        self._mongo: SandboxReplicaSet | None = None
        self._aws: SandboxAws | None = None
        self._restore_sigterm: Callable[[], None] = _do_nothing

    def __repr__(self) -> str:
        return f"SandboxStack({self._mongo!r}, {self._aws!r})"

    def __enter__(self) -> SandboxStack:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not (self._keep and kind is None):
            self.close()

    @property
    def directory(self) -> Path:
        return _opened(self._directory)

    @property
    def mongo(self) -> SandboxReplicaSet:
        return _opened(self._mongo)

    @property
    def aws(self) -> SandboxAws:
        return _opened(self._aws)

    def open(self) -> SandboxStack:
        """Fetch what is missing, start both halves at once, and write stack.json."""
        ensure_mongod(self._say)
        ensure_ministack(self._say)
        if self._dax:
            ensure_moto(self._say)
        _sweep()
        self._restore_sigterm = _turn_sigterm_into_exit()
        try:
            self._start()
            self._announce()
        except BaseException:
            self.close()
            raise
        if not self._keep:
            atexit.register(self.close)
        return self

    def env(self) -> dict[str, str]:
        """What a process needs to reach this stack. DOCFERRY_MONGO_URI is docferry's own user (root),
        DOCFERRY_APP_MONGO_URI the application's; the rest is SandboxAws.env()."""
        return {
            "DOCFERRY_MONGO_URI": self.mongo.uri("docferry"),
            "DOCFERRY_APP_MONGO_URI": self.mongo.uri("app"),
            **self.aws.env(),
        }

    def close(self) -> None:
        """Stop everything and remove the directory. Idempotent; does nothing in a fork of the owner."""
        if os.getpid() != self._owner or self._directory is None:
            return
        directory, self._directory = self._directory, None
        atexit.unregister(self.close)
        with contextlib.ExitStack() as last:
            last.callback(self._restore_sigterm)
            last.callback(self._unlock)
            last.callback(shutil.rmtree, directory, ignore_errors=True)
            if self._announce_in is not None:
                last.callback((self._announce_in / STACK_FILE).unlink, missing_ok=True)
            for part in (self._mongo, self._aws):
                if part is not None:
                    last.callback(part.close)
            self._mongo = self._aws = None

    def _start(self) -> None:
        # Short, and not TMPDIR's own depth: a path that is too long breaks Unix sockets.
        self._directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _lock_directory(self._directory)
        self._mongo = SandboxReplicaSet(
            self._directory, self._members, outlive_parent=self._keep, **self._mongo_options
        )
        self._aws = SandboxAws(self._directory, self._dax, outlive_parent=self._keep, say=self._say)
        self._say(f"starting MongoDB ({self._members} member(s)) and AWS in {self._directory}")
        with ThreadPoolExecutor(2) as pool:
            halves: list[Future[Any]] = [pool.submit(self._mongo.open), pool.submit(self._aws.open)]
            try:
                for half in as_completed(halves):
                    half.result()
            except BaseException:
                # A thread that still waits for a server to come up now sees it dead, and gives up at once.
                self._mongo.close()
                self._aws.close()
                raise

    def _announce(self) -> None:
        processes = [asdict(p.identity) for p in (*self.mongo.processes(), *self.aws.processes())]
        content = {"directory": str(self.directory), "env": self.env(), "processes": processes}
        for directory in (self.directory, self._announce_in):
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
                _write_private(directory / STACK_FILE, json.dumps(content, indent=1))

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()


def _opened(part: T | None) -> T:
    if part is None:
        raise Unavailable("the stack is not open")
    return part


def _do_nothing() -> None:
    """What is restored where nothing was changed."""


def _write_private(path: Path, text: str) -> None:
    # Written beside and renamed: a reader sees all of it or none; the mode is right from the first byte.
    beside = path.with_suffix(f".{os.getpid()}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


def _lock_directory(directory: Path) -> IO[str]:
    # Locked under another name first: a sweeper never sees the lock of a living owner unlocked.
    unnamed = directory / f".{LOCK_FILE}"
    lock = unnamed.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unnamed.rename(directory / LOCK_FILE)
    return lock


def _sweep() -> None:
    """Remove the directories of owners that were killed. Their lock ended with them; a living one holds its own."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if any(process.is_alive() for process in _kept_processes(directory)):
                continue
            with (directory / LOCK_FILE).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)


def _kept_processes(directory: Path) -> tuple[ProcessIdentity, ...]:
    try:
        return read_stack(directory).processes
    except Unavailable:
        return ()


def _turn_sigterm_into_exit() -> Callable[[], None]:
    """Make SIGTERM unwind the stack as Ctrl-C does, and return what undoes it.

    Only in the main thread, and only where no other code handles the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        return _do_nothing
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return _do_nothing

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)

    def restore() -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return restore
