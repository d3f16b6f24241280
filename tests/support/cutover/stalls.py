"""Processes that change who leads, each of which stands still before a request of the test's choosing while others go on.

The flows are the real ones, on fakes: between two requests of any of them only the test decides who goes on. A lease on the
fence protects nobody here: whoever stands still has lost it. Before each request it is looked at what clients that are cut off
from the ledger could have had acknowledged, whatever they stood still between.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bson
from docferry.core.cutover import marker as markers
from docferry.core.cutover.marker import Leads
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.mapping.raw import id_bytes
from docferry.errors import HoldFailed, MigrationError
from docferry.flows.cutover import to_dynamodb, to_mongodb
from docferry.flows.cutover.hold import Hold, back_out
from docferry.flows.cutover.rollback import _change
from docferry.flows.fence.fence import fence
from docferry.flows.fence.marker import mark_leader
from docferry.flows.fence.watch import misfit, put_right
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import change_mode, mode_record, read_mode
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.rooms.fence import FENCE
from docferry.flows.ledger.times import now_ms
from docferry.flows.replicate.report import Until
from docferry.flows.validate.changed import ChangedDocuments
from docferry.ports.flows import Identity, Record
from docferry.testing.fakes import FakeFence, FakeLeader, FakeLedger, FakeSink, FakeSource, FakeStreams, FakeTarget
from docferry.testing.jobs import make_job

from support.backfill.rig import Quiet
from support.cutover.jobs import MIGRATION

READS = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=9, floor=9)
WAIT_S = 20.0
Flow = Callable[["Process"], object]


class Unleased(FakeLedger):
    """A lease on the fence has run out as soon as somebody else looks."""

    def read(self, section: str, key: str) -> Record | None:
        found = super().read(section, key)
        if found is None or (section, key) != FENCE:
            return found
        return Record(section, key, found.revision, {**found.body, "until": 0})


class World:
    """Both databases, the ledger, and what could go wrong with them, in `bad`."""

    def __init__(self, *, gated: bool = True) -> None:
        self.ledger, self.mongo, self.leader = Unleased(), FakeFence(), FakeLeader()
        self.source, self.target = FakeSource({"users": ()}), FakeTarget()
        self.target.create_table("Tab")
        self.streams = FakeStreams(self.target)
        self.streams.switch_on("Tab")
        self.sink = FakeSink({}, self.leader if gated else None)
        self.bad: set[str] = set()
        self.time = self.fenced_at = self.tokens = 0
        self.version = 1  # of a document in DynamoDB
        self.reigns: list[list[int]] = []
        self.watched = True
        self._known: set[int] = set()
        self._written: dict[int, frozenset[int]] = {}
        self._acknowledged: set[int] = set()
        position = position_body(self.source.stream_position(self.source.cluster_time()))
        self.ledger.write(*REPLICATION, position, expect=None)
        loaded = {"state": "complete", "mode": "conditional", "owner": "", "until": 0}
        self.ledger.write("backfill", "users", loaded, expect=None)

    def become(self, mode: ModeState, *, fenced: bool) -> None:
        """The state in which a run begins."""
        record = self.ledger.read(*MODE)
        process = Process(self, "before")
        if fenced:
            self.ledger.write(*MODE, READS.to_body(), expect=record)
            fence(process.job, 5.0)
            record = self.ledger.read(*MODE)
        self.ledger.write(*MODE, mode.to_body(), expect=record)
        mark_leader(process.job)
        if mode.mode.dynamodb_leads:
            self.reigns.append([self.time, 1 << 60])

    def tick(self) -> None:
        """Somebody is about to send a request: what could clients do that are cut off?"""
        self.time += 1
        found = self.leader.stored
        if found is not None and found.leader is Leads.MONGODB:
            self._known.add(found.revision)
        if not self.mongo.blocked:
            self._written[self.time] = frozenset(self._known)
        for at, known in self._written.items():
            if at not in self._acknowledged and any(markers.confirms(found, one) for one in known):
                self._acknowledged.add(at)

    def stored(self) -> int | None:
        data = self.sink.current("users", id_bytes(1))
        return None if data is None else int(bson.decode(data)["v"])

    def judge(self) -> set[str]:
        """What is wrong in the end, once a watcher has looked that nobody disturbs."""
        last = Process(self, "watcher")
        if self.watched:
            for _ in range(2):
                if read_mode(self.ledger).mode is Mode.HOLD:
                    back_out(last.job, "overdue")
                put_right(last.job)
        for _ in range(2):
            self.tick()
        if found := misfit(last.job):
            self.bad.add(f"unfit: {found}")
        if any(begun < at < over for at in self._acknowledged for begun, over in self.reigns):
            self.bad.add("lost: MongoDB acknowledged a write while DynamoDB led")
        if not read_mode(self.ledger).mode.dynamodb_leads and self.stored() not in (None, self.version):
            self.bad.add(f"clobbered: MongoDB leads with version {self.stored()}, and DynamoDB had {self.version}")
        return self.bad


class _Stepping:
    """A port each of whose calls waits for the test."""

    def __init__(self, port: Any, process: Process) -> None:
        self._port, self._process = port, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._process.step()
            result = found(*arguments, **named)
            return _Stepping(result, self._process) if name == "through" else result

        return call


class Killed(BaseException):
    """The process sends no request any more."""


class Process:
    """One process. `stops_at`: the number of the request before which it stands still, `dies_after`: so many requests later it
    dies (0: never). `error` is how its flow ended."""

    def __init__(self, world: World, name: str, stops_at: int = 0, dies_after: int = 0) -> None:
        self.world, self.name, self.stops_at, self.dies_after = world, name, stops_at, dies_after
        self.steps = 0
        self.error: BaseException | None = None
        self._still, self._goes_on = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        stepping: Callable[[Any], Any] = lambda port: _Stepping(port, self)  # noqa: E731
        self.job: Job = make_job(
            migration=MIGRATION,
            source=world.source,
            fence=stepping(world.mongo),
            leader=stepping(world.leader),
            sink=stepping(world.sink),
            streams=world.streams,
            ledger=stepping(world.ledger),
            identity=Identity(name=name, mark=name, ended=lambda mark: False),
            progress=Quiet(),
            stop=threading.Event(),
        )

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.stops_at:
            self._still.set()
            assert self._goes_on.wait(WAIT_S)
        if self.dies_after and self.steps >= self.stops_at + self.dies_after:
            raise Killed
        self.world.tick()

    def begin(self, *flows: Flow) -> None:
        """Run these flows, until they have ended or the process stands still."""

        def run() -> None:
            try:
                for flow in flows:
                    flow(self)
            except (MigrationError, Killed) as error:
                self.error = error
            except BaseException as error:
                self.error = error
                self.world.bad.add(f"a bug: {type(error).__name__}: {error}")
            finally:
                self._still.set()

        self._thread = threading.Thread(target=run, name=self.name, daemon=True)
        self._thread.start()
        assert self._still.wait(WAIT_S)

    def end(self) -> None:
        """Go on to the end."""
        self._goes_on.set()
        assert self._thread is not None
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


# --- the flows -------------------------------------------------------------------------------------------------------


class _Nothing:
    """No document has changed."""

    def __init__(self, source: FakeSource) -> None:
        now = source.cluster_time()
        self.changed = ChangedDocuments(now, source.stream_position(now))

    async def read_until(self, time: Any) -> None: ...

    async def close(self) -> None: ...


@contextmanager
def _noting(hold: Any, world: World) -> Iterator[None]:
    marked = hold.mark

    def mark(step: str) -> None:
        if step == "fenced":
            world.fenced_at = world.time
        if step == "switched" and hold.ahead is Mode.DYNAMODB_ONLY:
            world.reigns.append([world.fenced_at, 1 << 60])
        elif step == "switched":
            world.reigns[-1][1] = world.time
        marked(step)

    hold.mark = mark
    yield


def there(process: Process) -> None:
    """What an operator does behind the last look before the hold."""

    async def work() -> None:
        following: Any = asyncio.ensure_future(asyncio.sleep(0))
        nothing: Any = _Nothing(process.world.source)
        hold = to_dynamodb._HoldMongoDB(process.job, process.world.target, following, nothing, Until(), {})
        with _noting(hold, process.world):
            await hold.run()

    asyncio.run(work())


class _Back(to_mongodb._HoldDynamoDB):
    """The proof that MongoDB holds what DynamoDB does is another test's: here it is one document, through a gate."""

    world: World

    def __init__(self, process: Process, following: Any) -> None:
        Hold.__init__(self, process.job, process.world.target, following)
        self.world, self.why = process.world, "back"

    async def until_equal(self, held: ModeState) -> tuple[int, int]:
        await asyncio.to_thread(reverse_put, self.job, self.world)
        return 0, 0


def back(process: Process) -> None:
    async def work() -> None:
        following: Any = asyncio.ensure_future(asyncio.sleep(0))
        hold = _Back(process, following)
        with _noting(hold, process.world):
            await hold.run()

    asyncio.run(work())


def reverse_put(job: Job, world: World) -> None:
    """Reverse replication of one document, under a lease of its own."""
    world.tokens = token = world.tokens + 1
    if not job.leader.raise_token(token):
        raise HoldFailed("another replicates in reverse")
    found = world.version
    job.sink.through(token).put("users", bson.encode({"_id": 1, "v": found}))


def replicates_back(process: Process) -> None:
    reverse_put(process.job, process.world)


def writes(process: Process) -> None:
    """The application, while DynamoDB leads."""
    process.world.version += read_mode(process.world.ledger).mode is Mode.DYNAMODB_ONLY


def lifts(process: Process) -> None:
    """`docferry rollback` where MongoDB led all the while: a fence that somebody left is lifted."""
    before = read_mode(process.job.ledger)
    if not before.mode.dynamodb_leads and before.mode is not Mode.HOLD:
        _change(process.job, before, before.mode)


def backs_out(process: Process) -> None:
    back_out(process.job, "overdue")


def watches(process: Process) -> None:
    put_right(process.job)


def flips(process: Process) -> None:
    """To where the way there begins."""
    for to, percent in ((Mode.DUAL_WRITE, 100), (Mode.DYNAMODB_READS, 100)):
        record = mode_record(process.job.ledger)
        after = read_mode(process.job.ledger).move(to, percent)
        change_mode(process.job.ledger, record, after, process.job.identity, "a flip")


def held() -> ModeState:
    """A hold on the way there, whose process is gone."""
    return READS.hold(Mode.DYNAMODB_ONLY, now_ms() + 60_000)
