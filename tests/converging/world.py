"""Random interleavings of everything that writes, over docferry's own mapping, lanes, loader and fakes.

One run is one seed. Two documents (or more) can pass a key between them; children come and go; updates, replaces, deletes and
transactions happen while a first load, conditional loads from old snapshots, dual writers and one or several replicators
(killed, frozen, or resumed from an older position) put items. Every single put waits at a gate, and the run opens the gates
in random order: so a process may stand still between any two of its puts while everything else goes on.

`broken` takes one rule out; a run then may end with DynamoDB different from MongoDB, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Protocol

import bson
from bson.timestamp import Timestamp
from docferry.config import parse_migration
from docferry.core.mapping import Item, key_of
from docferry.core.mapping import digest as digest_of
from docferry.core.raw import decode_document, encode_raw, id_name, id_of
from docferry.core.tombstones import tombstone
from docferry.core.versions import snapshot_version, version_of, version_text
from docferry.errors import DocumentError
from docferry.flows import state
from docferry.flows.applying import Applying, Lanes
from docferry.flows.loading import BULK, CONDITIONAL, Backfill, Counts, _Loader, _Page
from docferry.ports import Bounds, Budget, Change, Guard, Packed, Source, StreamPosition, Target, Written
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.wiring import who

MIGRATION = parse_migration(b"""
migration: converge
source: {database: d}
tables: {Tab: {}}
collections:
  docs:
    table: Tab
    item: {entity: DOC, key: {PK: "DOC#{name}", SK: ROOT}}
    children:
      parts: {entity: PART, key: {SK: "PART#{kind}#{index:03d}"}}
""")
MAPPING = MIGRATION.mapping("docs")
TABLE, DOCS, TTL = "Tab", "docs", MIGRATION.table("Tab").ttl_attribute
IDS, NAMES, KINDS = (1, 2), "abc", "xy"
TOO_DEEP: Any = 1
for _ in range(34):
    TOO_DEEP = {"x": TOO_DEEP}

BROKEN = (
    "no tombstones",
    "no position inside a time",
    "unconditional dual write",
    "content read back",
    "page before the position",
    "own time on an unproved reply",
    "a letter closed by its own event",
)
Document = dict[str, Any]


class Diverged(AssertionError):
    """DynamoDB is not what MongoDB is."""


class NoLimit:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


Made = tuple[int, Document | None, tuple[str, ...] | None]
"""(id, the document then or None, the paths that an update names, None for an insert or a replace)."""


class Side(Protocol):
    """The two databases of a run. `mark` keeps its keys apart from those of others."""

    source: Source
    target: Target
    mark: str

    def write(self, changes: Sequence[Made]) -> Timestamp:
        """Make the changes, several in one transaction; their time."""

    def items(self) -> list[Item]:
        """All live items of this run."""

    def transact(self, items: Sequence[Item], conditional: bool) -> None:
        """All puts or none, as TransactWriteItems; with a condition each only over what is older."""

    def delete_older(self, item: Item) -> None:
        """What a tombstone would be, if there were none."""


class FakeSide:
    """Both databases in memory."""

    mark = ""

    def __init__(self) -> None:
        self.source, self.target = FakeSource({DOCS: []}), FakeTarget()
        self.source.batch_events = 4
        self.target.create_table(TABLE)
        self.table = self.target.tables[TABLE]

    def write(self, changes: Sequence[Made]) -> Timestamp:
        return self.source.transaction(
            *((DOCS, document, key if document is None else touched) for key, document, touched in changes)
        )

    def items(self) -> list[Item]:
        return [item for item in self.table.values() if "_deleted" not in item]

    def transact(self, items: Sequence[Item], conditional: bool) -> None:
        stored = [(self.table.get(key_of(item)), item) for item in items]
        if not conditional or all(old is None or old["_v"]["S"] < new["_v"]["S"] for old, new in stored):
            self.table.update({key_of(item): dict(item) for item in items})

    def delete_older(self, item: Item) -> None:
        stored = self.table.get(key_of(item))
        if stored is not None and stored["_v"]["S"] < item["_v"]["S"]:
            del self.table[key_of(item)]


class Gates:
    """Everybody who wants to put something waits here until the run lets them; some for very long."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waiting: list[asyncio.Future[None]] = []
        self._frozen: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        self._waiting = [one for one in self._waiting if not one.done()]
        self._frozen = [one for one in self._frozen if not one.done()]
        return len(self._waiting) + len(self._frozen)

    async def wait(self) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._frozen if self._random.random() < 0.12 else self._waiting).append(gate)
        await gate

    def open_one(self) -> None:
        if not len(self):
            return
        frozen = not self._waiting or (bool(self._frozen) and self._random.random() < 0.03)
        gates = self._frozen if frozen else self._waiting
        gates.pop(self._random.randrange(len(gates))).set_result(None)


class GatedTarget:
    """A target of which each put waits for its gate."""

    def __init__(self, side: Side, gates: Gates, random: Random, broken: str) -> None:
        self.side, self.gates, self.random, self.broken = side, gates, random, broken
        self.busy = 0

    def pack(self, items: Sequence[Item]) -> list[Packed]:
        return self.side.target.pack(items)

    @contextlib.asynccontextmanager
    async def one_at_a_time(self) -> AsyncIterator[None]:
        await self.gates.wait()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def put_newer(self, table: str, items: Sequence[Item], budget: Budget, guard: Guard) -> Written:
        refused: dict[int, DocumentError] = {}
        superseded: set[int] = set()
        for at in self.random.sample(range(len(items)), len(items)):
            async with self.one_at_a_time():
                if self.broken == "no tombstones" and "_deleted" in items[at]:
                    self.side.delete_older(items[at])
                    continue
                written = await self.side.target.put_newer(table, [items[at]], budget, guard)
            if written.refused:
                refused[at] = written.refused[0]
            if written.superseded:
                superseded.add(at)
        return Written(refused, frozenset(superseded), 0.0)

    async def put_all(self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard) -> Written:
        for item in self.random.sample(list(items), len(items)):
            async with self.one_at_a_time():
                await self.side.target.put_all(table, [item], budget, guard)
        return Written({}, frozenset(), 0.0)


class BrokenLanes(Lanes):
    """Closes a dead letter by the very change that opened it."""

    async def _apply(self, change: Change) -> None:
        await super()._apply(change)
        record = state.letter_record(self.work.ledger, DOCS, id_name(change.id))
        if record is not None and record.body["version"] <= version_text(change.version):
            state.close_letter(self.work.ledger, record)


class _Lease:
    """What the loader asks of a lease."""

    key = "00000"

    def __init__(self) -> None:
        self.body = {"state": "pending"} | Counts().to_dict()

    def check(self) -> None: ...


class World:
    """One run. `ids` is how many documents there are."""

    def __init__(self, seed: int, broken: str = "", side: Side | None = None, ids: Sequence[int] = IDS) -> None:
        self.random = Random(seed)
        self.broken, self.ids = broken, ids
        self.side = side or FakeSide()
        self.source, self.ledger = self.side.source, FakeLedger()
        self.gates = Gates(self.random)
        self.target = GatedTarget(self.side, self.gates, self.random, broken)
        self.names = [f"{self.side.mark}{name}" for name in NAMES]
        self.history: dict[int, list[Document]] = {key: [] for key in ids}
        self.times: list[Timestamp] = []
        self.identity = who()
        self.serial = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.replicators: list[tuple[Lanes, Any]] = []
        self.saved: list[StreamPosition] = []
        self.torn_reads = 0
        self.failure: BaseException | None = None

    # --- MongoDB's side ------------------------------------------------------------------------------------------------

    def now(self) -> dict[int, Document]:
        return self.at(self.source.cluster_time())

    def page(self, time: Timestamp) -> list[bytes]:
        return self.source.read_page(DOCS, Bounds(None, None), None, 100, time)

    def at(self, time: Timestamp) -> dict[int, Document]:
        found = [bson.decode(data) for data in self.page(time)]
        return {document["_id"]: document for document in found}

    def earlier(self, most: int) -> Timestamp:
        """The time of one of the last writes."""
        return self.random.choice(self.times[-most - 1 :])

    def free_names(self, key: int, docs: dict[int, Document]) -> list[str]:
        """A unique index keeps names apart."""
        taken = {one.get("name") for other, one in docs.items() if other != key}
        return [name for name in self.names if name not in taken]

    def new_document(self, key: int, docs: dict[int, Document]) -> Document:
        self.serial += 1
        names = self.free_names(key, docs)
        old = docs.get(key)
        name = old["name"] if old and "name" in old and self.random.random() < 0.6 else self.random.choice(names)
        document: Document = {"_id": key, "name": name, "n": self.serial}
        if self.random.random() < 0.8:
            document["parts"] = self.new_parts()
        if self.random.random() < 0.12:
            document["deep"] = TOO_DEEP
        return document

    def new_parts(self) -> list[Document]:
        return [
            {"kind": self.random.choice(KINDS), "c": self.serial * 10 + index}
            for index in range(self.random.randrange(3))
        ]

    def change(self, key: int, docs: dict[int, Document]) -> tuple[Document | None, tuple[str, ...] | None]:
        """(the document then, or None; the paths that an update names, None for an insert or a replace)."""
        old = docs.get(key)
        draw = self.random.random()
        if old is not None and draw < 0.15:
            return None, None
        if old is None or draw < 0.3:
            return self.new_document(key, docs), None
        self.serial += 1
        document, touched = bson.decode(bson.encode(old)), []
        if self.random.random() < 0.5:
            document["n"] = self.serial
            touched.append("n")
        if self.random.random() < 0.25:
            document["name"] = self.random.choice(self.free_names(key, docs))
            touched.append("name")
        touched += self.change_parts(document)
        touched += self.change_storability(document)
        if not touched or document == old:
            document["n"] = self.serial
            touched.append("n")
        return document, tuple(touched)

    def change_parts(self, document: Document) -> list[str]:
        draw = self.random.random()
        parts = document.get("parts")
        if draw < 0.2:
            document["parts"] = self.new_parts()
            return ["parts"]
        if draw < 0.25 and parts is not None:
            del document["parts"]
            return ["parts"]
        if draw < 0.5 and parts:
            at = self.random.randrange(len(parts))
            parts[at]["c"] = self.serial * 10 + at
            return [f"parts.{at}.c"]
        if draw < 0.6 and parts:
            at = self.random.randrange(len(parts))
            parts[at]["kind"] = self.random.choice(KINDS)
            return [f"parts.{at}.kind"]
        return []

    def change_storability(self, document: Document) -> list[str]:
        if "deep" in document and self.random.random() < 0.6:
            del document["deep"]
            return ["deep"]
        if "deep" not in document and self.random.random() < 0.08:
            document["deep"] = TOO_DEEP
            return ["deep"]
        return []

    def write(self, key: int) -> tuple[Document | None, Timestamp]:
        """One plain write; the document behind it and its time."""
        document, touched = self.change(key, self.now())
        time = self.side.write([(key, document, touched)])
        self.note([(key, document, touched)], time)
        return document, time

    def note(self, changes: Sequence[Made], time: Timestamp) -> None:
        """States inside a transaction count, too: replication applies its changes one by one."""
        self.times.append(time)
        for key, document, _ in changes:
            self.history[key] += [document] if document is not None else []

    def transact(self) -> dict[int, Document]:
        """Several changes of one time; what the documents are then."""
        docs, changes = self.now(), []
        for _ in range(self.random.randint(2, 4)):
            key = self.random.choice(self.ids)
            document, touched = self.change(key, docs)
            changes.append((key, document, touched))
            if document is None:
                docs.pop(key, None)
            else:
                docs[key] = document
        self.note(changes, self.side.write(changes))
        return docs

    # --- those who put -------------------------------------------------------------------------------------------------

    def begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._ended)  # type: ignore[arg-type]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            self.failure = self.failure or task.exception()

    async def dual_write(self) -> None:
        """An application process: MongoDB first, then DynamoDB in one transaction, perhaps much later."""
        key, seen = self.random.choice(self.ids), self.source.cluster_time()
        await self.gates.wait()
        before = self.now()
        if self.random.random() < 0.25:  # a transaction: its reply's time is not that of each change
            after = self.transact()
            for one in {*before, *after}:
                await self.dual_put(before.get(one), after.get(one), snapshot_version(seen))
            return
        if self.random.random() < 0.2 and key in before:  # an update that changes nothing, or a retry of one that did
            await self.gates.wait()
            unproved = version_of(self.source.cluster_time(), 0)
            own = self.broken == "own time on an unproved reply"
            await self.dual_put(before[key], before[key], unproved if own else snapshot_version(seen))
            return
        document, time = self.write(key)
        if self.broken == "content read back" and document is not None:
            document = self.at(self.earlier(3)).get(key)  # from a secondary that lags
            if document is None:
                return
        await self.dual_put(before.get(key), document, version_of(time, 0))

    async def dual_put(self, before: Document | None, after: Document | None, version: int) -> None:
        await self.gates.wait()
        try:
            items = MAPPING.encode(after, version) if after is not None else []
        except DocumentError:
            return  # a failed dual put is counted, and replication heals it
        kept = {key_of(item) for item in items}
        old = MAPPING.stubs(before) if before is not None else []
        graves = [tombstone(stub, version, TTL) for stub in old if key_of(stub) not in kept]
        if self.broken == "no tombstones":
            for grave in graves:
                self.side.delete_older(grave)
            graves = []
        self.side.transact([*items, *graves], conditional=self.broken != "unconditional dual write")

    async def load(self, mode: str, at: Timestamp) -> None:
        """A page of a load: the real loader's encoding, writing and dead letters."""
        raw = self.page(at)
        if not raw:
            return
        job = Backfill(
            migration=MIGRATION, source=self.source, ledger=self.ledger, identity=self.identity, progress=Quiet(),
            stop=threading.Event(), run="r",
        )  # fmt: skip
        loader = _Loader(job, self.target, DOCS, _Lease(), NoLimit(), mode)  # type: ignore[arg-type]
        page = _Page(raw, snapshot_version(at), id_of(raw[-1]))
        part = loader._encode(page, range(len(raw)))
        page.parts.append(part)
        await loader._account(page, [await loader._write(part)])

    # --- replicators ---------------------------------------------------------------------------------------------------

    def start_replicator(self, position: StreamPosition) -> None:
        work = Applying(
            migration=MIGRATION, source=self.source, ledger=self.ledger, target=self.target, budget=NoLimit(),
            guard=lambda: None, stop=threading.Event(),
        )  # fmt: skip
        kind = BrokenLanes if self.broken == "a letter closed by its own event" else Lanes
        lanes = kind(work, position)
        lanes.look_for_letters()
        self.replicators.append((lanes, self.source.follow(position, {DOCS: MAPPING.key_fields})))

    def read_stream(self) -> int:
        """The last replicator reads a batch; how many changes that were."""
        lanes, feed = self.replicators[-1]
        batch = feed.read(0.0)
        for change in batch.changes:
            lanes.put(replace(change, n=0) if self.broken == "no position inside a time" else change)
        return len(batch.changes)

    def save_position(self) -> None:
        self.saved.append(self.replicators[-1][0].position)

    async def replace_replicator(self) -> None:
        """Killed (what it had in mind is gone) or frozen (and released some time later); the next goes on from a saved place."""
        lanes, _ = self.replicators[-1]
        if self.random.random() < 0.6:
            await lanes.end()
            lanes.failure = lanes.failure or RuntimeError("killed")
        position = self.saved[-1] if self.random.random() < 0.7 else self.random.choice(self.saved)
        self.start_replicator(position)

    # --- a reader ------------------------------------------------------------------------------------------------------

    def items_of(self, pk: str) -> list[Item]:
        return [item for item in self.side.items() if item["PK"]["S"] == pk]

    def read(self) -> None:
        """What a reader takes for whole must be a document as it once was."""
        for name in self.names:
            items = self.items_of(f"DOC#{name}")
            roots = [item for item in items if item["SK"]["S"] == "ROOT"]
            if not roots:
                continue
            children = [item for item in items if item is not roots[0]]
            fits = roots[0].get("_digest", {}).get("S") == (digest_of(children) if children else None)
            if not fits:
                self.torn_reads += 1
                continue
            document = MAPPING.decode(items).document
            if not self.once_was(document):
                raise Diverged(f"a reader saw a document that never was: {document}")

    def once_was(self, document: Document) -> bool:
        wanted = _plain(document)
        return any(_plain(one) == wanted for one in self.history[document["_id"]])

    # --- the run -------------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)
        while self.target.busy:  # noqa: ASYNC110 - a real server takes its time, and many things move at once
            await asyncio.sleep(0.0005)
        if self.failure is not None:
            raise self.failure

    async def run(self, steps: int = 40) -> None:
        self.times.append(self.source.cluster_time())
        for _ in range(self.random.randrange(4)):
            self.write(self.random.choice(self.ids))
        position = self.source.stream_position()
        self.ledger.write("position", "stream", state.position_body(position) | {"at": 0}, expect=None)
        before = len(self.times)
        for _ in range(self.random.randrange(4)):
            self.write(self.random.choice(self.ids))
        await self.first_load(before)
        self.saved.append(position)
        self.start_replicator(position)
        for _ in range(steps):
            await self.step()
            await self.settle()
        await self.finish()

    async def first_load(self, before: int) -> None:
        """Without conditions: nobody else puts yet. `before` is how many writes were before the recorded position."""
        at = self.source.cluster_time()
        if self.broken == "page before the position":
            at = self.random.choice(self.times[max(0, before - 3) : before])
        self.begin(self.load(BULK, at))
        await self.open_all()

    async def step(self) -> None:
        draw = self.random.random()
        if draw < 0.18:
            self.write(self.random.choice(self.ids))
        elif draw < 0.24:
            self.transact()
        elif draw < 0.34:
            self.begin(self.dual_write())
        elif draw < 0.38:
            back = self.earlier(4)
            position = state.recorded_position(self.ledger)
            assert position is not None
            self.begin(self.load(CONDITIONAL, max(back, position.time)))
        elif draw < 0.5:
            self.read_stream()
        elif draw < 0.54:
            self.save_position()
        elif draw < 0.58:
            await self.replace_replicator()
        elif draw < 0.62:
            self.read()
        else:
            self.gates.open_one()

    async def open_all(self) -> None:
        await self.settle()
        while len(self.gates) or self.tasks:
            self.gates.open_one()
            await self.settle()

    async def finish(self) -> None:
        """Everybody comes to an end, in any order, while the last replicator applies all there is."""
        self.start_replicator(self.saved[-1])
        while self.read_stream() or len(self.gates) or self.tasks or self.replicators[-1][0].pending:
            await self.settle()
            self.gates.open_one()
            await self.settle()
            failure = self.replicators[-1][0].failure
            if failure is not None:
                raise failure
        for lanes, _ in self.replicators:
            await lanes.end()
        self.read()
        self.compare()

    def compare(self) -> None:
        """Raises Diverged unless DynamoDB holds exactly the items of the documents that can be stored."""
        expected: dict[Any, Item] = {}
        for data in self.page(self.source.cluster_time()):
            try:
                expected.update({key_of(item): _content(item) for item in encode_raw(MAPPING, data, 0)})
            except DocumentError:
                if state.letter_record(self.ledger, DOCS, f"~i{decode_document(data)['_id']}") is None:
                    raise Diverged("a document that cannot be stored has no dead letter") from None
        stored = {key_of(item): _content(item) for item in self.side.items()}
        for key in {*expected, *stored}:
            if expected.get(key) != stored.get(key):
                raise Diverged(f"{key}: expected {expected.get(key)}, stored {stored.get(key)}")


def _content(item: Item) -> Item:
    return {name: value for name, value in item.items() if name != "_v"}


def _plain(document: Document) -> Document:
    return {name: value for name, value in document.items() if value != []}


@contextlib.contextmanager
def calls_inline(patch: Any) -> Iterator[None]:
    """Blocking calls of the fakes do not block: no thread is needed, and the run is the seed's alone."""

    async def aside(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return call(*arguments)

    async def to_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    patch.setattr("docferry.flows.applying.aside", aside)
    patch.setattr("docferry.flows.loading.aside", aside)
    patch.setattr("asyncio.to_thread", to_thread)
    yield
