"""Random interleavings of everything that writes, over docferry's own mapping, lanes, loader and repair.

One run is one seed. Documents pass keys between them; children come and go; updates, replaces, deletes and transactions
happen while a first load, conditional loads from old snapshots, repairs, replays of dead letters, dual writers and several
replicators (killed, frozen, or resumed from an older position) put items. Every single put waits at a gate, and the run
opens the gates in random order: so a process may stand still, or die, between any two of its puts while everything else
goes on.

`broken` takes one rule out; a run then may end with DynamoDB different from MongoDB, and says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import bson
from bson.timestamp import Timestamp
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import Item, is_guard, key_of, tombstone
from docferry.core.mapping.raw import encode_raw, id_bytes, id_name, id_of, is_outside
from docferry.core.versions import snapshot_version, version_of
from docferry.errors import DocumentError, LeaseHeld
from docferry.flows.backfill.chunk_loader import ChunkLoader
from docferry.flows.backfill.pages import LoadPage
from docferry.flows.ledger.dead_letters import list_letters, read_letter
from docferry.flows.ledger.load_headers import BULK, CONDITIONAL
from docferry.flows.ledger.positions import position_body, recorded_position
from docferry.flows.replicate.lanes import Applying
from docferry.flows.validate import repair
from docferry.flows.validate.replay import replay_letters
from docferry.ports.flows import Feed, StreamPosition
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.convergence.documents import Documents
from support.convergence.gates import GatedTarget, Gates
from support.convergence.rules import LANES_OF, CountedLanes
from support.convergence.sides import DOCS, TABLE, TTL, Document, Made, Side, is_storable
from support.convergence.standins import ChunkLease, NoLimit, Quiet, no_lease
from support.convergence.steps import STEPS

IDENTITY = who()


class Diverged(AssertionError):
    """DynamoDB is not what MongoDB is."""


class World:
    """One run. `seen` counts what happened in it."""

    def __init__(self, seed: int, side: Side, broken: str = "") -> None:
        self.random, self.side, self.broken = Random(seed), side, broken
        self.source, self.ledger, self.mapping = side.source, side.ledger, side.migration.mapping(DOCS)
        self.seen: Counter[str] = Counter()
        self.gates = Gates(self.random)
        self.target = GatedTarget(side, self.gates, self.random, self.seen, broken)
        self.documents = Documents(self.random, side, self.source.cluster_time())
        self.tasks: dict[asyncio.Task[None], str] = {}
        self.replicators: list[tuple[CountedLanes, Feed]] = []
        self.saved: list[StreamPosition] = []
        self.followed_to = Timestamp(0, 0)
        self.failure: BaseException | None = None
        self.died: set[str] = set()

    # --- MongoDB's side ------------------------------------------------------------------------------------------------

    def page(self, time: Timestamp) -> list[bytes]:
        return self.source.read_page(DOCS, self.side.bounds, None, 100, time)

    def at(self, time: Timestamp) -> dict[int, Document]:
        found = [bson.decode(data) for data in self.page(time)]
        return {document["_id"]: document for document in found}

    def make(self, changes: list[Made]) -> Timestamp:
        time = self.side.write(changes)
        self.documents.note(changes, time)
        return time

    async def write(self) -> None:
        self.make(self.documents.one())

    async def transact(self) -> None:
        self.make(self.documents.several())

    # --- those who put -------------------------------------------------------------------------------------------------

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        named: Any = work
        self.tasks[task] = named.__qualname__
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self.tasks[task]
        if not task.cancelled():
            self.failure = self.failure or task.exception()

    async def kill(self) -> None:
        """A loader, a repair or an application dies between two of its puts."""
        if self.tasks:
            task = self.random.choice(list(self.tasks))
            task.cancel()
            self.seen[f"killed {self.tasks[task]}"] += 1
            self.died.add(self.tasks[task])

    async def run_again(self) -> None:
        """What has died is run again, as Airflow does with a load, a repair, a replay. Amid a document that cannot be stored it
        left items of a later version than any change will have."""
        if "World.load" in self.died:
            self.begin(self.load(CONDITIONAL, self.source.cluster_time()))
        if "_Repair.documents" in self.died:
            await self.repair_documents(1.0)
        if "World.replay" in self.died:
            await self.replay_letters()

    async def dual_write(self) -> None:
        self.begin(self.application())

    async def application(self) -> None:
        """An application process: MongoDB first, then DynamoDB in one transaction, perhaps much later."""
        seen = snapshot_version(self.source.cluster_time())
        await self.gates.wait()
        before = self.documents.now
        draw = self.random.random()
        if draw < 0.25:  # a transaction: its reply's time is not that of each change
            await self.transact()
            after = self.documents.now
            for one in {*before, *after}:
                await self.dual_put(before.get(one), after.get(one), seen)
        elif draw < 0.4 and before:  # an update that changes nothing, or a retry of one that did
            same = before[self.random.choice(sorted(before))]
            await self.gates.wait()
            own = self.broken == "own time on an unproved reply"
            await self.dual_put(same, same, version_of(self.source.cluster_time(), 0) if own else seen)
        else:
            made = self.documents.one()
            key, document, _ = made[0]
            time = self.make(made)
            if self.broken == "content read back" and document is not None:
                document = self.at(self.documents.earlier(3)).get(key)  # from a secondary that lags
            await self.dual_put(before.get(key), document, version_of(time, 0))

    async def dual_put(self, before: Document | None, after: Document | None, version: int) -> None:
        await self.gates.wait()
        try:
            items = self.mapping.encode(after, version) if after is not None else []
        except DocumentError:
            return  # a failed dual put is counted, and replication heals it
        kept = {key_of(item) for item in items}
        old = self.mapping.stubs(before) if before is not None else []
        graves = [tombstone(stub, version, TTL) for stub in old if key_of(stub) not in kept]
        if self.broken == "no tombstones":
            for grave in graves:
                await self.side.delete_older(grave)
            graves = []
        if items or graves:
            put = partial(self.side.transact, [*items, *graves], conditional=self.broken != "unconditional dual write")
            await put()
            self.target.twice(put)

    async def conditional_load(self) -> None:
        position = recorded_position(self.ledger)
        assert position is not None
        mode = BULK if self.broken == "a load without conditions beside others" else CONDITIONAL
        self.begin(self.load(mode, max(self.documents.earlier(4), position.time)))

    async def load(self, mode: str, at: Timestamp) -> None:
        """A page of a load: the real loader's encoding, writing and dead letters."""
        raw = self.page(at)
        if not raw:
            return
        job = make_job(**self.job(), run="r")
        loader = ChunkLoader(job, self.target, DOCS, ChunkLease(), NoLimit(), mode)  # type: ignore[arg-type]
        page = LoadPage(raw, snapshot_version(at), id_of(raw[-1]))
        part = loader._encode(page, range(len(raw)))
        page.parts.append(part)
        await loader._account(page, [await loader._write(part)])

    def job(self) -> dict[str, Any]:
        return {
            "migration": self.side.migration,
            "source": self.source,
            "ledger": self.ledger,
            "identity": IDENTITY,
            "progress": Quiet(),
            "stop": threading.Event(),
        }

    async def repair_documents(self, share: float = 0.7) -> None:
        """What repair does with documents that a validation found different, whether they are or not."""
        ids = [id_bytes(key) for key in self.side.ids if self.random.random() < share]
        work = repair._Repair(make_job(**self.job()), self.target, repair.RepairReport(), no_lease)
        self.begin(work.documents(self.mapping, ids))

    async def bury_items(self) -> None:
        """What repair does with items that a validation found extra, whether they are or not."""
        keys = [key_of(item) for item in await self.side.items() if self.random.random() < 0.5]
        work = repair._Repair(make_job(**self.job()), self.target, repair.RepairReport(), no_lease)
        self.begin(work.bury(TABLE, keys))

    async def replay_letters(self) -> None:
        self.begin(self.replay())

    async def replay(self) -> None:
        try:
            report = await replay_letters(make_job(**self.job()), self.target, DOCS)
        except LeaseHeld:
            self.seen["replay beside another"] += 1
            return
        for outcome, count in report.to_dict().items():
            self.seen[f"letter {outcome}"] += count

    # --- replicators ---------------------------------------------------------------------------------------------------

    def start_replicator(self, position: StreamPosition) -> None:
        if self.replicators:
            self.replicators[-1][1].close()
        work = Applying(
            migration=self.side.migration, source=self.source, ledger=self.ledger, target=self.target, budget=NoLimit(),
            guard=lambda: None, stop=threading.Event(),
        )  # fmt: skip
        lanes = LANES_OF.get(self.broken, CountedLanes)(work, position)
        lanes.look_for_letters()
        self.followed_to = Timestamp(0, 0)
        self.replicators.append((lanes, self.source.follow(position, {DOCS: self.mapping.key_fields})))

    async def read_stream(self) -> int:
        """The last replicator reads a batch; how many changes that were."""
        lanes, feed = self.replicators[-1]
        batch = feed.read(0.0)
        for change in batch.changes:
            lanes.put(replace(change, n=0) if self.broken == "no position inside a time" else change)
        if not batch.changes and batch.position.time >= self.documents.times[-1]:
            self.followed_to = batch.position.time
        return len(batch.changes)

    async def save_position(self) -> None:
        self.saved.append(self.replicators[-1][0].position)

    async def replace_replicator(self) -> None:
        """Killed, or frozen and released some time later; the next goes on from a saved place."""
        lanes, _ = self.replicators[-1]
        if self.random.random() < 0.6:
            self.seen["replicator killed at work"] += lanes.working > 0
            await lanes.kill()
        else:
            self.seen["replicator frozen at work"] += lanes.working > 0
        position = self.saved[-1] if self.random.random() < 0.7 else self.random.choice(self.saved)
        self.start_replicator(position)

    # --- a reader ------------------------------------------------------------------------------------------------------

    async def read(self, at_the_end: bool = False) -> None:
        """What a reader takes for whole must be a document as it once was. At the end, all of them are whole."""
        by_partition: dict[str, list[Item]] = {}
        for item in filter(lambda one: not is_guard(one), await self.side.items()):
            by_partition.setdefault(item["PK"]["S"], []).append(item)
        for items in by_partition.values():
            roots = [item for item in items if item["SK"]["S"] == "ROOT"]
            if roots and self.is_whole(roots[0], [item for item in items if item is not roots[0]]):
                self.seen["whole read"] += 1
                document = self.mapping.decode(items).document
                if not self.documents.once_was(document):
                    raise Diverged(f"a reader saw a document that never was: {document}")
            elif at_the_end:
                raise Diverged(f"torn for ever: {items}")
            else:
                self.seen["torn read"] += 1

    def is_whole(self, root: Item, children: list[Item]) -> bool:
        if self.broken == "no digest":
            return True
        found = digest(children) if children else None
        return bool(root.get("_digest", {}).get("S") == found)

    # --- the run -------------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Until everybody who works stands at a gate."""
        await asyncio.sleep(0)
        while self.at_work() > len(self.gates):  # noqa: ASYNC110 - many things move at once
            await asyncio.sleep(self.side.look_s)
        if self.failure is not None:
            raise self.failure
        for lanes, _ in self.replicators:
            if lanes.failure is not None and not lanes.killed:
                raise lanes.failure

    def at_work(self) -> int:
        return len(self.tasks) + sum(lanes.working for lanes, _ in self.replicators)

    async def open_gate(self) -> None:
        self.gates.open_one()

    async def run(self, steps: int = 44) -> None:
        for _ in range(self.random.randrange(4)):
            await self.write()
        position = self.source.stream_position()
        self.ledger.write("position", "stream", position_body(position) | {"at": 0}, expect=None)
        before = len(self.documents.times)
        for _ in range(self.random.randrange(4)):
            await self.write()
        await self.first_load(before)
        self.saved.append(position)
        self.start_replicator(position)
        for name in self.random.choices(list(STEPS), list(STEPS.values()), k=steps):
            self.seen[name] += 1
            await getattr(self, name)()
            await self.settle()
        await self.finish()

    async def first_load(self, before: int) -> None:
        """Without conditions: no other writer puts yet. `before` is how many writes were before the recorded position."""
        at = self.source.cluster_time()
        if self.broken == "page before the position":
            at = self.random.choice(self.documents.times[max(0, before - 3) : before])
        self.begin(self.load(BULK, at))
        await self.open_all()

    async def open_all(self) -> None:
        await self.settle()
        while len(self.gates) or self.tasks:
            self.gates.open_one()
            await self.settle()

    async def finish(self) -> None:
        """Everybody comes to an end, in any order, while the last replicator applies all there is."""
        if self.broken != "what died is not run again":
            await self.run_again()
        self.start_replicator(self.saved[-1])
        lanes, _ = self.replicators[-1]
        while not self.has_followed() or len(self.gates) or self.tasks or lanes.pending:
            if not self.has_followed():
                await self.read_stream()
            await self.settle()
            self.gates.open_one()
            await self.settle()
        await self.target.arrive_again(all_of_them=True)
        await self.compare()
        await self.replay_what_is_left()
        await self.target.arrive_again(all_of_them=True)
        await self.compare()

    async def close(self) -> None:
        """End whatever is still at work, after a run that failed, too."""
        for lanes, feed in self.replicators:
            await lanes.end()
            feed.close()
        left = list(self.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def has_followed(self) -> bool:
        return self.followed_to >= self.documents.times[-1]

    async def replay_what_is_left(self) -> None:
        """Then the open letters are those of the documents that cannot be stored."""
        self.side.let_time_pass()
        self.begin(self.replay())
        await self.open_all()
        letters = {letter.id for letter in list_letters(self.ledger, DOCS)}
        mine = {key: one for key, one in self.documents.now.items() if not is_outside(self.mapping, bson.encode(one))}
        unstorable = {id_name(id_bytes(key)) for key, one in mine.items() if not is_storable(one)}
        if letters != unstorable:
            raise Diverged(f"letters of {sorted(letters)} are open, {sorted(unstorable)} cannot be stored")

    async def compare(self) -> None:
        """Raises Diverged unless DynamoDB holds exactly the items of the documents that can be stored, all whole."""
        now = self.page(self.source.cluster_time())
        assert {one["_id"]: one for one in map(bson.decode, now)} == self.documents.now
        expected: dict[Any, Item] = {}
        stored = {key_of(item): _content(item) for item in await self.side.items()}
        for data in now:
            if is_outside(self.mapping, data):
                continue
            if is_storable(bson.decode(data)):
                expected.update({key_of(item): _content(item) for item in encode_raw(self.mapping, data, 0)})
            elif read_letter(self.ledger, DOCS, id_name(id_of(data))) is None:
                raise Diverged(f"the document {id_name(id_of(data))} cannot be stored and has no dead letter")
        for key in {*expected, *stored}:
            if expected.get(key) != stored.get(key):
                raise Diverged(f"{key}: expected {expected.get(key)}, stored {stored.get(key)}")
        await self.read(at_the_end=True)


def _content(item: Item) -> Item:
    """All but the version, and the digest: `read` looks at that."""
    return {name: value for name, value in item.items() if name not in ("_v", "_digest")}
