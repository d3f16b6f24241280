"""One run: an application writes while DynamoDB leads, its processes stall, freeze and die, and the way back is taken.

The code is docferry's own: the client's writes, lanes and membership, reverse replication, the hold with its seals and proof.
Only servers and time are not real (`servers`, `virtual`).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

from docferry.client.context import ClientContext
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.membership import Membership
from docferry.client.metrics.metered import Metered, NoMetrics
from docferry.client.writes.route import CollectionCalls
from docferry.config import parse_migration
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.settings import CutoverSettings
from docferry.errors import HoldFailed, JournalBroken, MigrationError, PreflightFailed
from docferry.flows.cutover.to_mongodb import change_leader
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.reverse.follower import record_stream_start, reverse
from docferry.flows.watch.in_mongodb import open_mongodb_watch
from docferry.ports.flows import Identity, Journal, Ledger
from docferry.testing.fakes import FakeFence, FakeSource
from docferry.testing.jobs import Quiet, make_job

from support.journals.servers import JOURNAL, MIGRATION, ClientCalls, Server, SlowLedger, SlowSink, SlowTarget
from support.journals.virtual import VirtualLoop, virtual_time

TABLE = "Docs"
FILE = replace(
    parse_migration(b"""
migration: journals
source: {database: journals}
ledger: {table: Ledger}
tables: {Docs: {}}
collections:
  docs:
    item: {entity: DOC, key: {PK: "DOC#{_id}", SK: ROOT}}
"""),
    cutover=CutoverSettings(hold_s=10.0, drain_s=6.0),
)
KEYS = range(8)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1, floor=1, journal=True)
ENDS_S = 1_000.0
"""Virtual seconds after the change of leader: longer than any request can be on its way."""


class NeverEnds(AssertionError):
    """The way back is refused again and again."""


class Died(BaseException):
    """A process that was killed goes no further."""


class Process:
    """One process of the application. Frozen, it does nothing; killed, it never does again."""

    def __init__(self, world: World, mark: str) -> None:
        self.world, self.mark = world, mark
        self.frozen_until, self.alive, self.stalls = 0.0, True, False
        self.membership = Membership(
            lambda: _Of(self, world.ledger),
            lambda: Identity(name="shop", mark=mark, ended=lambda mark: False),
            open_journal=lambda: _Of(self, world.server.journal),
        )
        calls = ClientCalls(world.server, self.pause_s, self.stall_s)
        parts = ClientContext(
            migration=MIGRATION, journal=JOURNAL, mappings=FILE.mappings, patterns=(), mongo=_DOOR, calls=calls, beside=calls,
            membership=self.membership, metrics=Metered(NoMetrics(), self.membership),
        )  # fmt: skip
        self.calls = CollectionCalls(parts, "docs")
        self.tasks: list[asyncio.Task[None]] = []

    def pause_s(self) -> float:
        if not self.alive:
            raise Died
        return self.frozen_until - self.world.loop.now

    def stall_s(self) -> float:
        """Between a signature and its sending; now and then the process is killed there, and the request is still sent."""
        if not self.stalls:
            return 0.0
        self.stalls = False
        return self.fall()

    def fall(self) -> float:
        random, loop = self.world.random, self.world.loop
        seconds = random.uniform(3, 20) if random.random() < 0.6 else random.uniform(20, 850)
        self.frozen_until = loop.now + seconds
        if random.random() < 0.4:
            self.alive = False
            for task in self.tasks:
                loop.call_soon(task.cancel)
        return seconds

    async def begin(self) -> None:
        await asyncio.to_thread(self.membership.join)
        self.tasks += [asyncio.create_task(self._work()) for _ in range(3)]

    def resume_twice(self) -> None:
        """A machine is resumed from a snapshot while the original runs on: the same instance, lanes and lease, in two processes.
        What was on its way has no answer in the copy."""
        mine, copied = self.membership, Process(self.world, self.mark)
        theirs = copied.membership
        for name in ("_id", "_state", "_record", "_acknowledged", "_deadline", "_term", "_renewed"):
            setattr(theirs, name, getattr(mine, name))
        theirs.own_lanes = InstanceLanes(mine.id, theirs._wake.set, theirs._open_journal)
        theirs.own_lanes.grant(mine.own_lanes.granted)
        theirs.own_lanes.wanted = mine.own_lanes.wanted
        for lane, original in zip(theirs.own_lanes._all, mine.own_lanes._all, strict=True):
            lane.last, lane.unanswered = original.last, set(original.unanswered)
        theirs._thread = threading.Thread(target=theirs._follow)
        theirs._thread.start()
        copied.tasks += [asyncio.create_task(copied._work()) for _ in range(3)]
        self.world.processes.append(copied)
        self.world.seen["resumed twice"] += 1

    async def _work(self) -> None:
        world, random = self.world, self.world.random
        while True:
            await asyncio.sleep(random.expovariate(1.0))
            key, world.ops = random.choice(KEYS), world.ops + 1
            op = f"op{world.ops}"
            try:
                result = await self.calls.update_one({"_id": key}, {"$set": {f"ops.{op}": 1}}, upsert=True)
            except (MigrationError, Died) as error:
                world.seen[type(error).__name__] += 1
                if isinstance(error, Died):
                    return
                continue
            assert result is not None
            world.acked.append((key, op))


class _Of:
    """A port of one process: each call waits while it is frozen."""

    def __init__(self, process: Process, port: Ledger | Journal) -> None:
        self._process, self._port = process, port

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._port, name)

        def paused(*words: Any, **more: Any) -> Any:
            self._wait()
            result = call(*words, **more)
            self._wait()
            return result

        return paused

    def _wait(self) -> None:
        try:
            while (left := self._process.pause_s()) > 0:
                self._process.world.loop.block(left)
        except Died:
            self._process.world.loop.hub.switch()  # for ever


_DOOR: Any = SimpleNamespace(
    require_filter=lambda query: None,
    require_update=lambda update: None,
    updated=lambda **result: SimpleNamespace(**result),
    is_driver_error=lambda error: False,
)


class World:
    """`acked` are writes that the application was told have happened."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.random, self.loop = Random(seed), loop
        self.seen: Counter[str] = Counter()
        self.server = Server(loop, self.random, TABLE)
        self.server.seen = self.seen
        self.ledger = SlowLedger(loop, self.random)
        self.sink = SlowSink({})
        self.sink.loop, self.sink.random = loop, self.random
        self.acked: list[tuple[int, str]] = []
        self.ops = 0
        self.processes: list[Process] = []

    def job(self, name: str) -> Job:
        return make_job(
            migration=FILE, source=FakeSource({"docs": ()}), fence=FakeFence(), streams=self.server.streams, sink=self.sink,
            journal=self.server.journal, ledger=self.ledger, progress=Quiet(), stop=threading.Event(),
            identity=Identity(name=name, mark=name, ended=lambda mark: False),
        )  # fmt: skip

    def prepare(self) -> None:
        self.ledger.write(*MODE, LEADS.to_body(), expect=None)
        change_of_leader = self.job("change of leader")
        open_mongodb_watch(change_of_leader, change_of_leader.source.cluster_time(), LEADS.floor)
        self.ledger.write(*REPLICATION, {"owner": ""}, expect=None)
        record_stream_start(self.ledger, self.server.streams, [TABLE])

    async def run(self) -> None:
        await asyncio.to_thread(self.prepare)
        self.processes = [Process(self, f"process {number}") for number in range(self.random.randint(2, 3))]
        await asyncio.gather(*(one.begin() for one in self.processes))
        for one in self.processes:
            if self.random.random() < 0.6:
                self.loop.call_later(self.random.uniform(1, 20), self._fault, one)
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.loop.call_later(self.random.uniform(1, 25), self._split)
        following = asyncio.create_task(self._follow())
        await asyncio.sleep(self.random.uniform(6, 16))
        await self._change_leader()
        following.cancel()
        self._end_application()
        await asyncio.sleep(ENDS_S)
        self.judge()

    def _split(self) -> None:
        self.server.streams.split(TABLE)
        self.seen["split"] += 1

    def _fault(self, one: Process) -> None:
        if self.random.random() < 0.15:
            one.resume_twice()
            return
        one.stalls = self.random.random() < 0.6
        if not one.stalls:
            one.fall()

    async def _follow(self) -> None:
        """`docferry reverse`, and whoever starts it again."""
        target: Any = SlowTarget(self.server)
        while True:
            try:
                await reverse(self.job("reverse"), target)
            except (MigrationError, PreflightFailed) as error:
                self.seen[f"reverse {type(error).__name__}"] += 1
            await asyncio.sleep(2.0)

    async def _change_leader(self) -> None:
        target: Any = SlowTarget(self.server)
        for attempt in range(8):
            try:
                report = await change_leader(self.job("switch"), target)
            except (HoldFailed, JournalBroken) as error:
                self.seen["hold failed"] += 1
                if attempt == 7:
                    raise NeverEnds(str(error)) from error
                await asyncio.sleep(self.random.uniform(3, 10))
                continue
            self.seen["held_ms"] += int(report.held_s * 1000)
            break
        mode = await asyncio.to_thread(read_mode, self.ledger)
        assert mode.mode is Mode.MONGO_ONLY, mode
        self.server.closed = True

    def _end_application(self) -> None:
        for one in self.processes:
            one.alive = False
            for task in one.tasks:
                task.cancel()

    def judge(self) -> None:
        """What MongoDB has now that it leads: `lost` counts acknowledged writes that it does not hold."""
        held = {one["_id"]: one.get("ops", {}) for one in self.sink.all_of("docs").values()}
        self.seen["lost"] = sum(op not in held.get(key, {}) for key, op in self.acked)
        self.seen["acked"] = len(self.acked)


def run(seed: int) -> Counter[str]:
    """What happened in the run of a seed: `lost` and `stray` must be 0."""
    with virtual_time(seed) as loop:
        world = World(seed, loop)
        loop.run_until_complete(world.run())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        return world.seen
