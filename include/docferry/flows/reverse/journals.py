"""Proof by the application's journals that MongoDB holds what was written while DynamoDB leads (`core.cutover.journal`).

Every write has an entry in a lane of its process; no stream, no page that is empty, and no clock has a say:

1. Reverse replication reads the lanes behind what is proved, strongly consistent, all the time. An entry counts once
   DynamoDB shows its version or a later one; then MongoDB must hold what DynamoDB holds, and what it does not is applied at once.
2. While writes are held, a process that has acknowledged says where its lanes end. One that is silent is struck off, and a seal
   is put into the next slot of each of its lanes: what it, or a copy of it, sent and has not arrived never happens.
3. Each lane is then proved to its end. A lane that lacks entries is an error: it is never taken for a short one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from docferry.core.cutover.instances import Instance
from docferry.core.cutover.journal import LaneName, LaneRead, Wrote, missing, read_lane
from docferry.core.mapping.items import Item, ItemKey
from docferry.core.versions import parse_version
from docferry.errors import JournalBroken, NotApplied, Stopped, TransientStoreError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import cancel_all, in_thread
from docferry.flows.ledger.modes import CLOCKS_S, list_instances, read_mode
from docferry.flows.ledger.rooms.journals import ProvedLanes, read_proved, save_proved
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse.lanes import ReverseLanes
from docferry.flows.reverse.proof import LOOK_AGAIN_S, Write, items_of, shows, unapplied
from docferry.flows.reverse.seals import LanesEnd, end_of_lanes
from docferry.flows.reverse.shard_readers import wait_for_a_move
from docferry.flows.reverse.shards import Pending, ShardOutcome
from docferry.ports.flows import StreamRecord, Target

PAGE = 200
PROVE_S = 5.0
AT_ONCE = 16
APPLY_S, APPLIED_LOOK_S = 2.0, 0.02
"""How long an application of what MongoDB lacks is waited for in one look."""
SHOW_TRIES = 25
"""Times `LOOK_AGAIN_S`: 5 seconds until an entry that must be there shows."""
VANISHED = 2**62
"""No epoch: each process that has not ended is struck off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalsProved:
    """What was proved while writes were held."""

    instances: int
    sealed: int
    entries: int

    def __str__(self) -> str:
        return f"journals: {self.entries} entries of {self.instances} processes, {self.sealed} of them sealed"


class JournalProof:
    """What is proved of each lane. Belongs to one event loop."""

    def __init__(self, job: Job, target: Target) -> None:
        self.job, self.target = job, target
        self._lanes: ReverseLanes | None = None
        self._proved: dict[str, ProvedLanes] = {}
        self._loaded = False
        self._looking: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        self._left: list[tuple[str, str]] = []
        self.entries = 0

    def bound_to(self, lanes: ReverseLanes) -> JournalProof:
        """Itself; what MongoDB lacks goes to these lanes from now on."""
        self._lanes = lanes
        return self

    # --- all the time ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Look at what processes say they have written, again and again, until `end`. `failure` is the error that ended it."""
        self._looking = asyncio.create_task(self._keep_looking())

    async def end(self) -> None:
        if self._looking is not None:
            await cancel_all([self._looking])

    async def _keep_looking(self) -> None:
        while True:
            try:
                if (await in_thread(read_mode, self.job.ledger, stop=self.job.stop)).journal:
                    await self.look()
                await asyncio.sleep(PROVE_S)
            except TransientStoreError as error:
                self.job.progress.say(f"reverse replication cannot prove the journals: {error}")
                await asyncio.sleep(PROVE_S)
            except (asyncio.CancelledError, Stopped):
                return
            except BaseException as error:  # noqa: BLE001 - raised by the loop that keeps the books
                self.failure = error
                return

    async def look(self) -> int:
        """One look at the lanes that have moved since they were proved. Returns how many entries at least are not proved."""
        instances = await in_thread(list_instances, self.job.ledger, stop=self.job.stop)
        await self._load()
        told = {LaneName(one.id, lane): at for one in instances for lane, at in enumerate(one.at)}
        await self._prove_all({lane: at for lane, at in told.items() if self._at(lane) < at})
        return sum(max(0, at - self._at(lane)) for lane, at in told.items())

    # --- while writes are held ---------------------------------------------------------------------------------------

    async def to_the_end(self, epoch: int, deadline: float) -> JournalsProved:
        """Every entry that there is, and ever will be, is proved, by monotonic time `deadline`.

        Holds:  the mode was HOLD of this epoch before it was called, and is until it returns.
        Raises: NotApplied, naming documents; JournalBroken; Stopped; StoreError.
        """
        before, began = self.entries, time.monotonic()
        instances = await in_thread(list_instances, self.job.ledger, stop=self.job.stop)
        await self._load()
        open_ones = [one for one in instances if one.lanes and not self._of(one.id).closed]
        closed = await self._ends_of(open_ones, epoch)
        ends = {lane: end for found in closed for lane, end in found.ends.items()}
        while not await self._are_proved(ends):
            if self.job.stop.is_set():
                raise Stopped("asked to stop while waiting for MongoDB to hold what DynamoDB does")
            if time.monotonic() > deadline:
                raise NotApplied(list(dict.fromkeys(self._left)), time.monotonic() - began)
            await asyncio.sleep(LOOK_AGAIN_S)
        await self._close(closed)
        sealed = sum(one.sealed for one in closed)
        return JournalsProved(instances=len(open_ones), sealed=sealed, entries=self.entries - before)

    async def close_vanished(self) -> None:
        """Strike off and seal every process whose lease is over, before writes wait for it, and prove its lanes once.

        Raises: JournalBroken; StoreError.
        """
        limit = now_ms() - int(CLOCKS_S * 1000)
        instances = await in_thread(list_instances, self.job.ledger, stop=self.job.stop)
        await self._load()
        vanished = [one for one in instances if one.lanes and not one.is_live(limit) and not self._of(one.id).closed]
        ends = await self._ends_of(vanished, VANISHED)
        if await self._are_proved({lane: end for found in ends for lane, end in found.ends.items()}):
            await self._close(ends)

    async def _ends_of(self, instances: Sequence[Instance], epoch: int) -> list[LanesEnd]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def end_of(one: Instance) -> LanesEnd:
            async with slots:
                return await in_thread(self._end_of, one, epoch, stop=self.job.stop)

        return list(await asyncio.gather(*map(end_of, instances)))

    async def _close(self, ended: Sequence[LanesEnd]) -> None:
        for one in ended:
            if one.for_good:
                self._of(one.instance).closed = True
                await self._save(one.instance)

    async def _are_proved(self, ends: Mapping[LaneName, int]) -> bool:
        self._left = []
        await self._prove_all({lane: end for lane, end in ends.items() if self._at(lane) < end})
        return all(self._at(lane) >= end for lane, end in ends.items())

    async def _prove_all(self, ends: Mapping[LaneName, int]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def prove(lane: LaneName, end: int) -> None:
            async with slots:
                await self._prove(lane, end)

        await asyncio.gather(*(prove(lane, end) for lane, end in ends.items()))

    def _end_of(self, one: Instance, epoch: int) -> LanesEnd:
        proved = dict(enumerate(self._of(one.id).slots))
        return end_of_lanes(self.job.ledger, self.job.journal, one, epoch, proved)

    # --- a lane ------------------------------------------------------------------------------------------------------

    async def _prove(self, lane: LaneName, at: int) -> None:
        """As far as MongoDB holds what the entries of a lane name, at most to its end; `at` is where it must not end before."""
        proved = self._of(lane.instance)
        while True:
            after = proved.of(lane.number)
            read = await self._read(lane, after, at)
            held = await self._held(read)
            self.entries += held
            if held:
                proved.advance(lane.number, after + held)
                await self._save(lane.instance)
            if held < len(read.entries) or len(read.entries) < PAGE:
                return

    async def _read(self, lane: LaneName, after: int, at: int) -> LaneRead:
        """A page of a lane, whole as far as slot `at`. A transaction's items show one by one: what lacks is asked again."""
        for _ in range(SHOW_TRIES):
            read = read_lane(after, await in_thread(self.job.journal.read, lane, after, PAGE, stop=self.job.stop))
            if not (what := missing(read, min(at, after + PAGE))):
                return read
            await asyncio.sleep(LOOK_AGAIN_S)
        raise JournalBroken(f"lane {lane.number} of instance {lane.instance} {what}")

    async def _held(self, read: LaneRead) -> int:
        """How many entries from the first on are of writes that MongoDB holds. What it lacks is applied now."""
        writes = {_write(wrote): wrote for entry in read.entries for wrote in entry.wrote}
        lacking = await unapplied(self.job, self.target, list(writes)) if writes else []
        items = await items_of(self.target, [write for write, _ in lacking])
        left = {
            write: name for write, name in lacking if not _has_expired(writes[write], (write.table, write.key) in items)
        }
        left = {write: left[write] for write in await self._unapplied_now(left, items)}
        self._left += left.values()
        held = 0
        for entry in read.entries:
            if any(_write(wrote) in left for wrote in entry.wrote):
                break
            held += 1
        return held

    async def _unapplied_now(self, left: Iterable[Write], items: Mapping[tuple[str, ItemKey], Item]) -> Sequence[Write]:
        """Those that are left after each document that DynamoDB shows in these places went through its lane.

        A lane reads DynamoDB anew, and MongoDB has acknowledged what it found: the write, or what came after it. So documents
        that are written all the time are proved, too, which are never equal when they are looked at.
        """
        given: dict[Write, Pending] = {}
        for write in left:
            item = items.get((write.table, write.key))
            pending = Pending("", 0)
            if self._lanes is not None and item is not None and shows(item, write.version):
                record = StreamRecord(sequence="", key=write.key, created_ms=0, new=item)
                for _ in self._lanes.put(write.table, record, pending):
                    continue  # of a type that the file does not know: none of ours
                given[write] = pending
        until = time.monotonic() + APPLY_S
        while self._lanes is not None and any(one.left for one in given.values()) and time.monotonic() < until:
            await wait_for_a_move(self._lanes, APPLIED_LOOK_S)
        applied = {write for write, one in given.items() if not one.left and one.outcome is not ShardOutcome.DEAD}
        return [write for write in left if write not in applied]

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _at(self, lane: LaneName) -> int:
        return self._of(lane.instance).of(lane.number)

    def _of(self, instance: str) -> ProvedLanes:
        return self._proved.setdefault(instance, ProvedLanes())

    async def _load(self) -> None:
        if not self._loaded:
            self._proved = await in_thread(read_proved, self.job.ledger, stop=self.job.stop)
            self._loaded = True

    async def _save(self, instance: str) -> None:
        await in_thread(save_proved, self.job.ledger, instance, self._of(instance), stop=self.job.stop)


def _write(wrote: Wrote) -> Write:
    return Write(wrote.table, wrote.key, parse_version(wrote.version))


def _has_expired(wrote: Wrote, is_there: bool) -> bool:
    """TTL may have removed it: then nothing is left that MongoDB could hold, and its own TTL removes what it does."""
    return not is_there and 0 < wrote.expires_s < time.time()
