"""The way back: MongoDB leads again, and nothing that was written while DynamoDB led is lost
(docs/architecture.md, "The way back").

        DYNAMODB_ONLY -> HOLD -> MONGO_ONLY
        1. This process becomes the one that replicates in reverse, and catches up.
        2. HOLD, with a deadline: writes wait. Every live instance says that it has none in flight, and where its journal ends; a
           silent one is struck off, and its journal sealed (`flows.reverse.journals`).
        3. MongoDB holds what DynamoDB does for each entry of each journal: a DynamoDB stream has no watermark, so the documents
           themselves are compared.
        4. Where forward replication goes on is noted, the marker in MongoDB says `none`, and MongoDB leads; then the marker says
           `mongodb`, and the fence is lifted.

As the way there, it asks for a validation that found all equal: since DynamoDB leads, it is MongoDB that has been judged.

Without journals nothing fences DynamoDB: then a process that vanished without a word is out-waited for the life of a signature
before anything begins, or waived by an operator who knows that it is gone, and the report says what is not proved.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.versions import snapshot_version
from docferry.errors import HoldFailed, PreflightFailed, Problem
from docferry.flows.cutover.hold import (
    CATCH_UP_S,
    POLL_S,
    ROOM_S,
    Hold,
    SwitchReport,
    describe_silent,
    end_switch,
    raise_if_ended,
    raise_if_stopped,
    take_over,
    wait_until_lag_below,
)
from docferry.flows.cutover.phases import RETURN
from docferry.flows.cutover.refusals import Asked
from docferry.flows.cutover.return_evidence import WITHOUT_JOURNAL, has_journals, reverse_letters
from docferry.flows.fence.fence import lift
from docferry.flows.fence.marker import mark_leader, mark_neither
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.modes import (
    change_mode,
    live_instances,
    read_mode,
    request_replication_yield,
    wait_for_acknowledgements,
)
from docferry.flows.ledger.positions import continue_replication_from
from docferry.flows.ledger.reigns import record_reign
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.ledger.rooms.watch import Old, end_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import RETURN_LAG_S
from docferry.flows.reverse.follower import reverse
from docferry.flows.reverse.journals import JournalProof
from docferry.flows.reverse.proof import LOOK_AGAIN_S
from docferry.flows.reverse.report import ReverseReport
from docferry.flows.watch.in_dynamodb import open_dynamodb_watch
from docferry.flows.watch.in_mongodb import MongoWatch
from docferry.flows.watch.late_records import Reigned
from docferry.flows.watch.ready import WATCH, unsettled_strays
from docferry.ports.flows import Record, StreamPosition, Target

FEW = 200
"""Entries that are left to be proved while writes wait, beside what is written until then."""
NOT_PROVED = (
    "not proved: without journals nothing tells what processes wrote; the streams answered that there was nothing more, and a "
    "stream may answer so although there is"
)


async def switch_to_mongodb(
    job: Job, target: Target, waived: Sequence[str] = (), to: Mode = Mode.MONGO_ONLY
) -> SwitchReport:
    """MongoDB leads from now on; forward replication goes on from here. `to`: how far a rollback is to go behind that.

    `waived` names instances (their ids) that vanished and are known to be gone, WITHOUT_VALIDATION, WITHOUT_JOURNAL,
    and WATCH and STRAYS (flows/watch/ready).

    Raises: PreflightFailed or MoveRefused, before anything was touched; HoldFailed, if it could not be finished in time, with
            the reason: everything is as it was.
    """
    await in_thread(require_ready_to_return, job, waived, to, stop=job.stop)
    return await change_leader(job, target, waived)


async def change_leader(job: Job, target: Target, waived: Sequence[str] = ()) -> SwitchReport:
    """`switch_to_mongodb`, once all that it requires is there."""
    await asyncio.to_thread(request_replication_yield, job.ledger, job.identity.name, ROOM_S)
    await in_thread(mark_leader, job, stop=job.stop)  # its gates let reverse replication in
    stop, report = threading.Event(), ReverseReport()
    work = replace(job, stop=stop)
    proof = JournalProof(work, target)
    following = asyncio.create_task(
        take_over(job, "reverse replicator", lambda: reverse(work, target, leading=True, report=report, proof=proof))
    )
    strays = MongoWatch(job, target)
    try:
        await wait_until_lag_below(job, "MongoDB", "reverse replication", RETURN_LAG_S, lambda: report.lag_s, following)
        await in_thread(_require_no_letters, job, stop=job.stop)
        if await in_thread(has_journals, job, waived, stop=job.stop):
            await _prove_ahead(proof, job, following)
        if WATCH not in waived:
            await _watch_until_now(job, strays)
            await in_thread(_require_no_strays, job, waived, stop=job.stop)
        return await _HoldDynamoDB(job, target, following, work, stop, proof, report, waived, strays).run()
    finally:
        stop.set()
        await strays.close()
        await end_switch(job, following)


def require_ready_to_return(job: Job, waived: Sequence[str], to: Mode = Mode.MONGO_ONLY) -> None:
    """Raises PreflightFailed with all that is not waived; MoveRefused."""
    RETURN.require(Asked(job=job, waived=waived, to=to))


async def _watch_until_now(job: Job, strays: MongoWatch) -> None:
    """MongoDB's change stream is read up to now, so that little of it is left while writes wait."""
    mode = await in_thread(read_mode, job.ledger, stop=job.stop)
    await strays.until(mode, await in_thread(job.source.cluster_time, stop=job.stop))


def _require_no_strays(job: Job, waived: Sequence[str]) -> None:
    if problems := unsettled_strays(job.ledger, waived):
        raise PreflightFailed(f"{job.migration.name}: MongoDB as the leader", problems)


def _require_no_letters(job: Job) -> None:
    """Some may have been opened while reverse replication caught up."""
    if problems := list(reverse_letters(Asked(job=job))):
        raise PreflightFailed(f"{job.migration.name}: MongoDB as the leader", problems)


async def _prove_ahead(proof: JournalProof, job: Job, following: asyncio.Task[None]) -> None:
    """Prove the journals before writes wait, until little is left; processes that have vanished are struck off now.

    Raises: PreflightFailed, if it does not become little.
    """
    began = time.monotonic()
    await proof.close_vanished()
    while (left := await proof.look()) > FEW:
        raise_if_ended(following)
        raise_if_stopped(job)
        if time.monotonic() - began > CATCH_UP_S:
            what = f"{left} of the journals' entries are of writes that MongoDB does not hold yet"
            problem = Problem(where="reverse replication", what=what, suggestion="wait until it has caught up")
            raise PreflightFailed("MongoDB as the leader", [problem])
        await asyncio.sleep(LOOK_AGAIN_S)


class _HoldDynamoDB(Hold):
    """To MongoDB."""

    ahead, leader = Mode.MONGO_ONLY, "MongoDB"

    def __init__(
        self,
        job: Job,
        target: Target,
        following: asyncio.Task[None],
        work: Job,
        stop: threading.Event,
        proof: JournalProof,
        report: ReverseReport,
        waived: Sequence[str],
        strays: MongoWatch,
    ) -> None:
        super().__init__(job, target, following)
        self.work, self.stop, self.proof, self.report = work, stop, proof, report
        self.silent_ms = 0
        self.by_streams, self.watches, self.strays = WITHOUT_JOURNAL in waived, WATCH not in waived, strays
        self.why = "MongoDB leads" + (f"; waived: {', '.join(waived)}" if waived else "")

    def by_journals(self, held: ModeState) -> bool:
        return held.journal and not self.by_streams

    async def _acknowledged(self, held: ModeState) -> None:
        """With journals a silent process is not waited for longer: it is struck off, and its lanes are sealed."""
        silent = await asyncio.to_thread(
            wait_for_acknowledgements, self.job.ledger, self.job.identity, held.epoch, self.acks_until, self.job.stop
        )
        raise_if_stopped(self.job)
        if unsealable := [one for one in silent if not (self.by_journals(held) and one.lanes)]:
            raise HoldFailed(describe_silent(unsealable), self.steps)
        self.mark("acknowledged")

    async def until_equal(self, held: ModeState) -> tuple[int, int]:
        job = self.job
        self.evidence, entries = NOT_PROVED, 0
        if self.by_journals(held):
            left_s = held.deadline_ms / 1000 - time.time()
            proved = await self.proof.to_the_end(held.epoch, time.monotonic() + max(0.5, left_s - 1.0))
            self.evidence, entries = str(proved), proved.entries
            self.mark("proved")
        else:
            await self._drain_streams()
        raise_if_ended(self.following)
        if letters := await asyncio.to_thread(list_reverse_letters, job.ledger):
            raise HoldFailed(f"reverse replication has {len(letters)} dead letter(s)", self.steps)
        self.mark("applied")
        self.stop.set()
        await self.following
        return len(await asyncio.to_thread(live_instances, job.ledger, job.identity)), entries

    async def _drain_streams(self) -> None:
        """Without journals the streams must tell, and they have no watermark: each shard must have answered, after now, that
        there is nothing more."""
        asked_ms = now_ms()
        while self.report.reached_ms < asked_ms:
            raise_if_ended(self.following)
            await asyncio.sleep(POLL_S)
        self.mark("drained the streams")

    async def go_ahead(self, record: Record, held: ModeState) -> ModeState:
        """Record where forward replication goes on, while no client writes to MongoDB, whose watch goes as far; then let them,
        behind the mode."""
        self.silent_ms = now_ms()  # all has acknowledged, or is sealed, and is proved
        position = await asyncio.to_thread(self._position)
        if self.watches:
            brought = await self.strays.until(held, position.time)
            if brought:
                raise HoldFailed(
                    f"{brought} write(s) have reached MongoDB while DynamoDB leads (docferry strays)", self.steps
                )
            self.mark("watched")
        return await asyncio.to_thread(self._go_ahead, record, held, position)

    def _position(self) -> StreamPosition:
        source = self.job.source
        return source.stream_position(source.cluster_time())  # without waiting for the stream to move

    def _go_ahead(self, record: Record, held: ModeState, position: StreamPosition) -> ModeState:
        job = self.job
        continue_replication_from(job.ledger, position)
        end = snapshot_version(position.time)
        record_reign(job.ledger, held.floor, end)
        open_dynamodb_watch(job, Reigned(floor=held.floor, end=end, silent_ms=self.silent_ms))
        self.require_time(held)
        mark_neither(job, record)
        after = held.go_ahead(0)
        change_mode(job.ledger, record, after, job.identity, self.why)
        self.mark("switched")
        lift(job)
        self.mark("lifted")
        watch_s = job.migration.cutover.watch_s
        job.progress.say(f"docferry replicate watches DynamoDB for {watch_s:.0f} s from now on: keep it running")
        end_watch(job.ledger, Old.MONGODB, "MongoDB leads again" + ("" if self.watches else "; not watched to the end"))
        return after
