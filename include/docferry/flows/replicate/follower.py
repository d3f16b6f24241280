"""Replication: DynamoDB follows MongoDB's change stream, from the position recorded before the backfill began.

Order of things, and why:

1. `_open` says in the ledger that this migration is followed, then looks whether all collections are loaded. A backfill does
   the same the other way round, so a load without conditions and a follower never write at once.
2. The stream is read ahead in a thread. Each change goes into the lane of its document: changes of one document are
   applied in stream order, those of different documents side by side. Order between documents needs no care: versions
   do that (docs/architecture.md, "Versions").
3. Every put is conditional on what is stored being older. So applying a change twice, or late, changes nothing; the
   position in the ledger moves behind the last change before which all are applied, and a killed process goes on there.
4. A change that cannot be stored becomes a dead letter, and its document's items tombstones; the lane goes on.

Events that are found stored already were dual writes, or have been applied before; the others came from writers that do not
use the library. Both are counted.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.cutover.permitted import Flow
from docferry.errors import (
    ResumeTokenLost,
    Stopped,
    StreamEnded,
    TimedOut,
    TransientStoreError,
)
from docferry.flows.kernel.collector import raised_gc_threshold
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.leases import HURRIED_S, Lease, held_async, take_or_create
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.modes import read_mode, replication_yield_request, require_direction
from docferry.flows.ledger.positions import (
    REPLICATION,
    ReplicationState,
    replication_checkpoint,
    replication_ended,
    replication_in,
)
from docferry.flows.ledger.rooms.instances import Housekeeping
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.majority import MajorityWatch, wait_for_majority
from docferry.flows.preflight.mongodb import require_followable
from docferry.flows.preflight.windows import windows_of
from docferry.flows.replicate.lanes import Applying, Lanes
from docferry.flows.replicate.opening import open_for_following, wait_for_late_writes
from docferry.flows.replicate.report import ChangeOutcome, ReplicationReport, Until
from docferry.ports.flows import Batch, Feed, StreamPosition, Target

MOST_PENDING = 4_000
MOST_PENDING_BYTES = 64 * 1024 * 1024
READ_WAIT_S = 1.0
ANSWER_S = 45.0
"""How long MongoDB may be silent before another connection is tried: a frozen member closes none."""
CHECKPOINT_S = 1.0
LETTERS_S = 10.0
WINDOWS_S = 30.0
TELL_S = 5.0
"""Between two lines in a log that is written day and night."""
DRAIN_S = 30.0
LEASE_S = 60.0
"""Longer than DynamoDB, where it is kept, may be silent for a while."""
STALLED_S = 3.0
"""From this lag on MongoDB is asked whether its members are there."""


async def replicate(
    job: Job,
    target: Target,
    *,
    for_s: float | None = None,
    until: Timestamp | Until | None = None,
    leading: bool = False,
) -> ReplicationReport:
    """Follow the change stream until asked to stop, for `for_s` seconds, or until everything up to `until` is applied.

    A process that is to change the leader asks this one to end (`flows.ledger.modes.request_replication_yield`); it passes
    `leading` for the replicator of its own.

    Raises: Stopped (before it began), LeaseHeld (another process follows, named), LeaseLost,
            PreflightFailed (not loaded yet, images off, MongoDB does not lead),
            StreamEnded, ResumeTokenLost, RetryExhausted, StoreError. Whatever it raises, a later run goes on where all was
            applied.
    Waits:  while MongoDB has no majority of data-bearing members, and, without `until`, while requests of the load may still be
            carried out; it says so.
    """
    asked = time.monotonic()
    await in_thread(wait_for_majority, job.source, job.progress, job.stop, "replication", for_s, stop=job.stop)
    await in_thread(require_followable, job.migration, job.source, stop=job.stop)
    lease = await asyncio.to_thread(take_or_create, job.ledger, *REPLICATION, job.identity, LEASE_S)
    async with held_async(lease, job.stop):
        await asyncio.to_thread(require_direction, job.ledger, Flow.REPLICATE, leading=leading)
        if until is None:
            await in_thread(wait_for_late_writes, job, for_s, stop=job.stop)
        position = await asyncio.to_thread(
            open_for_following, job.ledger, job.migration, lease, lambda table: job.estate.fetch_table(table)
        )
        follower = _Follower(job, target, lease, position, leading)
        if for_s is not None:
            for_s -= time.monotonic() - asked
        ended: dict[str, Any] = {}
        try:
            with raised_gc_threshold():
                await follower.run(for_s, until if isinstance(until, Until) else Until(until))
            ended = replication_ended("")
        except (StreamEnded, ResumeTokenLost) as error:
            ended = replication_ended(str(error), lost=isinstance(error, ResumeTokenLost))
            raise
        finally:
            lease.last = await follower.end() | ended
    follower.report.check()
    return follower.report


class _Follower:
    def __init__(self, job: Job, target: Target, lease: Lease, position: StreamPosition, leading: bool) -> None:
        self.job, self.lease, self.leading = job, lease, leading
        self.makes_room = False
        self.report = ReplicationReport()
        self.began = time.monotonic()
        budget = LedgerBudget(job.ledger, "wcu", budget_of(job.migration), job.stop)
        self.lanes = Lanes(
            Applying(
                migration=job.migration,
                source=job.source,
                ledger=job.ledger,
                target=target,
                budget=budget,
                guard=lease.check,
                stop=job.stop,
            ),
            position,
            self.report.books,
        )
        self.majority = MajorityWatch(job.source, job.progress, "replication")
        self.read_up_to = position
        self.nothing_more = False
        self.follow_from: dict[str, Timestamp] = {}
        self.feed: Feed | None = None
        self.checkpointed = self.looked = self.listed = self.told = 0.0
        self.instances = Housekeeping()
        before = replication_in(lease.record)
        self.report.books.go_on_from(before.counts)
        self.epoch = before.first_epoch
        self.lanes.first.update(before.first)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def run(self, for_s: float | None, until: Until) -> None:
        """Read and apply until it is over, then wait for what is on its way; so, too, where the stream ends."""
        ends = time.monotonic() + for_s if for_s is not None else None
        stop = self.job.stop
        try:
            await in_thread(retrying, "read the ledger", self._look_at_ledger, stop, stop=stop)
            while not self._is_over(ends, until):
                await self._read_on()
                until.lag_s = self.report.lag_s
        except Stopped:
            self.job.progress.say("replication stops")
        except (StreamEnded, ResumeTokenLost):
            await self._drain()
            raise
        finally:
            await self._close_feed()
        await self._drain()

    async def _read_on(self) -> None:
        """Take the next batch. While MongoDB cannot be read, what is on its way goes on."""
        try:
            self.feed = self.feed or await self._open_feed()
            batch = await in_thread(self.feed.read, READ_WAIT_S, stop=self.job.stop, within_s=ANSWER_S)
        except TransientStoreError as error:
            self.job.progress.say(f"replication waits: {error}")
            await self._close_feed()
            await self._keep_books()
            await asyncio.sleep(0.5)
            return
        except StreamEnded as ended:
            if not self._is_loaded_since(ended):
                raise
            self.read_up_to, self.nothing_more = ended.position, False
            if ended.reason == "images_missing":
                self.report.books.take()
                self.report.books.enter(ChangeOutcome.PASSED)
            return
        await self._take(batch)
        await self._keep_books()

    def _is_loaded_since(self, ended: StreamEnded) -> bool:
        """Whether all that an event ended has been loaded anew behind it: a snapshot of its own time shows what it did."""
        begins = [self.follow_from.get(name) for name in ended.collections or self.lanes.mappings]
        return all(begin is not None and ended.position.time <= begin for begin in begins)

    def _is_over(self, ends: float | None, until: Until) -> bool:
        self._raise_failure()
        self.lease.check()
        if self.job.stop.is_set() or self.makes_room or (ends is not None and time.monotonic() > ends):
            return True
        return until.time is not None and not self.lanes.pending and self._has_passed(until.time)

    def _has_passed(self, until: Timestamp) -> bool:
        """Whether all events of that time are read: those of a large transaction come in several batches."""
        at = self.read_up_to.time
        return at > until or (at == until and self.nothing_more)

    def _raise_failure(self) -> None:
        if self.lanes.failure is not None:
            raise self.lanes.failure

    async def _open_feed(self) -> Feed:
        fields_of_keys = {name: mapping.key_fields for name, mapping in self.lanes.mappings.items()}
        follow = self.job.source.follow
        return await in_thread(follow, self.read_up_to, fields_of_keys, stop=self.job.stop, within_s=ANSWER_S)

    async def _close_feed(self) -> None:
        """As far as can be: a MongoDB that is silent is not waited for."""
        feed, self.feed = self.feed, None
        if feed is not None:
            with suppress(TimedOut):
                await in_thread(feed.close, within_s=HURRIED_S)

    async def _take(self, batch: Batch) -> None:
        for change in batch.changes:
            self.read_up_to = change.position
            self.lanes.put(change)
            while self._is_full():
                await self._wait_for_room()
                if self.job.stop.is_set():
                    return
        self.read_up_to = batch.position
        self.nothing_more = not batch.changes
        await asyncio.sleep(0)

    def _is_full(self) -> bool:
        full = self.lanes.pending >= MOST_PENDING or self.lanes.bytes > MOST_PENDING_BYTES
        return full and self.lanes.failure is None

    async def _wait_for_room(self) -> None:
        await self._wait_for_a_move(CHECKPOINT_S)
        await self._keep_books()  # while DynamoDB is slow, too

    async def _wait_for_a_move(self, most_s: float) -> None:
        self.lanes.moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self.lanes.moved.wait()

    # --- books -------------------------------------------------------------------------------------------------------

    def _look_for_others(self) -> None:
        """Whether a process is about to change the leader, and needs to follow the stream itself."""
        if not self.leading and (asking := replication_yield_request(self.job.ledger)):
            self.job.progress.say(f"replication makes room for {asking.holder}")
            self.makes_room = True

    async def _keep_books(self) -> None:
        now = time.monotonic()
        if now - self.checkpointed < CHECKPOINT_S:
            return
        stop = self.job.stop
        try:
            await in_thread(self._look_at_mongo, now - self.looked > WINDOWS_S, stop=stop, within_s=ANSWER_S)
        except TransientStoreError:
            self.report.lag_s = None  # unknown while MongoDB does not answer
        try:
            if now - self.listed > LETTERS_S:
                await in_thread(self._look_at_ledger, stop=stop)
            await in_thread(self.lease.update, self._body(), stop=stop)
            await in_thread(self._look_for_others, stop=stop)
        except TransientStoreError as error:  # the lease is still checked before each write
            self.job.progress.say(f"replication cannot keep its position: {error}")
            return
        self.checkpointed = time.monotonic()
        self._tell()

    def _look_at_ledger(self) -> None:
        """Open letters, from when on each collection is followed, and the mode: others may have changed them."""
        self.lanes.look_for_letters()
        epoch = read_mode(self.job.ledger).epoch
        if epoch != self.epoch:  # who else writes is counted anew at each change of the mode
            self.epoch = epoch
            self.lanes.first.clear()
        for name in self.lanes.mappings:
            header = LoadHeaders(self.job.ledger).read(name)
            if header is not None and header.follow_from is not None:
                self.follow_from[name] = header.follow_from
        self.listed = time.monotonic()
        self.instances.look(self.job.ledger, self.job.identity)

    def _look_at_mongo(self, windows_too: bool) -> None:
        """Lag and windows."""
        applied = self._applied()
        now = self.job.source.cluster_time()
        self.report.lag_s = float(max(0, now.time - applied.time.time))
        if self.report.lag_s >= STALLED_S or self.majority.missing:
            self.majority.look()
        if windows_too:
            self.report.windows = windows_of(self.job.source, applied.time)
            self.looked = time.monotonic()

    def _applied(self) -> StreamPosition:
        return self.lanes.position if self.lanes.pending else self.read_up_to

    def _body(self) -> dict[str, Any]:
        report = self.report
        report.seconds = time.monotonic() - self.began
        applied = self._applied()
        self.report.position = applied.time
        windows = report.windows
        return replication_checkpoint(
            ReplicationState(
                position=applied,
                at_ms=now_ms(),
                pending=self.lanes.pending,
                counts=report.books.totals(),
                first_epoch=self.epoch,
                first=self.lanes.first,
                waits=self.majority.missing,
                rate=round(report.rate),
                lag_s=None if report.lag_s is None else round(report.lag_s),
                oplog_left_s=round(windows.oplog_left_s) if windows else None,
                in_danger=windows.in_danger if windows else False,
            )
        )

    def _tell(self) -> None:
        if time.monotonic() - self.told < TELL_S:
            return
        self.told = time.monotonic()
        report = self.report
        note = f"lag {'unknown' if report.lag_s is None else f'{report.lag_s:.0f} s'}, {report.rate:,.0f} events/s"
        if report.windows is not None:
            note += f", the oplog holds the position for {report.windows.oplog_left_s / 3600:,.1f} h"
        read = report.events + self.lanes.pending if self.lanes.pending else 0  # the end of a stream is not known
        self.job.progress.advance("replication", report.events, read, note)
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
        while self.lanes.pending and self.lanes.failure is None and time.monotonic() < deadline:
            await self._wait_for_a_move(0.5)
        with suppress(Stopped):  # a lane that waited for the budget, or for MongoDB: what it had is read again
            self._raise_failure()
        if not self.job.stop.is_set():
            await in_thread(self._look_at_mongo, False)  # the lag that is told is that of the end

    async def end(self) -> dict[str, Any]:
        """End the lanes. Returns what the ledger is to hold: if it gets lost, the older position there is safe."""
        if self.lanes.pending:
            await self.lanes.end()
            self.read_up_to = self.lanes.position  # the rest will be read again
        return self._body()
