"""Changing who leads: one flow in one process, in seconds, or everything is as it was
(docs/architecture.md, "Changing the leader").

There:  DYNAMODB_READS (100 %) -> HOLD -> DYNAMODB_ONLY
        1. This process becomes the replicator, and compares what has changed since the last validation, until little is left.
        2. HOLD, with a deadline: writes wait. Every live instance says that it has none in flight.
        3. MongoDB is fenced: what has not acknowledged, or never asked us, is refused. Everything up to the fence is applied.
        4. What has changed since the last look is compared exactly; no client but docferry has written behind the fence.
        5. Where reverse replication begins is noted, and DynamoDB leads.
        The marker in MongoDB says `none` from before the fence on, and `dynamodb` behind the mode.

If any of that fails, or the deadline comes, the mode goes back, and the fence is lifted behind it. A process that dies in the
middle leaves that to `flows.cutover.hold_watch`: the process that watches beside it, and the next one that replicates, put
back what is past its deadline.

The state in the ledger is HOLD, or where it was, or where it is going; reads never stop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from bson.timestamp import Timestamp

from docferry.core.compare.diff import Difference
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.versions import snapshot_version
from docferry.errors import (
    HoldFailed,
    InvariantBroken,
    PreflightFailed,
    Problem,
)
from docferry.flows.cutover.hold import (
    ROOM_S,
    Hold,
    SwitchReport,
    end_switch,
    raise_if_ended,
    tables_of,
    take_over,
    wait_until_lag_below,
)
from docferry.flows.cutover.phases import STOP
from docferry.flows.cutover.refusals import Asked
from docferry.flows.fence.fence import fence
from docferry.flows.fence.marker import mark_leader, mark_neither
from docferry.flows.fence.quiet import require_quiet
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread, to_its_end
from docferry.flows.ledger.modes import (
    change_mode,
    live_instances,
    request_replication_yield,
)
from docferry.flows.ledger.reports import latest_report
from docferry.flows.ledger.rooms.watch import Old, end_watch
from docferry.flows.ledger.writers import open_writers, unfinished_loads
from docferry.flows.preflight.readiness import LOOK_S
from docferry.flows.preflight.thresholds import HOLD_LAG_S
from docferry.flows.replicate.follower import replicate
from docferry.flows.replicate.report import Until
from docferry.flows.reverse.follower import latest_of, record_stream_start
from docferry.flows.validate.changed import ChangeWatch, compare_changed
from docferry.flows.watch.in_mongodb import open_mongodb_watch
from docferry.ports.flows import (
    Record,
    Target,
)

FEW = 500
"""Changed documents that are left to be compared while writes wait."""
LOOKS = 20


async def switch_to_dynamodb(
    job: Job, target: Target, waived: Sequence[str] = (), look_s: float = LOOK_S
) -> SwitchReport:
    """DynamoDB leads from now on; MongoDB is fenced and follows. `waived`: LATE_LIFT, if a person knows that no lift will come;
    WATCH and STRAYS (flows/watch/ready). `look_s`: how long MongoDB's connections are looked at first.

    Raises: PreflightFailed or MoveRefused, before anything was touched; HoldFailed, if it could not be finished in time, with
            the reason: everything is as it was. Whatever it raises after HOLD, it has gone back, or says that it could not.
    """
    since = await in_thread(require_ready, job, waived, look_s, stop=job.stop)
    until = Until()
    await asyncio.to_thread(request_replication_yield, job.ledger, job.identity.name, ROOM_S)
    watching: ChangeWatch | None = None
    following = asyncio.create_task(
        take_over(job, "replicator", lambda: replicate(job, target, until=until, leading=True))
    )
    try:
        watching = await in_thread(ChangeWatch, job, since, stop=job.stop)
        await wait_until_lag_below(job, "DynamoDB", "replication", HOLD_LAG_S, lambda: until.lag_s, following)
        await _compare_until_few(job, target, watching, following)
        latest = await asyncio.to_thread(latest_of, job.streams, tables_of(job))
        return await _HoldMongoDB(job, target, following, watching, until, latest, waived).run()
    finally:
        following.cancel()
        await end_switch(job, following, watching)


# --- before writes wait ----------------------------------------------------------------------------------------------


def require_ready(job: Job, waived: Sequence[str] = (), look_s: float = LOOK_S) -> Timestamp:
    """The time up to which all is known to be equal.

    Raises: PreflightFailed with everything that keeps DynamoDB from leading; MoveRefused if the mode does.
    """
    STOP.require(Asked(job=job, waived=waived, look_s=look_s))
    report = latest_report(job.ledger)
    if report is None or report.equal_up_to is None:
        raise InvariantBroken("the report that was just looked at is not there any more")
    return report.equal_up_to


async def _compare_until_few(job: Job, target: Target, watching: ChangeWatch, following: asyncio.Task[None]) -> None:
    """Compare what has changed since the last look, look after look, until what is left is compared in no time."""
    for look in range(LOOKS):
        raise_if_ended(following)
        now = await in_thread(job.source.cluster_time, stop=job.stop)
        await watching.read_until(now)
        if watching.changed.documents <= FEW:
            return
        changed = watching.changed
        watching.start_over(now)
        job.progress.say(f"look {look + 1}: comparing {changed.documents:,} documents that have changed meanwhile")
        left = await compare_changed(job, target, changed, now)
        for collection, ids in left.ids.items():
            watching.changed.ids.setdefault(collection, {}).update(ids)
        for table, keys in left.keys.items():
            watching.changed.keys.setdefault(table, {}).update(keys)
    what = f"{watching.changed.documents:,} documents change between two looks"
    raise PreflightFailed(
        "DynamoDB as the leader", [Problem(where="traffic", what=what, suggestion="switch when there is less of it")]
    )


# --- while writes wait -----------------------------------------------------------------------------------------------


class _HoldMongoDB(Hold):
    """To DynamoDB."""

    ahead, leader = Mode.DYNAMODB_ONLY, "DynamoDB"

    def __init__(
        self,
        job: Job,
        target: Target,
        following: asyncio.Task[None],
        watching: ChangeWatch,
        until: Until,
        latest: Mapping[str, Mapping[str, str]],
        waived: Sequence[str] = (),
    ) -> None:
        """`latest`: where the streams' shards were shortly before, from which the way back follows them."""
        super().__init__(job, target, following)
        self.watching, self.until, self.latest = watching, until, latest
        self.why = "DynamoDB leads" + (f"; waived: {', '.join(waived)}" if waived else "")

    async def until_equal(self, held: ModeState) -> tuple[int, int]:
        job = self.job
        self.require_time(held)
        # To its end: going back lifts the fence, which cannot be done while it is still being raised.
        await to_its_end(mark_neither, job, self.record)
        fenced = await to_its_end(fence, job, max(1.0, self.acks_until - time.monotonic()))
        self.mark("fenced")
        self.until.time = fenced.time
        await asyncio.gather(self.following, self.watching.read_until(fenced.time))
        self.mark("drained")
        await asyncio.to_thread(require_quiet, job, fenced.time, fenced.plan)
        changed = self.watching.changed
        at = await in_thread(job.source.cluster_time, stop=job.stop)
        compared = await compare_changed(job, self.target, changed, at)
        if compared.differences:
            raise HoldFailed(_different(compared.differences), self.steps)
        self.mark("compared")
        await self.require_acknowledged(held, 0.0)
        await asyncio.to_thread(self._require_nobody_else)
        return len(await asyncio.to_thread(live_instances, job.ledger, job.identity)), changed.documents

    def _require_nobody_else(self) -> None:
        """A load or a repair may have begun since it was asked before the hold; what begins from now on sees the hold."""
        job = self.job
        others = [*unfinished_loads(job.ledger, job.migration), *open_writers(job.ledger, job.identity)]
        if others:
            raise HoldFailed(f"another process writes to DynamoDB: {others[0]}", self.steps)

    async def go_ahead(self, record: Record, held: ModeState) -> ModeState:
        job = self.job
        assert self.until.time is not None
        await asyncio.to_thread(record_stream_start, job.ledger, job.streams, tables_of(job), self.latest)
        after = held.go_ahead(snapshot_version(self.until.time), journal=job.migration.cutover.journal)
        await asyncio.to_thread(open_mongodb_watch, job, self.until.time, after.floor)
        self.require_time(held)
        await asyncio.to_thread(change_mode, job.ledger, record, after, job.identity, self.why)
        self.mark("switched")
        await asyncio.to_thread(mark_leader, job)
        await asyncio.to_thread(end_watch, job.ledger, Old.DYNAMODB, "DynamoDB leads again; the watch was waived")
        return after


def _different(found: Sequence[Difference]) -> str:
    one = found[0]
    return (
        f"{len(found)} difference(s) were found, the first in {one.collection} {one.id} {one.path} ({one.kind.value})"
    )
