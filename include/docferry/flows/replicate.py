"""Replication: DynamoDB follows MongoDB's change stream, from the position recorded before the backfill began.

Order of things, and why:

1. `_open` says in the ledger that this migration is followed, then looks whether all collections are loaded. A backfill does
   the same the other way round, so a load without conditions and a follower never write at once.
2. The stream is read ahead in a thread. Each change goes into the lane of its document: changes of one document are
   applied in stream order, those of different documents side by side. Order between documents needs no care: versions
   do that (DESIGN 5).
3. Every put is conditional on what is stored being older. So applying a change twice, or late, changes nothing; the
   position in the ledger moves behind the last change before which all are applied, and a killed process goes on there.
4. A change that cannot be stored becomes a dead letter, and its document's items tombstones; the lane goes on.

Events that are found stored already were dual writes, or have been applied before; the others came from writers that do not
use the library. Both are counted.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import deque
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bson.timestamp import Timestamp

from docferry.config import Migration
from docferry.core.changes import Writes, burial_of, writes_of
from docferry.core.raw import id_name
from docferry.core.versions import parse_version, snapshot_version
from docferry.errors import (
    ConditionFailed,
    DocumentError,
    ImagesLost,
    InvariantBroken,
    PreflightFailed,
    Problem,
    Stopped,
    TransientStoreError,
)
from docferry.flows import state
from docferry.flows.background import aside
from docferry.flows.check import require_followable
from docferry.flows.loading import budget_of, calm_collector
from docferry.flows.retry import retrying
from docferry.ports import Batch, Change, Feed, Identity, Ledger, Progress, Source, StopSignal, StreamPosition, Target

LANES = 128
MOST_PENDING = 4_000
MOST_PENDING_BYTES = 64 * 1024 * 1024
READ_WAIT_S = 1.0
CHECKPOINT_S = 1.0
LETTERS_S = 10.0
WINDOWS_S = 30.0
DRAIN_S = 30.0
LEASE_S = 60.0
"""Longer than DynamoDB, where it is kept, may be silent for a while."""
SIGNATURE_LIVES_S = 15 * 60.0
"""A request that was signed before its sender lost its lease may still be accepted for so long."""

COUNTERS = ("events", "written", "superseded", "dead", "passed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """Everything replication needs."""

    migration: Migration
    source: Source
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How long the position, and the images behind it, will still be there if nothing more is applied, in seconds.

    `images_s` None: images do not expire by time. A position is in danger once half of a window is used up.
    """

    oplog_s: float
    oplog_left_s: float
    images_s: float | None
    images_left_s: float | None

    @property
    def in_danger(self) -> bool:
        images = self.images_s is not None and (self.images_left_s or 0.0) < self.images_s / 2
        return images or self.oplog_left_s < self.oplog_s / 2

    def to_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"in_danger": self.in_danger}


@dataclass(slots=True, kw_only=True)
class ReplicationReport:
    """What one run did: events = written + superseded + dead + passed. `passed` are from before a collection's new load.

    `lag_s` is MongoDB's time minus the time up to which everything is applied; `position` that time.
    """

    events: int = 0
    written: int = 0
    superseded: int = 0
    dead: int = 0
    passed: int = 0
    seconds: float = 0.0
    lag_s: float | None = None
    position: Timestamp | None = None
    windows: Windows | None = None

    def check(self) -> None:
        """Raises InvariantBroken if an event is unaccounted for."""
        if self.events != self.written + self.superseded + self.dead + self.passed:
            raise InvariantBroken(f"replication: {self.events} events do not add up: {self.to_dict()}")

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        return found | {
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "lag_s": self.lag_s,
            "position": state.encode_time(self.position) if self.position else None,
            "windows": self.windows.to_dict() if self.windows else None,
        }


async def replicate(
    job: Replication,
    target: Target,
    *,
    for_s: float | None = None,
    until: Timestamp | None = None,
) -> ReplicationReport:
    """Follow the change stream until asked to stop, for `for_s` seconds, or until everything up to `until` is applied.

    Raises: LeaseHeld (somebody else follows, named), LeaseLost, PreflightFailed (not loaded yet, images off),
            StreamEnded, ResumeTokenLost, RetryExhausted, StoreError. Whatever it raises, a later run goes on where all was
            applied.
    """
    await asyncio.to_thread(require_followable, job.migration, job.source)
    lease = await asyncio.to_thread(state.take_or_create, job.ledger, *state.REPLICATION, job.identity, LEASE_S)
    follower = _Follower(job, target, lease)
    try:
        with calm_collector():
            await follower.run(for_s, until)
    finally:
        await follower.close()
    follower.report.check()
    return follower.report


def open_for_following(ledger: Ledger, migration: Migration, lease: state.Lease) -> StreamPosition:
    """The position to go on from. From here on nothing may be loaded without conditions.

    Raises PreflightFailed if a collection is not loaded, or was loaded by somebody who may still be writing.
    """
    _require_loaded(ledger, migration)
    if not lease.body.get("opened"):
        lease.update({"opened": state.now_ms()})
        _require_loaded(ledger, migration)  # nobody has begun a load without conditions in between
    if "token" in lease.body:
        return state.position_in(lease.body)
    position = state.recorded_position(ledger)
    if position is None:
        raise InvariantBroken("everything is loaded, but no stream position is recorded")
    return position


def _require_loaded(ledger: Ledger, migration: Migration) -> None:
    problems = [problem for one in migration.collections if (problem := _not_loaded(ledger, one.name)) is not None]
    if problems:
        raise PreflightFailed("replication", problems)


def _not_loaded(ledger: Ledger, collection: str) -> Problem | None:
    header = ledger.read("backfill", collection)
    where = f"collections.{collection}"
    if header is None or (header.body["state"] != "complete" and header.body["mode"] == "bulk"):
        return Problem(
            where=where,
            what="is not loaded yet; following begins when every first load is over",
            suggestion=f"docferry backfill --only {collection}",
        )
    if header.body.get("taken_over"):
        left_s = int(header.body["finished"]) / 1000 + SIGNATURE_LIVES_S - time.time()
        if left_s > 0:
            return Problem(
                where=where,
                what="was loaded by several processes of which one vanished: what it has signed may still arrive "
                f"for {left_s:.0f} s",
                suggestion="wait, then replicate, and validate",
            )
    return None


@dataclass(slots=True, eq=False)
class _Pending:
    """A change on its way."""

    change: Change
    done: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    waiting: deque[_Pending] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class _Follower:
    def __init__(self, job: Replication, target: Target, lease: state.Lease) -> None:
        self.job, self.target, self.lease = job, target, lease
        self.report = ReplicationReport()
        self.began = time.monotonic()
        self.budget = state.LedgerBudget(job.ledger, "wcu", budget_of(job.migration), job.stop)
        self.mappings = {one.name: job.migration.mapping(one.name) for one in job.migration.collections}
        self.ttl = {table.name: table.ttl_attribute for table in job.migration.tables}
        self.lanes = [_Lane() for _ in range(LANES)]
        self.window: deque[_Pending] = deque()
        self.bytes = 0
        self.moved = asyncio.Event()
        self.failure: BaseException | None = None
        self.letters: dict[str, dict[str, int]] = {}
        self.follow_from: dict[str, Timestamp] = {}
        self.position: StreamPosition | None = None
        self.read_up_to: StreamPosition | None = None
        self.checkpointed = self.looked = self.listed = 0.0
        self.stored = {name: int(lease.body.get(name, 0)) for name in COUNTERS}

    # --- reading -----------------------------------------------------------------------------------------------------

    async def run(self, for_s: float | None, until: Timestamp | None) -> None:
        position = await asyncio.to_thread(open_for_following, self.job.ledger, self.job.migration, self.lease)
        self.position = self.read_up_to = position
        await self._look_at_ledger()
        ends = time.monotonic() + for_s if for_s is not None else None
        feed: Feed | None = None
        try:
            while not self._is_over(ends, until):
                try:
                    feed = feed or await self._open_feed()
                    batch = await aside(feed.read, READ_WAIT_S, stop=self.job.stop)
                except TransientStoreError as error:
                    self.job.progress.say(f"replication waits: {error}")
                    feed = await self._close_feed(feed)
                    await self._pause()
                    continue
                except Stopped:
                    break
                await self._take(batch)
                await self._keep_books()
        finally:
            await self._close_feed(feed)
        await self._drain()

    def _is_over(self, ends: float | None, until: Timestamp | None) -> bool:
        if self.failure is not None:
            raise self.failure
        self.lease.check()
        if self.job.stop.is_set() or (ends is not None and time.monotonic() > ends):
            return True
        return until is not None and not self.window and self.read_up_to is not None and self.read_up_to.time >= until

    async def _open_feed(self) -> Feed:
        assert self.read_up_to is not None
        fields_of_keys = {name: mapping.key_fields for name, mapping in self.mappings.items()}
        return await aside(self.job.source.follow, self.read_up_to, fields_of_keys, stop=self.job.stop)

    async def _close_feed(self, feed: Feed | None) -> None:
        if feed is not None:
            await asyncio.to_thread(feed.close)

    async def _pause(self) -> None:
        """Before trying MongoDB again: what is on its way goes on meanwhile."""
        self.moved.clear()
        await self._keep_books()
        await asyncio.sleep(0.5)

    async def _take(self, batch: Batch) -> None:
        for change in batch.changes:
            self.read_up_to = change.position
            self.report.events += 1
            if self._is_past(change):
                self.report.passed += 1
                continue
            self._enqueue(change)
            while self.failure is None and (len(self.window) >= MOST_PENDING or self.bytes > MOST_PENDING_BYTES):
                await self._wait_for_room()
                if self.job.stop.is_set():
                    return
        self.read_up_to = batch.position
        await asyncio.sleep(0)

    def _is_past(self, change: Change) -> bool:
        """Before its collection was loaded anew: that load has read what came of it."""
        begins = self.follow_from.get(change.collection)
        return begins is not None and change.time < begins

    async def _wait_for_room(self) -> None:
        self.moved.clear()
        try:
            async with asyncio.timeout(CHECKPOINT_S):
                await self.moved.wait()
        except TimeoutError:
            pass  # books are kept while DynamoDB is slow, too
        await self._keep_books()

    # --- lanes -------------------------------------------------------------------------------------------------------

    def _enqueue(self, change: Change) -> None:
        pending = _Pending(change)
        self.window.append(pending)
        self.bytes += len(change.after or b"")
        lane = self.lanes[zlib.crc32(change.id, zlib.crc32(change.collection.encode())) % LANES]
        lane.waiting.append(pending)
        if lane.task is None:
            lane.task = asyncio.create_task(self._work(lane))

    async def _work(self, lane: _Lane) -> None:
        try:
            while lane.waiting and self.failure is None:
                pending = lane.waiting[0]
                await self._apply(pending.change)
                lane.waiting.popleft()
                pending.done = True
                self._advance()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the loop that reads
            self.failure = self.failure or error
        finally:
            lane.task = None
            self.moved.set()

    def _advance(self) -> None:
        """Move the position behind all that is applied."""
        while self.window and self.window[0].done:
            change = self.window.popleft().change
            self.bytes -= len(change.after or b"")
            self.position = change.position
        self.moved.set()

    # --- applying ----------------------------------------------------------------------------------------------------

    async def _apply(self, change: Change) -> None:
        name = id_name(change.id)
        letter = self.letters.get(change.collection, {}).get(name)
        version = change.version
        if change.images_lost and change.operation != "delete":
            change, version = await self._fetch(change)
        touched = None if letter is not None or change.images_lost else change.touched
        try:
            writes = self._writes(change, version, touched)
            wrote = writes.error is None and await self._write(change.collection, writes)
        except DocumentError as error:  # of the document in front of the change, or DynamoDB refused an item
            mapping = self.mappings[change.collection]
            writes = burial_of(mapping, change.after, change.before, version, self.ttl[mapping.table], error)
        if writes.error is not None:
            await self._bury(change, version, writes, name)
            return
        self.report.written += wrote
        self.report.superseded += not wrote
        if letter is not None and letter < version:
            await aside(self._close_letter, change.collection, name, version)

    def _writes(self, change: Change, version: int, touched: tuple[str, ...] | None) -> Writes:
        mapping = self.mappings[change.collection]
        ttl = self.ttl[mapping.table]
        if change.images_lost and change.before is None:
            lost = ImagesLost("the change is too large to be read with its images, so its old keys are not known")
            return burial_of(mapping, change.after, None, version, ttl, lost)
        return writes_of(mapping, change.after, change.before, version, ttl, touched)

    async def _fetch(self, change: Change) -> tuple[Change, int]:
        """The document as it is now, for a change that was too large to bring it; the version is that of the read."""

        def once() -> tuple[list[bytes], int]:
            at = max(self.job.source.cluster_time(), change.time)
            return self.job.source.read_ids(change.collection, [change.id], at), snapshot_version(at)

        call = f"read a document of {change.collection}"
        found, version = await aside(retrying, call, once, self.job.stop, stop=self.job.stop)
        return replace(change, after=found[0] if found else None), version

    async def _write(self, collection: str, writes: Writes) -> bool:
        """Whether anything was written, or all of it is older than what is stored."""
        table = self.mappings[collection].table
        old = total = 0
        for items in (writes.first, [writes.root] if writes.root is not None else []):
            if not items:
                continue
            written = await self.target.put_newer(table, items, self.budget, self.lease.check)
            for refused in written.refused.values():
                raise refused
            old += len(written.superseded)
            total += len(items)
        return old < total

    async def _bury(self, change: Change, version: int, writes: Writes, name: str) -> None:
        """First the letter, then the tombstones: what is not there must be accounted for."""
        error = writes.error
        assert error is not None
        error.namespace, error.id = change.collection, name
        document = change.after if change.after is not None else change.before or change.id
        await aside(state.open_letter, self.job.ledger, change.collection, error, document, version)
        self.letters.setdefault(change.collection, {})[name] = version
        await self._write(change.collection, replace(writes, error=None))
        self.report.dead += 1

    def _close_letter(self, collection: str, name: str, version: int) -> None:
        """A later good change of the document: only strictly later, and only the letter that was looked at."""
        record = state.letter_record(self.job.ledger, collection, name)
        if record is not None and parse_version(record.body["version"]) < version:
            try:
                state.close_letter(self.job.ledger, record)
            except ConditionFailed:
                return  # a newer letter took its place
        self.letters.get(collection, {}).pop(name, None)

    # --- books -------------------------------------------------------------------------------------------------------

    async def _keep_books(self) -> None:
        now = time.monotonic()
        if now - self.checkpointed < CHECKPOINT_S:
            return
        if now - self.listed > LETTERS_S:
            await self._look_at_ledger()
        await aside(self._look_at_mongo, now - self.looked > WINDOWS_S)
        try:
            await aside(self.lease.update, self._body())
        except TransientStoreError as error:  # the lease is still checked before each write
            self.job.progress.say(f"replication cannot keep its position: {error}")
            return
        self.checkpointed = time.monotonic()
        self._tell()

    async def _look_at_ledger(self) -> None:
        """Open letters, and from when on each collection is followed: others may have changed them."""
        for name in self.mappings:
            letters = await aside(state.list_letters, self.job.ledger, name)
            self.letters[name] = {letter.id: letter.version for letter in letters}
            header = await aside(self.job.ledger.read, "backfill", name)
            if header is not None and "follow_from" in header.body:
                self.follow_from[name] = state.decode_time(header.body["follow_from"])
        self.listed = time.monotonic()

    def _look_at_mongo(self, windows_too: bool) -> None:
        """Lag and windows; unknown while MongoDB does not answer."""
        applied = self._applied()
        try:
            now = self.job.source.cluster_time()
            self.report.lag_s = float(max(0, now.time - applied.time.time))
            if windows_too:
                self.report.windows = windows_of(self.job.source, applied.time)
                self.looked = time.monotonic()
        except TransientStoreError:
            self.report.lag_s = None

    def _applied(self) -> StreamPosition:
        position = self.position if self.window else self.read_up_to
        assert position is not None
        return position

    def _body(self) -> dict[str, Any]:
        report = self.report
        report.seconds = time.monotonic() - self.began
        applied = self._applied()
        self.report.position = applied.time
        body = state.position_body(applied) | {"at": state.now_ms(), "pending": len(self.window)}
        body |= {name: self.stored[name] + getattr(self.report, name) for name in COUNTERS}
        body["events"] = sum(body[name] for name in COUNTERS[1:])
        body["rate"] = round(self.report.rate)
        body["lag_s"] = -1 if self.report.lag_s is None else round(self.report.lag_s)
        if self.report.windows is not None:
            body["oplog_left_s"] = round(self.report.windows.oplog_left_s)
            body["in_danger"] = self.report.windows.in_danger
        return body

    def _tell(self) -> None:
        report = self.report
        lag = "unknown" if report.lag_s is None else f"{report.lag_s:.0f} s"
        done = report.events - len(self.window)
        self.job.progress.advance("replication", done, report.events, f"lag {lag}, {report.rate:,.0f} events/s")
        if report.windows is not None and report.windows.in_danger:
            left = min(report.windows.oplog_left_s, report.windows.images_left_s or float("inf"))
            self.job.progress.say(
                f"ALARM: the position will be lost in {left / 60:.0f} min unless replication catches up: "
                "enlarge the oplog (replSetResizeOplog) or raise the write budget"
            )

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Wait for what is on its way; a stop does not wait for more than it must."""
        deadline = time.monotonic() + (2.0 if self.job.stop.is_set() else DRAIN_S)
        while self.window and self.failure is None and time.monotonic() < deadline:
            self.moved.clear()
            try:
                async with asyncio.timeout(0.5):
                    await self.moved.wait()
            except TimeoutError:
                continue
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """End the lanes, then give the lease back with the last position."""
        tasks = [lane.task for lane in self.lanes if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pending in self.window:
            self.report.events -= not pending.done
        if self.position is None:
            await asyncio.to_thread(self.lease.release)
            return
        self._settle_unfinished()
        try:
            await aside(self.lease.release, self._body(), within_s=2.0)
        except Exception:
            self.lease.abandon()  # it then runs out by itself; the position in the ledger is older, which is safe
            raise

    def _settle_unfinished(self) -> None:
        """What was applied out of order will be read, and counted, again."""
        unfinished = bool(self.window)
        self.window.clear()
        if unfinished:
            self.read_up_to = self.position


def windows_of(source: Source, applied: Timestamp) -> Windows:
    """How much of the oplog's and the images' windows lies in front of a position."""
    first, last = source.oplog_reach()
    expire = source.expire_images_after_s()
    behind = float(last.time - applied.time)
    return Windows(
        oplog_s=max(source.oplog_window_s(), 1.0),
        oplog_left_s=max(0.0, source.oplog_window_s() - behind) if applied >= first else 0.0,
        images_s=expire,
        images_left_s=None if expire is None else max(0.0, expire - behind),
    )
