"""Changing who leads: one flow in one process, in seconds, or everything is as it was (DESIGN 6).

There:  DYNAMODB_READS (100 %) -> HOLD -> DYNAMODB_ONLY
        1. This process becomes the replicator, and compares what has changed since the last validation, until little is left.
        2. HOLD, with a deadline: writes wait. Every live instance says that it has none in flight.
        3. MongoDB is fenced: what has not acknowledged, or never asked us, is refused. Everything up to the fence is applied.
        4. What has changed since the last look is compared exactly; nobody but docferry has written behind the fence.
        5. Where reverse replication begins is noted, and DynamoDB leads.

If any of that fails, or the deadline comes, the fence is lifted and the mode goes back. A process that dies in the middle
leaves that to `flows.guard`: who watches beside it, and whoever replicates next, put back what is past its deadline.

The state in the ledger is HOLD, or where it was, or where it is going; reads never stop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from bson.timestamp import Timestamp

from docferry.config import Migration
from docferry.core.compare.diff import Difference
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.modes import Mode, ModeState, state_of
from docferry.core.versions import snapshot_version
from docferry.errors import (
    HoldFailed,
    InvariantBroken,
    LeaseHeld,
    MigrationError,
    MoveRefused,
    PreflightFailed,
    Problem,
    Stopped,
)
from docferry.flows.cutover.fence import Fencing, fence, lift, require_quiet
from docferry.flows.cutover.flip import Flip
from docferry.flows.kernel.threads import in_thread, to_its_end
from docferry.flows.ledger import state
from docferry.flows.ledger.approvals import STOP_MONGO_WRITES, no_evidence, require_approval
from docferry.flows.ledger.mapping_fingerprint import changed_mappings
from docferry.flows.ledger.modes import (
    change_mode,
    live_instances,
    mode_record,
    read_mode,
    request_replication_yield,
    wait_for_acknowledgements,
)
from docferry.flows.ledger.writers import open_loads, open_writers, unfinished_loads
from docferry.flows.preflight.mongodb_clients import ClientWatch
from docferry.flows.preflight.readiness import SERVES, foreign_writers
from docferry.flows.replicate.follower import Replication, Until, replicate
from docferry.flows.reporting.health import Health, lacking_health
from docferry.flows.reverse.follower import latest_of, record_stream_start
from docferry.flows.validate.changed import ChangeWatch, compare_changed
from docferry.flows.validate.common import Validation
from docferry.flows.validate.first_pass import latest_report
from docferry.ports.flows import (
    Clients,
    Estate,
    Fence,
    Identity,
    Ledger,
    Progress,
    Record,
    Source,
    StopSignal,
    Streams,
    Target,
)

ROOM_S = 120.0
"""How long others make room for; asked again when writes begin to wait."""
TAKE_OVER_S = 60.0
NEAR_S = 2.0
"""How far replication may lag when writes begin to wait."""
CATCH_UP_S = 300.0
FEW = 500
"""Changed documents that are left to be compared while writes wait."""
LOOKS = 20
POLL_S = 0.05
REFENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutover:
    """Everything a change of leader needs."""

    migration: Migration
    source: Source
    fence: Fence
    clients: Clients
    streams: Streams
    estate: Estate
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal

    def fencing(self) -> Fencing:
        return Fencing(
            migration=self.migration, fence=self.fence, ledger=self.ledger, identity=self.identity,
            progress=self.progress, stop=self.stop,
        )  # fmt: skip

    def validation(self) -> Validation:
        return Validation(
            migration=self.migration, source=self.source, ledger=self.ledger, identity=self.identity,
            progress=self.progress, stop=self.stop,
        )  # fmt: skip

    def flip(self) -> Flip:
        return Flip(
            migration=self.migration, source=self.source, estate=self.estate, ledger=self.ledger,
            identity=self.identity, progress=self.progress, stop=self.stop,
        )  # fmt: skip

    def health(self) -> Health:
        return self.flip().health()

    def watching(self) -> ClientWatch:
        return ClientWatch(migration=self.migration, clients=self.clients, progress=self.progress, stop=self.stop)

    def replication(self) -> Replication:
        return Replication(
            migration=self.migration, source=self.source, ledger=self.ledger, identity=self.identity,
            progress=self.progress, stop=self.stop,
        )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class SwitchReport:
    """A change of leader. `held_s` is how long writes waited at most, `steps` how long each part of that took, in seconds."""

    before: str
    after: str
    epoch: int
    instances: int
    compared: int
    held_s: float
    steps: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "before": self.before,
            "after": self.after,
            "epoch": self.epoch,
            "instances": self.instances,
            "compared": self.compared,
            "held_s": round(self.held_s, 3),
            "steps": {name: round(seconds, 3) for name, seconds in self.steps.items()},
        }


async def switch_to_dynamodb(job: Cutover, target: Target) -> SwitchReport:
    """DynamoDB leads from now on; MongoDB is fenced and follows.

    Raises: PreflightFailed or MoveRefused, before anything was touched; HoldFailed, if it could not be finished in time, with
            the reason: everything is as it was. Whatever it raises after HOLD, it has gone back, or says that it could not.
    """
    since = await in_thread(require_ready, job, stop=job.stop)
    until = Until()
    request_replication_yield(job.ledger, job.identity.name, ROOM_S)
    watching: ChangeWatch | None = None
    following = asyncio.create_task(
        take_over(job, "replicator", lambda: replicate(job.replication(), target, until=until, leading=True))
    )
    try:
        watching = await in_thread(ChangeWatch, job.validation(), since, stop=job.stop)
        await wait_until_lag_below(job, "DynamoDB", "replication", NEAR_S, lambda: until.lag_s, following)
        await _compare_until_few(job, target, watching, following)
        latest = await asyncio.to_thread(latest_of, job.streams, tables_of(job))
        return await _HoldMongoDB(job, target, following, watching, until, latest).run()
    finally:
        if not following.done():
            following.cancel()
        with suppress(BaseException):
            await following
        if watching is not None:
            await watching.close()
        request_replication_yield(job.ledger, job.identity.name, 0)


# --- before writes wait ----------------------------------------------------------------------------------------------


def require_ready(job: Cutover) -> Timestamp:
    """The time up to which all is known to be equal.

    Raises: PreflightFailed with everything that keeps DynamoDB from leading; MoveRefused if the mode does.
    """
    read_mode(job.ledger).hold(Mode.DYNAMODB_ONLY, 0)
    report = latest_report(job.ledger)
    problems = list(_not_ready(job, report))
    for one in [*open_loads(job.ledger, job.migration, job.identity), *open_writers(job.ledger, job.identity)]:
        advice = "wait for its end: it would write what MongoDB holds over what the application writes"
        problems.append(Problem(where="writers", what=one, suggestion=advice))
    problems += [*lacking_health(job.health(), SERVES), *foreign_writers(job.watching())]
    if problems or report is None:
        raise PreflightFailed(f"{job.migration.name}: DynamoDB as the leader", problems)
    require_approval(job.ledger, STOP_MONGO_WRITES)
    return state.decode_time(report["equal_up_to"])


def _not_ready(job: Cutover, report: Mapping[str, Any] | None) -> Sequence[Problem]:
    problems: list[Problem] = []
    missing = no_evidence(report, read_mode(job.ledger))
    if missing is None and report is not None and not report["equal_up_to"]:
        missing = Problem(where="full validation", what="does not say up to when all is equal", suggestion="again")
    if missing is not None:
        problems.append(missing)
    problems += [*changed_mappings(job.migration, job.ledger), *_unenforced(job)]
    for one in job.migration.collections:
        letters = state.list_letters(job.ledger, one.name)
        if letters:
            what = f"has {len(letters)} open dead letter(s): these documents are MongoDB's alone"
            problems.append(Problem(where=f"collections.{one.name}", what=what, suggestion="docferry dead-letters"))
    return problems


def _unenforced(job: Cutover) -> Iterator[Problem]:
    """Unique indexes that DynamoDB's keys do not stand for: two documents could be made alike once it leads."""
    waived = set(job.migration.cutover.waived_unique)
    for mapping in job.migration.mappings.values():
        key = mapping.root.pk.fields | mapping.root.sk.fields
        facts = job.source.collection_facts(mapping.collection)
        for unique in (*facts.unique, *facts.partly_unique):
            name = f"{mapping.collection}.{','.join(sorted(unique))}"
            if unique != {"_id"} and not key <= unique and name not in waived:
                what = "is unique in MongoDB, and nothing keeps it so once DynamoDB leads"
                advice = f"see to it in the application, and waive it: cutover.waived_unique: [{name}]"
                yield Problem(where=name, what=what, suggestion=advice)


async def take_over(job: Cutover, what: str, follow: Callable[[], Awaitable[Any]]) -> None:
    """Become the one who replicates (`what` says how), as soon as the one of before has made room."""
    began = time.monotonic()
    while True:
        try:
            await follow()
            return
        except LeaseHeld as error:
            if time.monotonic() - began > TAKE_OVER_S:
                raise
            job.progress.say(f"waiting for the {what} of before to end: {error}")
            await asyncio.sleep(0.5)


def raise_if_ended(following: asyncio.Task[None]) -> None:
    """Raises what ended replication; InvariantBroken if nothing did."""
    if following.done():
        following.result()
        raise InvariantBroken("replication ended before it was told to")


async def wait_until_lag_below(
    job: Cutover,
    leader: str,
    what: str,
    near_s: float,
    lag_s: Callable[[], float | None],
    following: asyncio.Task[None],
) -> None:
    """Until replication (`what` names it) is close behind. Raises PreflightFailed if it does not get there."""
    began = time.monotonic()
    while (lag := lag_s()) is None or lag > near_s:
        raise_if_ended(following)
        raise_if_stopped(job)
        if time.monotonic() - began > CATCH_UP_S:
            found = f"lags {lag} s" if lag is not None else "could not tell how far it is behind"
            problem = Problem(where=what, what=found, suggestion="wait until it has caught up")
            raise PreflightFailed(f"{leader} as the leader", [problem])
        await asyncio.sleep(POLL_S)


async def _compare_until_few(
    job: Cutover, target: Target, watching: ChangeWatch, following: asyncio.Task[None]
) -> None:
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
        left = await compare_changed(job.validation(), target, changed, now)
        for collection, ids in left.ids.items():
            watching.changed.ids.setdefault(collection, {}).update(ids)
        for table, keys in left.keys.items():
            watching.changed.keys.setdefault(table, {}).update(keys)
    what = f"{watching.changed.documents:,} documents change between two looks"
    raise PreflightFailed(
        "DynamoDB as the leader", [Problem(where="traffic", what=what, suggestion="switch when there is less of it")]
    )


def tables_of(job: Cutover) -> list[str]:
    return sorted({mapping.table for mapping in job.migration.mappings.values()})


def raise_if_stopped(job: Cutover) -> None:
    if job.stop.is_set():
        raise Stopped("asked to stop before the leader was changed; nothing has changed")


# --- while writes wait -----------------------------------------------------------------------------------------------


class Hold:
    """From HOLD to the new leader, or back. `until_equal` and `go_ahead` are what each direction does meanwhile."""

    ahead: Mode
    leader: str

    def __init__(self, job: Cutover, target: Target, following: asyncio.Task[None]) -> None:
        self.job, self.target, self.following = job, target, following
        self.steps: dict[str, float] = {}
        self.marked = self.acks_until = 0.0
        """Until when instances may acknowledge (monotonic seconds): the rest of the hold is for what comes behind."""

    async def run(self) -> SwitchReport:
        """Raises HoldFailed, with the reason; everything is as it was then, or the error says that it is not."""
        job, hold_s = self.job, self.job.migration.cutover.hold_s
        before = await in_thread(mode_record, job.ledger)
        held = state_of(before.body).hold(self.ahead, state.now_ms() + int(hold_s * 1000))
        await asyncio.to_thread(request_replication_yield, job.ledger, job.identity.name, ROOM_S)
        began = self.marked = time.monotonic()
        self.acks_until = began + hold_s - job.migration.cutover.drain_s
        record = await asyncio.to_thread(
            change_mode, job.ledger, before, held, job.identity, f"{self.leader} is to lead"
        )
        try:
            async with asyncio.timeout(hold_s):
                await self._acknowledged(held)
                instances, compared = await self.until_equal(held)
            after = await self.go_ahead(record, held)
        except BaseException as error:
            going_back = asyncio.to_thread(back_out_after, job, error, self.steps, self.ahead)
            raise await asyncio.shield(going_back) from error
        held_s = time.monotonic() - began
        job.progress.say(f"{self.leader} leads; writes waited for {held_s:.2f} s at most")
        return SwitchReport(
            before=str(state_of(before.body)), after=str(after), epoch=after.epoch, instances=instances, compared=compared,
            held_s=held_s, steps=self.steps,
        )  # fmt: skip

    async def until_equal(self, held: ModeState) -> tuple[int, int]:
        """(live instances, how much was compared), once both databases are equal and nothing moves. Raises HoldFailed."""
        raise NotImplementedError

    async def go_ahead(self, record: Record, held: ModeState) -> ModeState:
        """Make the mode what it was to become. Raises HoldFailed past the deadline."""
        raise NotImplementedError

    def mark(self, step: str) -> None:
        """Note how long a step took."""
        now = time.monotonic()
        self.steps[step] = now - self.marked
        self.marked = now

    def require_time(self, held: ModeState) -> None:
        if state.now_ms() >= held.deadline_ms:
            raise HoldFailed("the deadline has passed", self.steps)

    async def require_acknowledged(self, held: ModeState, until: float) -> None:
        """Every live instance says that it has no write in flight, by monotonic time `until`."""
        job = self.job
        silent = await asyncio.to_thread(
            wait_for_acknowledgements, job.ledger, job.identity, held.epoch, until, job.stop
        )
        raise_if_stopped(job)
        if silent:
            raise HoldFailed(describe_silent(silent), self.steps)

    async def _acknowledged(self, held: ModeState) -> None:
        await self.require_acknowledged(held, self.acks_until)
        self.mark("acknowledged")


class _HoldMongoDB(Hold):
    """To DynamoDB."""

    ahead, leader = Mode.DYNAMODB_ONLY, "DynamoDB"

    def __init__(
        self,
        job: Cutover,
        target: Target,
        following: asyncio.Task[None],
        watching: ChangeWatch,
        until: Until,
        latest: Mapping[str, Mapping[str, str]],
    ) -> None:
        """`latest`: where the streams' shards were shortly before, from which the way back follows them."""
        super().__init__(job, target, following)
        self.watching, self.until, self.latest = watching, until, latest

    async def until_equal(self, held: ModeState) -> tuple[int, int]:
        job = self.job
        self.require_time(held)
        # To its end: whoever goes back lifts the fence, and cannot while it is still being raised.
        fenced = await to_its_end(fence, job.fencing(), max(1.0, self.acks_until - time.monotonic()))
        self.mark("fenced")
        self.until.time = fenced.time
        await asyncio.gather(self.following, self.watching.read_until(fenced.time))
        self.mark("drained")
        await asyncio.to_thread(require_quiet, job.fencing(), fenced.time)
        changed = self.watching.changed
        at = await in_thread(job.source.cluster_time, stop=job.stop)
        compared = await compare_changed(job.validation(), self.target, changed, at)
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
            raise HoldFailed(f"somebody else writes to DynamoDB: {others[0]}", self.steps)

    async def go_ahead(self, record: Record, held: ModeState) -> ModeState:
        job = self.job
        assert self.until.time is not None
        await asyncio.to_thread(record_stream_start, job.ledger, job.streams, tables_of(job), self.latest)
        after = held.go_ahead(snapshot_version(self.until.time))
        self.require_time(held)
        await asyncio.to_thread(change_mode, job.ledger, record, after, job.identity, "DynamoDB leads")
        self.mark("switched")
        return after


def describe_silent(instances: Sequence[Instance]) -> str:
    names = ", ".join(f"{one.name} ({one.id[:8]})" for one in instances[:5])
    return f"{len(instances)} instance(s) have not acknowledged: {names}"


def _different(found: Sequence[Difference]) -> str:
    one = found[0]
    return (
        f"{len(found)} difference(s) were found, the first in {one.collection} {one.id} {one.path} ({one.kind.value})"
    )


# --- going back ------------------------------------------------------------------------------------------------------


def back_out(job: Cutover, why: str) -> ModeState:
    """From HOLD to where it was: the fence is lifted first if MongoDB led, and stands if DynamoDB does. Idempotent.

    Raises: FenceFailed, StoreError, RetryExhausted: then HOLD stays, and whoever calls this next goes on.
    """
    while True:
        record = mode_record(job.ledger)
        held = state_of(record.body)
        if held.mode is not Mode.HOLD:
            # Others have put it back while this process was frozen: what it did when it woke, it did behind their backs.
            if held.mode.dynamodb_leads:
                fence(job.fencing(), REFENCE_S)
            else:
                lift(job.fencing())
            return held
        if held.behind is not None and not held.behind.dynamodb_leads:
            lift(job.fencing())
        else:
            fence(job.fencing(), REFENCE_S)  # it stands, unless the way back had lifted it already
        back = held.go_back()
        try:
            change_mode(job.ledger, record, back, job.identity, why)
        except MoveRefused:
            continue
        job.progress.say(f"the mode is {back} again: {why}")
        return back


def back_out_after(job: Cutover, error: BaseException, steps: Mapping[str, float], ahead: Mode) -> BaseException:
    """Go back, and say so: the error to raise. If going back fails, too, whoever watches the hold goes on.

    Whoever was asked to stop goes back all the same, and then stops.
    """
    job = replace(job, stop=threading.Event())
    why = f"{type(error).__name__}: {error}" if isinstance(error, MigrationError) else type(error).__name__
    why = error.why if isinstance(error, HoldFailed) else why
    if isinstance(error, TimeoutError):
        why = f"{job.migration.cutover.hold_s:.0f} s have passed"
    try:
        now = back_out(job, why[:500])
    except MigrationError as lost:
        return HoldFailed(why, steps, stuck=str(lost))
    if now.mode is ahead:  # the change was made, and what came behind it failed
        return HoldFailed(why, steps, went=str(now))
    return HoldFailed(why, steps) if isinstance(error, MigrationError | TimeoutError) else error
