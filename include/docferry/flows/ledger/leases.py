"""A record of the ledger that one process holds for a while.

A lease is judged by the clock of the process that wants to take it over, and its holder stops by its own monotonic clock, so
the two clocks need to agree only to well within a lease.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from docferry.errors import ConditionFailed, InvariantBroken, LeaseHeld, LeaseLost
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Identity, Ledger, Record, StopSignal

TAKEOVER_NEEDS_WAIT = "taken_over"
ORPHANED = "orphaned_ms"
"""When it was last taken from a process that had not given it back, in ms."""
HURRIED_S, PATIENT_S = 2.0, 30.0
"""How long giving a lease back may take; Airflow kills a task five seconds after it asked it to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a record, and until when, in ms of the holder's clock; `owner` "" is none. `mark` tells its process apart."""

    owner: str = ""
    mark: str = ""
    until_ms: int = 0

    def expired(self, identity: Identity) -> bool:
        """No process holds it: it was given back, has run out, or its holder's process is proved dead."""
        return not self.owner or self.until_ms < now_ms() or identity.ended(self.mark)

    @property
    def left_s(self) -> float:
        return (self.until_ms - now_ms()) / 1000


def holder_of(record: Record) -> Holder:
    """Who holds a record, if it is one that can be held."""
    body = record.body
    return Holder(owner=body.get("owner", ""), mark=body.get("mark", ""), until_ms=int(body.get("until", 0)))


class Lease:
    """A ledger record that is ours for a while; a thread renews it. Every change goes through here.

    `check` is cheap and is called before each request is signed: it raises LeaseLost once the lease is gone, or
    could be gone because it was not renewed in time.
    """

    def __init__(self, ledger: Ledger, record: Record, identity: Identity, lease_s: float) -> None:
        self._ledger, self._identity, self._lease_s = ledger, identity, lease_s
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._name = f"{record.section}/{record.key}"
        before = holder_of(record)
        if not before.expired(identity):
            raise LeaseHeld(self._name, before.owner, before.left_s)
        orphan = bool(before.owner)
        proved = orphan and identity.ended(before.mark)
        fence = int(record.body.get("fence", 0)) + 1
        taken_over = bool(record.body.get(TAKEOVER_NEEDS_WAIT)) or (orphan and not proved)
        self._deadline, self._until = 0.0, 0
        self.last: Mapping[str, Any] = {}
        """What is written when the lease is given back: the block that holds it keeps this up to date."""
        self._record = record
        taken: dict[str, Any] = {"fence": fence, TAKEOVER_NEEDS_WAIT: taken_over}
        self._write(taken | ({ORPHANED: now_ms()} if orphan else {}))
        self._thread = threading.Thread(target=self._renew, name=f"lease {self._name}", daemon=True)
        self._thread.start()

    @property
    def record(self) -> Record:
        """As it was written last. The record's module in `flows/ledger` reads it."""
        return self._record

    @property
    def name(self) -> str:
        """Section and key."""
        return self._name

    @property
    def key(self) -> str:
        return self._record.key

    def check(self) -> None:
        """Raises LeaseLost if another process may hold the lease by now."""
        if time.monotonic() > self._deadline:
            raise LeaseLost(self._name)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Write a checkpoint (and renew). Raises LeaseLost if another process took over."""
        with self._lock:
            self._write(changes)

    def release(self, changes: Mapping[str, Any] | None = None) -> None:
        """Give the lease back, with a last checkpoint."""
        self._ended.set()
        with self._lock:
            self._write(dict(changes or {}), owner="")
            self._deadline = 0.0
        self._thread.join(timeout=5)

    def abandon(self) -> None:
        """Stop renewing without a word: the lease runs out. For when the ledger cannot be reached."""
        self._ended.set()
        self._deadline = 0.0

    def _write(self, changes: Mapping[str, Any], owner: str | None = None) -> None:
        asked = time.monotonic()
        body = {**self._record.body, **changes}
        body["owner"] = self._identity.name if owner is None else owner
        body["mark"] = self._identity.mark
        body["until"] = self._until = self._strictly_increasing_expiry(now_ms() + int(self._lease_s * 1000))
        try:
            self._record = self._ledger.write(self._record.section, self._record.key, body, expect=self._record)
        except ConditionFailed as error:
            current = self._ledger.read(self._record.section, self._record.key)
            if current is None or not self._is_ours(current, body):
                self._deadline = 0.0
                raise LeaseLost(self._name) from error
            self._record = current  # our own write, whose answer got lost
            if current.body["until"] != body["until"]:  # or an earlier one of ours: then this one is still to be made
                self._write(changes, owner)
                return
        self._deadline = asked + self._lease_s * 0.8

    def _strictly_increasing_expiry(self, until: int) -> int:
        """By `until` two writes of ours are told apart: it rises within a millisecond, too."""
        return self._until + 1 if 0 <= self._until - until < 1_000 else until

    def _is_ours(self, current: Record, body: Mapping[str, Any]) -> bool:
        """Once taken, by process and fence. While taking, two of one process may want the same fence: by the time, too."""
        names = ("mark", "fence") if self._deadline else ("mark", "fence", "until")
        return all(current.body.get(name) == body[name] for name in names)

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / 4):
            try:
                with self._lock:
                    if not self._ended.is_set():
                        self._write({})
            except LeaseLost:
                return  # `check` tells the writer
            except Exception as error:  # noqa: BLE001 - kept, not swallowed: the lease runs out unless a later try works
                self.last_error = error

    last_error: Exception | None = None


@contextmanager
def held(lease: Lease) -> Iterator[Lease]:
    """Give a lease back at the end of the block, with its `last` checkpoint, whatever ends the block.

    One that is lost is left alone. If it cannot be given back after an error, that error is what matters, and tells of it: the
    lease then runs out by itself.
    """
    try:
        yield lease
    except BaseException as error:
        if isinstance(error, LeaseLost):
            lease.abandon()
            raise
        try:
            lease.release(lease.last)
        except Exception as lost:  # noqa: BLE001 - told with the error
            _leave(lease, error, lost)
        raise
    _release(lease)


@asynccontextmanager
async def held_async(lease: Lease, stop: StopSignal | None = None) -> AsyncIterator[Lease]:
    """As `held`, beside the event loop. A process that was asked to stop does not wait long; else a ledger that is slow or
    throttles is given its time."""
    try:
        yield lease
    except BaseException as error:
        if isinstance(error, LeaseLost):
            lease.abandon()
            raise
        await give_back_after(lease, error, lambda: lease.release(lease.last), stop)
        raise
    await in_thread(_release, lease, within_s=_within_s(None, stop))


async def give_back_after(
    lease: Lease, error: BaseException, release: Callable[[], object], stop: StopSignal | None = None
) -> None:
    """Give a lease back by `release`, having met an error, which tells of it if that fails, too."""
    try:
        await in_thread(release, within_s=_within_s(error, stop))
    except Exception as lost:  # noqa: BLE001 - told with the error
        _leave(lease, error, lost)


def _within_s(error: BaseException | None, stop: StopSignal | None) -> float:
    hurried = isinstance(error, asyncio.CancelledError) or (stop is not None and stop.is_set())
    return HURRIED_S if hurried else PATIENT_S


def _release(lease: Lease) -> None:
    try:
        lease.release(lease.last)
    except BaseException:
        lease.abandon()
        raise


def _leave(lease: Lease, error: BaseException, lost: Exception) -> None:
    lease.abandon()
    error.add_note(f"(and the lease {lease.name} could not be given back: {lost})")


def take_or_create(ledger: Ledger, section: str, key: str, identity: Identity, lease_s: float) -> Lease:
    """Lease a record, making it first if need be. Raises LeaseHeld, naming the holder."""
    record = ledger.read(section, key)
    if record is None:
        try:
            record = ledger.write(section, key, {"owner": "", "mark": "", "until": 0}, expect=None)
        except ConditionFailed:
            record = ledger.read(section, key)
    if record is None:
        raise InvariantBroken(f"the ledger record {section}/{key} vanished")
    try:
        return Lease(ledger, record, identity, lease_s)
    except LeaseLost:
        current = ledger.read(section, key)
        owner = holder_of(current).owner if current else "another process"
        raise LeaseHeld(f"{section}/{key}", owner, lease_s) from None
