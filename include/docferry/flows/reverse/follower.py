"""Reverse replication: while DynamoDB leads, MongoDB follows its streams, so that going back loses nothing. In order:

1. The change of leader records for each shard where to begin (`record_stream_start`), while no process writes. Beginning
   earlier is always safe: what is applied is what DynamoDB holds now, never what a record says.
2. Each shard is read ahead by a task of its own, a child after its parent. A record names documents; each goes into the
   lane of its document, across all shards (`reverse_lanes`).
3. The position of each shard in the ledger moves behind the last record before which all are applied: a killed process goes
   on there, and applying something twice changes nothing.
4. A document that cannot be followed becomes a dead letter, and is looked at again until it can be.

A stream has no watermark, and keeps records for 24 hours. So lag 0 means that every shard has answered that there is nothing
more; proof that a write has arrived is `reverse_proof.wait_until_applied`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from docferry.config import Migration
from docferry.core.cutover.permitted import Flow
from docferry.errors import (
    PreflightFailed,
    Problem,
    Stopped,
    StreamTrimmed,
    TransientStoreError,
)
from docferry.flows.kernel.collector import raised_gc_threshold
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.leases import Lease, held_async, take_or_create
from docferry.flows.ledger.mapping_fingerprint import require_mapping
from docferry.flows.ledger.modes import replication_yield_request, require_direction
from docferry.flows.ledger.rooms.instances import Housekeeping
from docferry.flows.ledger.rooms.owners import require_owned
from docferry.flows.ledger.rooms.reverse_stream import (
    REVERSE,
    ReverseState,
    read_reverse,
    require_unheld,
    reverse_checkpoint,
    reverse_ended,
    reverse_in,
    start_reverse,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse.gates import through_gates
from docferry.flows.reverse.journals import JournalProof
from docferry.flows.reverse.lanes import Returning, ReverseLanes
from docferry.flows.reverse.report import KEEP_S, ReverseReport
from docferry.flows.reverse.shard_readers import ShardReaders, wait_for_a_move
from docferry.flows.reverse.shards import TableStream, begin, decode_stream, encode_stream
from docferry.ports.flows import Ledger, Streams, Target

LEASE_S = 60.0
LOOK_S = 0.25
CHECKPOINT_S = 1.0
LETTERS_S = 10.0
TELL_S = 5.0
DRAIN_S = 30.0
MOST_MARKED = 200
"""Open shards of a table that begin at an iterator of their own: it is kept in the ledger, in one record."""


# --- where to begin --------------------------------------------------------------------------------------------------


def latest_of(streams: Streams, tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each table an iterator of each open shard that begins now: what was written before need not be read.

    Called shortly before `record_stream_start`, so that writes need not wait for it. A table with very many shards has none:
    its shards are read from their beginning.
    """
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        facts = streams.stream_of(table)
        still_open = [one for one in streams.shards(facts.arn) if not one.closed] if facts is not None else []
        if facts is not None and len(still_open) <= MOST_MARKED:
            found[table] = {one.id: streams.latest(facts.arn, one.id) for one in still_open}
    return found


def record_stream_start(
    ledger: Ledger, streams: Streams, tables: Iterable[str], latest: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Note where following is to begin: now, or at `latest`, in the streams of these tables, in the place of any earlier start.

    Called while no process writes to DynamoDB but replication, and MongoDB holds all that has been written so far.
    Raises: PreflightFailed, naming the tables without a stream that brings both images; LeaseHeld while a process follows;
            StoreError.
    """
    begun_ms = now_ms()
    before = require_unheld(ledger)
    begun = {one.table: encode_stream(one) for one in _begun(streams, tables, begun_ms, latest or {})}
    start_reverse(ledger, before, begun_ms, begun)


def _begun(
    streams: Streams, tables: Iterable[str], begun_ms: int, latest: Mapping[str, Mapping[str, str]]
) -> list[TableStream]:
    found: list[TableStream] = []
    if problems := list(lacking_streams(streams, tables := list(tables))):
        raise PreflightFailed("reverse replication", problems)
    for table in tables:
        facts = streams.stream_of(table)
        assert facts is not None
        found.append(begin(table, facts.arn, streams.shards(facts.arn), begun_ms, latest.get(table, {})))
    return found


def lacking_streams(streams: Streams, tables: Iterable[str]) -> Iterator[Problem]:
    """The tables of which no stream tells what was written. Raises StoreError."""
    for table in tables:
        facts = streams.stream_of(table)
        if facts is None or not facts.images:
            what = "has no stream" if facts is None else "has a stream without both images"
            advice = "docferry provision --allow-changes, with `stream: true` in the file"
            yield Problem(where=f"tables.{table}", what=what, suggestion=advice)


def lacking_start(ledger: Ledger, migration: Migration) -> Iterator[Problem]:
    """Why reverse replication could not go on: no start for a table, or one that the streams forgot. Raises StoreError."""
    state = read_reverse(ledger)
    for table in migration.tables:
        if table.name not in state.tables:
            what = "no start is recorded: the change of leader to DynamoDB records it"
            yield Problem(where=f"tables.{table.name}", what=what)
    if state.started and (told := _forgotten(state)):
        advice = "MongoDB has missed changes: restore a rollback point, or stay with DynamoDB"
        yield Problem(where="reverse replication", what=told, suggestion=advice)


def _forgotten(state: ReverseState) -> str:
    age_s = (now_ms() - state.reached_ms) / 1000
    if age_s <= KEEP_S:
        return ""
    hours = f"{age_s / 3600:,.1f} h"
    return f"the last time that all changes were applied was {hours} ago, and the stream keeps changes for 24 h"


def _recorded(lease: Lease, migration: Migration) -> dict[str, TableStream]:
    state = reverse_in(lease.record)
    tables = state.tables
    missing = [table.name for table in migration.tables if table.name not in tables]
    if missing:
        what = "no start is recorded: the change of leader to DynamoDB records it"
        raise PreflightFailed("reverse replication", [Problem(where=f"tables.{name}", what=what) for name in missing])
    if told := _forgotten(state):
        raise StreamTrimmed(told)
    return {table.name: decode_stream(table.name, tables[table.name]) for table in migration.tables}


# --- following -------------------------------------------------------------------------------------------------------


async def reverse(
    job: Job,
    target: Target,
    *,
    for_s: float | None = None,
    until_caught_up: bool = False,
    leading: bool = False,
    report: ReverseReport | None = None,
    proof: JournalProof | None = None,
) -> ReverseReport:
    """Follow the streams until asked to stop, for `for_s` seconds, or until what had been written at the start is applied.

    It ends when a process that is to change the leader asks it to (`flows.ledger.modes.request_replication_yield`); that process
    passes `leading` for its own. `report` is kept up to date meanwhile, and the application's journals are proved, unless the
    caller does so with a `proof` of its own.

    Raises: LeaseHeld (another process follows, named), LeaseLost, PreflightFailed (no start recorded), StreamTrimmed,
            RetryExhausted, StoreError. Whatever it raises, a later run goes on where all was applied.
    """
    lease = await asyncio.to_thread(take_or_create, job.ledger, *REVERSE, job.identity, LEASE_S)
    async with held_async(lease, job.stop):
        ended = ""
        try:
            await asyncio.to_thread(require_direction, job.ledger, Flow.REVERSE, leading=leading)
            await asyncio.to_thread(require_mapping, job.migration, job.ledger)
            await asyncio.to_thread(require_owned, job.migration, job.ledger)
            tables, report = _recorded(lease, job.migration), report or ReverseReport()
            gated = await in_thread(through_gates, job, lease, stop=job.stop)
            follower = _Follower(gated, target, lease, tables, leading, report, proof)
            try:
                with raised_gc_threshold():
                    await follower.run(for_s, until_caught_up)
            finally:
                lease.last = await follower.end()
        except BaseException as error:
            ended = str(error)
            raise
        finally:
            lease.last = {**lease.last, **reverse_ended(ended)}
    follower.report.check()
    return follower.report


class _Follower:
    def __init__(
        self,
        job: Job,
        target: Target,
        lease: Lease,
        tables: Mapping[str, TableStream],
        leading: bool,
        report: ReverseReport,
        proof: JournalProof | None,
    ) -> None:
        self.job, self.lease, self.tables = job, lease, tables
        self.leading, self.makes_room = leading, False
        self.report = report
        self.began = time.monotonic()
        work = Returning(
            entities={name: job.migration.entities(name) for name in tables}, target=target, sink=job.sink,
            ledger=job.ledger, guard=lease.check, stop=job.stop,
        )  # fmt: skip
        self.lanes = ReverseLanes(work)
        self.proves, self.proof = proof is None, (proof or JournalProof(job, target)).bound_to(self.lanes)
        self.readers = ShardReaders(job.streams, self.lanes, tables, job.progress, job.stop, leading, report.books)
        self.checkpointed = self.listed = self.told = float("-inf")
        self.instances = Housekeeping()
        self.asked_ms = now_ms()
        self.caught_up = False
        before = reverse_in(lease.record)
        self.reached_ms, self.healed_before = before.reached_ms, before.counts["healed"]
        self.report.books.go_on_from(before.counts)

    async def run(self, for_s: float | None, until_caught_up: bool) -> None:
        """Read and apply until it is over, then wait for what is on its way."""
        ends = time.monotonic() + for_s if for_s is not None else float("inf")
        asked_ms = now_ms()
        try:
            if self.proves:
                self.proof.begin()
            while not self._is_over(ends, asked_ms if until_caught_up else None):
                await self._look()
                await self._keep_books()
                await wait_for_a_move(self.lanes, LOOK_S)
        except Stopped:
            self.job.progress.say("reverse replication stops")
        finally:
            await self.readers.end()
        await self._drain()

    async def _look(self) -> None:
        try:
            await self.readers.look()
        except TransientStoreError as error:
            self.job.progress.say(f"reverse replication waits: {error}")

    def _is_over(self, ends: float, asked_ms: int | None) -> bool:
        self._raise_failure()
        self.lease.check()
        if self.job.stop.is_set() or self.makes_room or time.monotonic() > ends:
            return True
        self.readers.advance()
        if self.leading:  # the caller lets writes wait meanwhile
            self.report.reached_ms = max(self.report.reached_ms, self.readers.reached_ms(now_ms()))
        self.caught_up = asked_ms is not None and not self.lanes.parts and self.readers.have_caught_up(asked_ms)
        return self.caught_up

    def _raise_failure(self) -> None:
        failure = self.lanes.failure or self.readers.failure or self.proof.failure
        if failure is not None:
            raise failure

    async def _drain(self) -> None:
        """Wait for what is on its way; a stop does not wait for more than it must."""
        deadline = time.monotonic() + (2.0 if self.job.stop.is_set() else DRAIN_S)
        while self.lanes.parts and self.lanes.failure is None and time.monotonic() < deadline:
            await wait_for_a_move(self.lanes, 0.5)
        with suppress(Stopped):
            self._raise_failure()

    # --- books -------------------------------------------------------------------------------------------------------

    async def _keep_books(self) -> None:
        now = time.monotonic()
        if now - self.checkpointed < CHECKPOINT_S:
            return
        try:
            if now - self.listed > LETTERS_S:
                await in_thread(self.lanes.look_for_letters, stop=self.job.stop)
                self.lanes.retry_letters()
                await in_thread(self.instances.look, self.job.ledger, self.job.identity, stop=self.job.stop)
                self.listed = now
            await in_thread(self.lease.update, self._body(), stop=self.job.stop)
            await in_thread(self._look_for_others, stop=self.job.stop)
        except TransientStoreError as error:  # the lease is still checked before each write
            self.job.progress.say(f"reverse replication cannot keep its position: {error}")
            return
        self.checkpointed = time.monotonic()
        self._tell()
        if (self.report.lag_s or 0.0) > KEEP_S:
            raise StreamTrimmed(
                "the oldest change that is not applied is older than the 24 h for which the stream keeps it"
            )

    def _look_for_others(self) -> None:
        if not self.leading and (asking := replication_yield_request(self.job.ledger)):
            self.job.progress.say(f"reverse replication makes room for {asking.holder}")
            self.makes_room = True

    def _measure(self) -> None:
        """Lag: since the last time that it was measured every shard must have answered."""
        self.readers.advance()
        asked_ms, self.asked_ms = self.asked_ms, now_ms()
        caught_up = self.caught_up or (not self.lanes.parts and self.readers.have_caught_up(asked_ms))
        reached = asked_ms if caught_up else self.readers.reached_ms(self.asked_ms)
        self.reached_ms = self.report.reached_ms = max(self.reached_ms, reached)
        self.report.lag_s = 0.0 if caught_up else max(0.0, (self.asked_ms - self.reached_ms) / 1000)

    def _body(self) -> dict[str, Any]:
        self._measure()
        report = self.report
        report.seconds = time.monotonic() - self.began
        report.ignored_by = dict(self.readers.passed)
        report.healed, report.letters = self.lanes.healed, len(self.lanes.letters)
        return reverse_checkpoint(
            ReverseState(
                at_ms=now_ms(),
                reached_ms=self.reached_ms,
                pending=self.lanes.parts,
                letters=report.letters,
                counts=report.books.totals() | {"healed": self.healed_before + report.healed},
                lag_s=round(report.lag_s or 0),
                in_danger=report.in_danger,
                rate=round(report.rate),
                tables={name: encode_stream(stream) for name, stream in self.tables.items()},
            )
        )

    def _tell(self) -> None:
        if time.monotonic() - self.told < TELL_S:
            return
        self.told = time.monotonic()
        report, say = self.report, self.job.progress.say
        note = f"lag {report.lag_s or 0:,.0f} s, {report.rate:,.0f} records/s, {report.letters} dead letters"
        self.job.progress.advance("reverse replication", report.records, 0, note)
        unknown = {name: count for name, count in report.ignored_by.items() if name.startswith(("entityType", "no "))}
        if unknown:
            listing = ", ".join(f"{name} {count}" for name, count in unknown.items())
            say(f"reverse replication ignores items of types that the file does not know: {listing}")
        if report.in_danger:
            say(
                f"ALARM: changes will be lost in {(report.window_left_s or 0) / 3600:,.1f} h unless reverse replication "
                "catches up: the stream keeps them for 24 h"
            )

    # --- the end -----------------------------------------------------------------------------------------------------

    async def end(self) -> dict[str, Any]:
        """End the lanes. Returns what the ledger is to hold: if it gets lost, the older positions there are safe."""
        await self.readers.end()
        await self.proof.end()
        await self.lanes.end()
        body = self._body()
        self.report.books.give_back(self.readers.unapplied())
        self.told = float("-inf")
        self._tell()
        return body
