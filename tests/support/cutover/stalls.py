"""Processes that change who leads, each of which stands still before a request of the test's choosing while others go on.

The flows are the real ones, on fakes: between two requests of any of them only the test decides who goes on. A lease on the
fence protects nobody here: whoever stands still has lost it. Before each request it is looked at what clients that are cut off
from the ledger could have had acknowledged, whatever they stood still between.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import bson
from docferry.core.cutover import marker as markers
from docferry.core.cutover.instances import INSTANCES
from docferry.core.cutover.marker import Leads
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.mapping.raw import id_bytes
from docferry.errors import FenceBroken, FenceFailed, HoldFailed, MigrationError
from docferry.flows.cutover import to_dynamodb, to_mongodb
from docferry.flows.cutover.hold import Hold, back_out
from docferry.flows.cutover.rollback import _change
from docferry.flows.fence.fence import fence
from docferry.flows.fence.marker import mark_leader
from docferry.flows.fence.watch import misfit, put_right
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import change_mode, mode_in, mode_record, read_mode
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.rooms.fence import FENCE
from docferry.flows.ledger.times import now_ms
from docferry.flows.replicate.report import Until
from docferry.flows.validate.changed import ChangedDocuments
from docferry.ports.flows import Identity, Record
from docferry.testing.fakes import FakeFence, FakeLeader, FakeLedger, FakeSink, FakeSource, FakeStreams, FakeTarget
from docferry.testing.jobs import make_job

from support.backfill.rig import Quiet
from support.cutover.clients import Connected, Strangers, as_others_see
from support.cutover.jobs import MIGRATION

READS = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=9, floor=9)
WAIT_S = 60.0
CLIENT_STEPS = 3
"""What a client does between two requests of the others."""
Flow = Callable[["Process"], object]


class Unleased(FakeLedger):
    """A lease on the fence has run out as soon as another process looks; that of an instance in `over`, as it was then, too."""

    def __init__(self) -> None:
        super().__init__()
        self.over: dict[str, int] = {}

    def read(self, section: str, key: str) -> Record | None:
        found = super().read(section, key)
        if found is None or (section, key) != FENCE:
            return found
        return Record(section, key, found.revision, {**found.body, "until": 0})

    def list(self, section: str, prefix: str = "") -> list[Record]:
        found = super().list(section, prefix)
        return [as_others_see(one, self.over) for one in found] if section == INSTANCES else found


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
        self.over = self.ledger.over
        self.connected: list[Connected] = []
        self.strangers: Strangers | None = None
        self.late: list[tuple[int, Callable[[], object]]] = []
        self.told: list[str] = []
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
        """A process is about to send a request: what arrives late, what do clients do, and what could those that are cut off?"""
        self.time += 1
        due = [call for at, call in self.late if at <= self.time]
        self.late = [one for one in self.late if one[0] > self.time]
        for call in due:
            with suppress(MigrationError):
                call()
        for one in self.connected:
            for _ in range(CLIENT_STEPS):
                one.act()
        if self.strangers is not None:
            self.strangers.act(self.mongo, self.time)
        self._cut_off_clients()

    def _cut_off_clients(self) -> None:
        """Of each moment at which MongoDB took a write: could it be acknowledged by now, by whatever its client knew?"""
        found = self.leader.stored
        led = mode_record(self.ledger)
        if not (state := mode_in(led)).mode.dynamodb_leads and state.mode is not Mode.HOLD:
            self._known.add(led.revision)
        if found is not None and found.leader is Leads.MONGODB:
            self._known.add(found.revision)
        if not self.mongo.blocked:
            self._written[self.time] = frozenset(self._known)
        for at, known in self._written.items():
            if at not in self._acknowledged and any(markers.confirms(found, one) for one in known):
                self._acknowledged.add(at)

    def _in_a_reign(self, times: Iterable[int]) -> bool:
        return any(begun < at < over for at in times for begun, over in self.reigns)

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
        self.end_clients()
        self._judge_writes()
        if not read_mode(self.ledger).mode.dynamodb_leads and self.stored() not in (None, self.version):
            self.bad.add(f"clobbered: MongoDB leads with version {self.stored()}, and DynamoDB had {self.version}")
        return self.bad

    def end_clients(self) -> None:
        for one in self.connected:
            one.close()

    def _judge_writes(self) -> None:
        """What MongoDB took while DynamoDB led was acknowledged to no client of the library, and was told of others."""
        if self._in_a_reign(self._acknowledged):
            self.bad.add("lost: MongoDB acknowledged a write while DynamoDB led")
        if self._in_a_reign(at for one in self.connected for at in one.acknowledged):
            self.bad.add("lost: MongoDB acknowledged a write of a connected client while DynamoDB led")
        if self.strangers is not None and self._in_a_reign(self.strangers.wrote) and not self.told:
            self.bad.add("unsaid: a stranger wrote to MongoDB while DynamoDB led, and no process said so")


class _Stepping:
    """A port each of whose calls waits for the test."""

    def __init__(self, port: Any, process: Process) -> None:
        self._port, self._process = port, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if arguments[:1] != ("watch",):  # which says nothing of who leads
                self._process.requests.append(name)
                self._process.step()
                self._process.copy(lambda: found(*arguments, **named))
            result = found(*arguments, **named)
            return _Stepping(result, self._process) if name == "through" else result

        return call


class Killed(BaseException):
    """The process sends no request any more."""


class Telling(Quiet):
    """What must be said to people when a fence was open that was to be shut."""

    def __init__(self, world: World) -> None:
        self._world = world

    def say(self, text: str) -> None:
        if "was down while DynamoDB leads" in text or "was down before it was to be lifted" in text:
            self._world.told.append(text)


class Process:
    """One process. `stops_at`: the number of the request before which it stands still, `dies_after`: so many requests later it
    dies (0: never), `copied`: the number of a request that arrives twice, and how many requests later it does so again.
    `error` is how its flow ended."""

    def __init__(
        self, world: World, name: str, stops_at: int = 0, dies_after: int = 0, copied: tuple[int, int] = (0, 0)
    ) -> None:
        self.world, self.name, self.stops_at, self.dies_after = world, name, stops_at, dies_after
        self.copied = copied
        self.requests: list[str] = []
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
            progress=Telling(world),
            stop=threading.Event(),
        )

    def copy(self, request: Callable[[], object]) -> None:
        """A connection broke behind it, say: the server does it once more, and no process knows."""
        at, later = self.copied
        if self.steps == at:
            self.world.late.append((self.world.time + later, request))

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
                self.world.told += [str(error)] if isinstance(error, FenceFailed | FenceBroken) else []
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
        self.world, self.why, self.by_streams, self.watches = process.world, "back", True, False

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
