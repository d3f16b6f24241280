"""A command of the operator's as a fence on MongoDB, where MongoDB has no command of its own for it (Atlas).

It is run without a shell, with one word more than the file has: `plan`, `close`, `open` or `state`. docs/cutover.md has the
contract. What it is given: of our own environment what a program needs to run and to reach the network, and whatever begins with
DOCFERRY_FENCE_; neither MongoDB's address nor AWS's credentials. What it says is bounded, and told without what looks secret.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import (
    FenceFacts,
    FenceKind,
    FencePlan,
    FenceState,
    Grant,
    OpenTransaction,
    RunningOperation,
    StrayWrite,
    user_id,
)
from docferry.core.namespaces import Namespaces
from docferry.core.settings import ExternalFence
from docferry.core.settings import Fence as OwnKind
from docferry.errors import RequestRefused, TimedOut, Unavailable
from docferry.ports.flows import Fence

OWN = "DOCFERRY_FENCE_"
_PASSED = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE"}
)
AGAIN_EXIT = 75
"""EX_TEMPFAIL of sysexits.h: try again."""
MOST_MEMO_BYTES = 100_000
MOST_TOLD = 300
KNOWN_S, UNKNOWN_S = 60.0, 2.0
"""How long what `state` said is taken for true: it is asked about each second, and each answer costs a run."""
_STATES = {"closed": FenceState.UP, "open": FenceState.DOWN, "partly": FenceState.UNKNOWN}
_SECRET_NAMES = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|CREDENTIAL", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(\w+://)[^@/\s]*@")


@dataclass(frozen=True, slots=True)
class About:
    """What the command is told of the migration, as environment variables."""

    migration: str
    database: str
    collections: tuple[str, ...]
    users: tuple[str, ...]
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def where(self) -> Namespaces:
        return Namespaces(self.database, self.elsewhere)

    @property
    def place(self) -> tuple[Namespaces, str, tuple[str, ...]]:
        """Databases, migration, collections: where MongoDB's own fence stands."""
        return self.where, self.migration, self.collections

    def environment(self, within_s: float) -> dict[str, str]:
        """Of several databases there is no DATABASE: a command that knows of one only must not close that alone."""
        database = {f"{OWN}DATABASE": self.database}
        if self.where.several:
            database = {f"{OWN}DATABASES": json.dumps(self.where.databases)}
        named = [self.where.shown(name) if self.where.several else name for name in self.collections]
        return {
            f"{OWN}MIGRATION": self.migration,
            **database,
            f"{OWN}COLLECTIONS": json.dumps(named),
            f"{OWN}USERS": json.dumps(list(map(user_id, self.users))),
            f"{OWN}WITHIN_S": f"{within_s:g}",
        }


class FenceCommand:
    """One command; `given` is our own environment."""

    def __init__(self, words: Sequence[str], within_s: float, about: About, given: Mapping[str, str]) -> None:
        self._words, self._within_s = tuple(words), within_s
        passed = {name: value for name, value in given.items() if name in _PASSED or name.startswith(OWN)}
        self._environment = passed | about.environment(within_s)

    def __repr__(self) -> str:
        return f"FenceCommand({self._words[:1]!r})"

    def run(self, word: str, memo: str = "") -> str:
        """What it printed. Raises: Unavailable (it says: try again), TimedOut (it was killed), RequestRefused."""
        operation = f"{os.path.basename(self._words[0])} {word}"
        try:
            process = subprocess.Popen(  # noqa: S603 - the file names it, and no shell reads it
                [*self._words, word],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            what = f"the command of cutover.fence cannot be run: {error.strerror or type(error).__name__}"
            raise RequestRefused(f"{operation}: {what}", operation=operation) from error
        said, told, in_time = _communicate(process, memo.encode(), self._within_s)
        if not in_time:
            raise TimedOut(f"{operation} took longer than {self._within_s:g} s, and was ended", operation=operation)
        if process.returncode == 0:
            return said.decode(errors="replace")
        text = f"{operation} ended with status {process.returncode}: {self._shown(told or said)}"
        kind = Unavailable if process.returncode == AGAIN_EXIT else RequestRefused
        raise kind(text, operation=operation, code=str(process.returncode))

    def _shown(self, data: bytes) -> str:
        """Its last words, without control characters and without what looks secret."""
        text = "".join(one if one.isprintable() else " " for one in data.decode(errors="replace")).strip()
        for name, value in self._environment.items():
            if _SECRET_NAMES.search(name) and value:
                text = text.replace(value, "***")
        return _IN_ADDRESS.sub(r"\1***@", text)[-MOST_TOLD:] or "it said nothing"


def _communicate(process: subprocess.Popen[bytes], given: bytes, within_s: float) -> tuple[bytes, bytes, bool]:
    """(output, errors, whether it ended in time); each bounded: what is more is read, and dropped."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said, told = _Drain(process.stdout, keep_end=False), _Drain(process.stderr, keep_end=True)
    writing = threading.Thread(target=_give, args=(process.stdin, given), daemon=True)
    writing.start()
    deadline = time.monotonic() + within_s
    try:
        process.wait(within_s)
        in_time = True
    except subprocess.TimeoutExpired:
        in_time = False
    # What it has started itself goes with it: such a process may hold the pipes, and go on with the fence.
    _end_group(process)
    process.wait()
    for one in (said, told):
        one.join(max(1.0, deadline - time.monotonic()))
    return bytes(said.kept), bytes(told.kept), in_time


def _give(pipe: IO[bytes], data: bytes) -> None:
    try:
        pipe.write(data)
        pipe.close()
    except OSError:
        return  # it does not want it


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


class _Drain(threading.Thread):
    def __init__(self, pipe: IO[bytes], *, keep_end: bool) -> None:
        super().__init__(daemon=True)
        self._pipe, self._keep_end = pipe, keep_end
        self.kept = bytearray()
        self.start()

    def run(self) -> None:
        while data := self._pipe.read(8_192):
            self.kept += data
            if self._keep_end:
                del self.kept[: -4 * MOST_TOLD]
            else:
                del self.kept[MOST_MEMO_BYTES + 1 :]


@dataclass(slots=True)
class _Seen:
    state: FenceState
    at: float


@dataclass(slots=True)
class CommandFence:
    """Fence: MongoDB's own, and for plans of kind EXTERNAL the command."""

    inner: Fence
    command: FenceCommand
    monotonic: Callable[[], float] = time.monotonic
    _seen: _Seen | None = field(default=None, init=False)

    def close(self) -> None:
        close: Any = getattr(self.inner, "close", None)
        if close is not None:
            close()

    def facts(self) -> FenceFacts:
        return self.inner.facts()

    def grants(self, users: Sequence[str]) -> tuple[Grant, ...]:
        return self.inner.grants(users)

    def external_memo(self) -> str:
        memo = self.command.run("plan")
        if len(memo.encode()) > MOST_MEMO_BYTES:
            raise RequestRefused(f"{self.command!r} plan said more than {MOST_MEMO_BYTES:,} bytes", operation="plan")
        return memo

    def open_transactions(self) -> Sequence[OpenTransaction]:
        return self.inner.open_transactions()

    def kill_transactions(self, found: Sequence[OpenTransaction]) -> None:
        self.inner.kill_transactions(found)

    def raise_fence(self, plan: FencePlan) -> None:
        if plan.kind is not FenceKind.EXTERNAL:
            self.inner.raise_fence(plan)
            return
        self._change("close", plan)

    def still_writing(self, plan: FencePlan) -> Sequence[RunningOperation | OpenTransaction]:
        return () if plan.kind is FenceKind.EXTERNAL else self.inner.still_writing(plan)

    def mark_time(self) -> Timestamp:
        return self.inner.mark_time()

    def lift_fence(self, plan: FencePlan) -> None:
        if plan.kind is not FenceKind.EXTERNAL:
            self.inner.lift_fence(plan)
            return
        self._change("open", plan)

    def _change(self, word: str, plan: FencePlan) -> None:
        self._seen = None
        try:
            self.command.run(word, plan.memo)
        finally:
            self._seen = None

    def fence_state(self, plan: FencePlan) -> FenceState:
        if plan.kind is not FenceKind.EXTERNAL:
            return self.inner.fence_state(plan)
        seen, now = self._seen, self.monotonic()
        lives_s = UNKNOWN_S if seen is not None and seen.state is FenceState.UNKNOWN else KNOWN_S
        if seen is None or now - seen.at > lives_s:
            word = self.command.run("state", plan.memo).strip()
            if word not in _STATES:
                raise RequestRefused(f"{self.command!r} state must say one of {', '.join(_STATES)}", operation="state")
            seen = self._seen = _Seen(_STATES[word], self.monotonic())
        return seen.state

    def writes_after(self, time: Timestamp, limit: int = 100) -> Sequence[StrayWrite]:
        return self.inner.writes_after(time, limit)


def with_command(own: Fence, wanted: OwnKind | ExternalFence, about: About, given: Mapping[str, str]) -> Fence:
    """The fence of a migration: MongoDB's own, and with the command if the file names one. `given` is our environment."""
    if not isinstance(wanted, ExternalFence):
        return own
    return CommandFence(own, FenceCommand(wanted.external, wanted.within_s, about, given))
