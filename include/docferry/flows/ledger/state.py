"""How the flows keep what must survive in the ledger: leases, the shared budget, stream position, dead letters.

Times are milliseconds since 1970 on the writer's clock. A lease is judged by the clock of whoever wants to take it over,
and its holder stops by its own monotonic clock, so the two clocks need to agree only to well within a lease.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.timestamp import Timestamp

from docferry.core.versions import parse_version, version_text
from docferry.errors import ConditionFailed, DocumentError, InvariantBroken, LeaseHeld, LeaseLost, Stopped
from docferry.flows.kernel.threads import in_thread
from docferry.ports.flows import Identity, Ledger, Record, Source, StopSignal, StreamPosition

LETTER_PART_BYTES = 300_000
TAKEOVER_NEEDS_WAIT = "taken_over"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


# --- leases ----------------------------------------------------------------------------------------------------------


def lease_expired(body: Mapping[str, Any], identity: Identity) -> bool:
    """Nobody holds it: it was given back, has run out, or its holder's process is proved dead."""
    if not body.get("owner"):
        return True
    return int(body["until"]) < now_ms() or identity.ended(str(body["mark"]))


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
        if not lease_expired(record.body, identity):
            left = (int(record.body["until"]) - now_ms()) / 1000
            raise LeaseHeld(self._name, str(record.body["owner"]), left)
        orphan = bool(record.body.get("owner"))
        proved = orphan and identity.ended(str(record.body["mark"]))
        fence = int(record.body.get("fence", 0)) + 1
        taken_over = bool(record.body.get(TAKEOVER_NEEDS_WAIT)) or (orphan and not proved)
        self._deadline, self._until = 0.0, 0
        self._record = record
        self._write({"fence": fence, TAKEOVER_NEEDS_WAIT: taken_over})
        self._thread = threading.Thread(target=self._renew, name=f"lease {self._name}", daemon=True)
        self._thread.start()

    @property
    def body(self) -> Mapping[str, Any]:
        return self._record.body

    @property
    def key(self) -> str:
        return self._record.key

    def check(self) -> None:
        """Raises LeaseLost if the lease may be somebody else's by now."""
        if time.monotonic() > self._deadline:
            raise LeaseLost(self._name)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Write a checkpoint (and renew). Raises LeaseLost if somebody took over."""
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
        body["until"] = self._until = self._unlike_the_last(now_ms() + int(self._lease_s * 1000))
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

    def _unlike_the_last(self, until: int) -> int:
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
        owner = str(current.body.get("owner")) if current else "somebody"
        raise LeaseHeld(f"{section}/{key}", owner, lease_s) from None


# --- one rate for all tasks ------------------------------------------------------------------------------------------


class LedgerBudget:
    """A share of one rate, in write units a second, that every task of a migration takes from the same record.

    The record holds the time up to which the rate has been given out. A task reserves a slice and waits until it
    begins; slices grow from a fiftieth to half a second's worth while one follows close upon the other, so that a
    task with little to write does not hoard what others need. `units_per_s` 0 means no limit.
    """

    FIRST_S, MOST_S = 0.02, 0.5

    def __init__(self, ledger: Ledger, name: str, units_per_s: float, stop: StopSignal) -> None:
        self._ledger, self._name, self._rate, self._stop = ledger, name, units_per_s, stop
        self._tokens = 0.0
        self._slice_s = self.FIRST_S
        self._reserved = 0.0
        self._lock = asyncio.Lock()

    async def take(self, units: float) -> None:
        if not self._rate:
            return
        if self._tokens >= units and not self._lock.locked():
            self._tokens -= units
            return
        async with self._lock:
            while self._tokens < units:
                wanted = max(units - self._tokens, self._rate * self._next_slice_s())
                begins_ms = await in_thread(self._reserve, wanted, stop=self._stop)
                await self._wait_until(begins_ms)
                self._tokens += wanted
            self._tokens -= units

    def _next_slice_s(self) -> float:
        now = time.monotonic()
        busy = now - self._reserved < 2 * self.MOST_S
        self._slice_s = min(self.MOST_S, self._slice_s * 2) if busy else self.FIRST_S
        self._reserved = now
        return self._slice_s

    def settle(self, estimated: float, consumed: float) -> None:
        if self._rate:
            self._tokens += estimated - consumed

    async def _wait_until(self, begins_ms: int) -> None:
        """By the monotonic clock: the other one may jump meanwhile."""
        begins = time.monotonic() + (begins_ms - now_ms()) / 1000
        while (left := begins - time.monotonic()) > 0:
            if self._stop.is_set():
                raise Stopped("asked to stop while waiting for write capacity; run again to continue")
            await asyncio.sleep(min(left, 0.5))

    def _reserve(self, units: float) -> int:
        """When this share begins, in ms."""
        while True:
            record = self._ledger.read("budget", self._name)
            now = now_ms()
            free = max(now, min(int(record.body["free_at"]), now + 60_000)) if record else now
            body = {"free_at": free + int(units / self._rate * 1000), "rate": int(self._rate)}
            try:
                self._ledger.write("budget", self._name, body, expect=record)
                return free
            except ConditionFailed:
                continue  # another task took its share first


# --- stream position -------------------------------------------------------------------------------------------------


def encode_time(value: Timestamp) -> str:
    """A cluster time as text, in order."""
    return f"{value.time:010d}:{value.inc:010d}"


def decode_time(text: str) -> Timestamp:
    """The inverse of `encode_time`."""
    time_text, _, inc = text.partition(":")
    return Timestamp(int(time_text), int(inc))


def recorded_position(ledger: Ledger) -> StreamPosition | None:
    """The stream position recorded before the first page was read, None if none has been yet."""
    record = ledger.read("position", "stream")
    if record is None:
        return None
    return position_in(record.body)


REPLICATION = ("replicate", "stream")
"""Section and key of the record that is the replicator's lease and holds the position up to which all is applied."""


def applied_position(ledger: Ledger) -> StreamPosition | None:
    """The position up to which replication has applied every change, None if it has not begun."""
    record = ledger.read(*REPLICATION)
    return None if record is None or "token" not in record.body else position_in(record.body)


def changes_applied(ledger: Ledger) -> int:
    """How many changes of documents replication has dealt with so far, written or not."""
    record = ledger.read(*REPLICATION)
    return 0 if record is None else sum(int(record.body.get(name, 0)) for name in ("written", "superseded", "dead"))


def position_body(position: StreamPosition) -> dict[str, Any]:
    """A stream position for a ledger record."""
    return {
        "time": encode_time(position.time),
        "token": bson.encode(position.token),
        "scope": position.scope,
        "n": position.n,
    }


def position_in(body: Mapping[str, Any]) -> StreamPosition:
    """The inverse of `position_body`."""
    return StreamPosition(
        time=decode_time(body["time"]), token=bson.decode(body["token"]), scope=body["scope"], n=int(body.get("n", 0))
    )


def record_position(ledger: Ledger, source: Source) -> StreamPosition:
    """The recorded position; if there is none, the one of now is recorded. Never moved here once it is there."""
    found = recorded_position(ledger)
    if found is not None:
        return found
    position = source.stream_position()
    body = position_body(position) | {"at": now_ms()}
    try:
        ledger.write("position", "stream", body, expect=None)
    except ConditionFailed:
        found = recorded_position(ledger)
        if found is None:
            raise InvariantBroken("the stream position was recorded and is gone") from None
        return found
    return position


# --- dead letters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One document that could not be stored. The document itself is fetched by `letter_document` alone."""

    collection: str
    id: str
    reason: str
    path: str
    message: str
    version: int
    at_ms: int
    parts: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "collection": self.collection,
            "id": self.id,
            "reason": self.reason,
            "path": self.path,
            "message": self.message,
            "version": version_text(self.version),
            "at_ms": self.at_ms,
        }


def letter_key(id_text: str) -> str:
    """The ledger key of a document: its id, or a digest where that would be too long for a sort key."""
    data = id_text.encode()
    return id_text if len(data) <= 900 else "~hash#" + hashlib.sha256(data).hexdigest()


def open_letter(ledger: Ledger, collection: str, error: DocumentError, document: bytes, version: int) -> None:
    """Record a dead letter with the document (BSON, compressed, in parts), unless a newer one is there.

    The parts are written first: a letter that is there is whole. They are of this opening alone, so that who closes an
    earlier one, of the same version perhaps, does not take them away.
    """
    key, opening = letter_key(error.id), uuid.uuid4().hex
    packed = zlib.compress(document)
    parts = [packed[start : start + LETTER_PART_BYTES] for start in range(0, len(packed), LETTER_PART_BYTES)]
    while True:
        record = ledger.read(f"dead:{collection}", key)
        if record is not None and parse_version(record.body["version"]) > version:
            return
        for index, part in enumerate(parts):
            _write_part(ledger, collection, f"{key}#{version_text(version)}#{opening}#{index:05d}", part)
        body = {
            "id": error.id,
            "reason": error.reason,
            "path": error.path,
            "message": str(error)[:1000],
            "version": version_text(version),
            "at": now_ms(),
            "opening": opening,
            "parts": len(parts),
        }
        try:
            ledger.write(f"dead:{collection}", key, body, expect=record)
        except ConditionFailed:
            continue
        if record is not None:
            _drop_parts(ledger, collection, record)
        return


def _write_part(ledger: Ledger, collection: str, key: str, part: bytes) -> None:
    section = f"dead-parts:{collection}"
    ledger.write(section, key, {"data": part}, expect=ledger.read(section, key))


def _drop_parts(ledger: Ledger, collection: str, record: Record) -> None:
    for part in _parts(ledger, collection, record):
        ledger.delete(part)


def _parts(ledger: Ledger, collection: str, record: Record) -> list[Record]:
    return ledger.list(f"dead-parts:{collection}", f"{record.key}#{record.body['version']}#{record.body['opening']}#")


def list_letters(ledger: Ledger, collection: str) -> list[DeadLetter]:
    """The open dead letters of a collection."""
    return [_letter(collection, record) for record in ledger.list(f"dead:{collection}")]


def _letter(collection: str, record: Record) -> DeadLetter:
    body = record.body
    return DeadLetter(
        collection=collection,
        id=body["id"],
        reason=body["reason"],
        path=body["path"],
        message=body["message"],
        version=parse_version(body["version"]),
        at_ms=int(body["at"]),
        parts=int(body["parts"]),
    )


def letter_record(ledger: Ledger, collection: str, id_text: str) -> Record | None:
    """The ledger record of one letter, for closing it."""
    return ledger.read(f"dead:{collection}", letter_key(id_text))


def letter_document(ledger: Ledger, record: Record) -> bytes:
    """The dead-lettered document as BSON.

    Raises: ConditionFailed if the letter was closed or replaced since it was read; InvariantBroken if parts are missing.
    """
    parts = _parts(ledger, record.section.removeprefix("dead:"), record)
    if len(parts) != int(record.body["parts"]):
        current = ledger.read(record.section, record.key)
        if current is None or current.revision != record.revision:
            raise ConditionFailed(f"dead letter {record.key} has changed meanwhile", operation="read a dead letter")
        raise InvariantBroken(f"dead letter {record.key}: {len(parts)} of {record.body['parts']} parts are there")
    return zlib.decompress(b"".join(part.body["data"] for part in parts))


def close_letter(ledger: Ledger, record: Record) -> None:
    """Remove a letter that has been dealt with. Raises ConditionFailed if it has changed meanwhile."""
    ledger.delete(record)
    _drop_parts(ledger, record.section.removeprefix("dead:"), record)
