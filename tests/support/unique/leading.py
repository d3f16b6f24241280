"""Random interleavings of clients of a leading DynamoDB, over docferry's own reader and putter and a table in memory.

Documents are made, changed and removed, exchange their values or pass them on, one alone or two in one transaction; every call
waits at a gate. After each transaction no value is two documents', and guards are exactly those of the live documents; a refusal
names a value that was another's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from docferry.client.items import guards as module
from docferry.client.items.putter import PreparedItems, Putter, requests_of
from docferry.client.items.reader import DocumentReader, StoredDocument
from docferry.config import parse_migration
from docferry.core.mapping.items import Item, ItemKey, is_guard, key_of, tombstone
from docferry.core.versions import version_in
from docferry.errors import ConditionFailed, KeyTaken

from support.client.memory_table import MemoryTable

Document = dict[str, Any]
MAPPING = parse_migration(b"""
migration: unique
source: {database: unique}
tables: {Unique: {}}
collections:
  docs:
    item: {entity: DOC, key: {PK: "DOC#{name}", SK: ROOT}}
    unique:
      _id_: [_id]
      mail_1: {key: [mail], partial: {active: {$exists: true}, mail: {$gt: ""}}}
      tags_1: {key: [tags], sparse: true}
""").mapping("docs")
IDS, NAMES, MAILS, FLOOR = (1, 2, 3), "abcd", "xyz", 1_000
TRIES = 5


class Diverged(AssertionError):
    """A value is two documents', a guard is not its document's, or a refusal is wrong."""


class CheckedTable(MemoryTable):
    """Looks after each transaction whether all is as it must be; says of a broken version rule as `Diverged` does."""

    def put(self, item: Item) -> None:
        try:
            super().put(item)
        except AssertionError as error:
            raise Diverged(str(error)) from error

    def _TransactWriteItems(self, request: Any) -> dict[str, Any]:
        reply = super()._TransactWriteItems(request)
        self.check()
        return reply

    def documents(self) -> list[Document]:
        roots = [item for item in self.items.values() if not is_guard(item) and "_deleted" not in item]
        return [MAPPING.decode([item]).document for item in roots]

    def check(self) -> None:
        owners = [(key, one["_id"]) for one in self.documents() for key in MAPPING.guards(one)]
        wanted = {key: str(owner) for key, owner in owners}
        if len(owners) > len(wanted):
            raise Diverged(f"two documents hold one value: {sorted(owners)}")
        guards = {k: item["_id"]["N"] for k, item in self.items.items() if is_guard(item) and "_deleted" not in item}
        if guards != wanted:
            raise Diverged(f"guards {guards} of documents {wanted}")


class World:
    def __init__(self, seed: int, clients: int = 3) -> None:
        self.random, self.seen = Random(seed), Counter[str]()
        self.waiting: list[asyncio.Future[None]] = []
        self.table = CheckedTable(self.gate)
        self.clients = clients
        self.serial = 0
        # What has stood there while MongoDB led: graves, some of them younger than anything else.
        for mail in MAILS:
            if self.random.random() < 0.5:
                old = {"_id": 9, "name": "z", "mail": mail, "active": True}
                (guard,) = [one for one in MAPPING.guard_items(old) if "mail_1" in one["PK"]["S"]]
                self.table.put(tombstone(guard, self.random.choice((5, FLOOR + 40)), "_ttl"))

    async def gate(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(self.client()) for _ in range(self.clients)]
            while not all(one.done() for one in working):
                await asyncio.sleep(0)
                if self.waiting:
                    self.waiting.pop(self.random.randrange(len(self.waiting))).set_result(None)

    async def client(self) -> None:
        putter, reader = Putter(MAPPING, self.table, lambda: None), DocumentReader(MAPPING, self.table)
        for _ in range(6):
            kind = self.random.choice(("insert", "change", "change", "delete", "swap", "pass"))
            ids = self.random.sample(IDS, 2 if kind in ("swap", "pass") else 1)
            for _ in range(TRIES):
                try:
                    await self.once(kind, ids, putter, reader)
                except ConditionFailed:
                    self.seen["lost the race"] += 1
                    continue
                break

    async def once(self, kind: str, ids: list[int], putter: Putter, reader: DocumentReader) -> None:
        found = [await self.find(one, reader) for one in ids]
        before = [reader.document(place) if place is not None else None for place in found]
        after = self.wanted(kind, ids, before)
        if after is None:
            return
        begun = {key: item["_id"]["N"] for key, item in self.table.items.items() if "_deleted" not in item}
        prepared: list[PreparedItems] = []
        try:
            for place, document in zip(found, after, strict=True):
                at = place
                if at is None and document is not None:
                    at = await reader.place(MAPPING.root_key(document))
                    if at.live:
                        raise KeyTaken("docs", MAPPING.key_values(document))
                if at is not None and (at.live or document is not None):
                    prepared.append(await putter.prepare(at, document, FLOOR))
            places = [key for one in prepared for key in one.keys]
            if len(set(places)) < len(places):
                return  # one takes the place of another: the client refuses that
            await putter.commit(prepared)
            self.seen[kind] += 1
        except KeyTaken as taken:
            self.require_taken(taken, ids, before, after, begun)

    async def find(self, one: int, reader: DocumentReader) -> StoredDocument | None:
        name = next((found["name"] for found in self.table.documents() if found["_id"] == one), None)
        if name is None:
            return None
        place = await reader.place((f"DOC#{name}", "ROOT"))
        document = reader.document(place)
        if document is None or document["_id"] != one:
            raise ConditionFailed("it has moved")
        return place

    def wanted(self, kind: str, ids: list[int], before: list[Document | None]) -> list[Document | None] | None:
        self.serial += 1
        first, last = before[0], before[-1]
        if kind == "insert":
            return None if first is not None else [self.made(ids[0], self.random.choice(NAMES))]
        if first is None:
            return None
        if kind == "delete":
            return [None]
        if kind == "change":
            return [self.made(ids[0], self.random.choice((first["name"], first["name"], *NAMES)))]
        if kind == "swap" and last is not None:
            mails = [one.get("mail") for one in (last, first)]
            return [self.with_mail(one, mail) for one, mail in zip((first, last), mails, strict=True)]
        gone = None if self.random.random() < 0.4 else self.with_mail(first, None)
        heir = last or {"_id": ids[-1], "name": self.random.choice(NAMES), "active": True}
        return [gone, self.with_mail(heir, first.get("mail"))]

    def made(self, one: int, name: str) -> Document:
        found: Document = {"_id": one, "name": name, "n": self.serial}
        if self.random.random() < 0.8:
            found["mail"] = self.random.choice(MAILS)
        if self.random.random() < 0.8:
            found["active"] = True
        if self.random.random() < 0.3:
            found["tags"] = self.random.sample(range(4), 2)
        return found

    def with_mail(self, document: Document, mail: Any) -> Document:
        bare = {name: value for name, value in document.items() if name != "mail"} | {"n": self.serial}
        return bare if mail is None else bare | {"mail": mail}

    def require_taken(
        self, taken: KeyTaken, ids: list[int], before: list[Document | None], after: list[Document | None],
        begun: dict[ItemKey, str],
    ) -> None:  # fmt: skip
        """It was another document's when this attempt began, or has become so; or two documents of the attempt want it."""
        self.seen["taken"] += 1
        if list(taken.key) == ["name"]:
            return
        wanted = Counter(key for one in after if one is not None for key in MAPPING.guards(one))
        mine = {str(one) for one in ids}
        now = {key: item["_id"]["N"] for key, item in self.table.items.items() if "_deleted" not in item}
        named = [key for key in wanted if key[0].startswith(f"UNIQUE#docs.{taken.index}#")]
        held = [{begun.get(key), now.get(key), *self.ever.get(key, ())} - {None} for key in named]
        new = {str(one) for one, old in zip(ids, before, strict=True) if old is None}
        if not any(owners - (mine - new) for owners in held) and max(wanted.values(), default=0) < 2:
            raise Diverged(f"refused for {taken.index}, which is nobody else's: {held}, {ids}, {before} -> {after}")

    @property
    def ever(self) -> dict[ItemKey, set[str]]:
        """Who has ever held a guard in this run."""
        found: dict[ItemKey, set[str]] = {}
        for transaction in self.table.transactions:
            for item in transaction:
                if is_guard(item) and "_deleted" not in item:
                    found.setdefault(key_of(item), set()).add(item["_id"]["N"])
        return found


# --- rules that a run can break --------------------------------------------------------------------------------------


async def _apart(self: Putter, prepared: list[PreparedItems]) -> None:
    """Documents in one request, their guards in another."""
    puts = requests_of(prepared)
    for part in (True, False):
        if some := [put for put in puts if is_guard(put["Put"]["Item"]) is part]:
            await self._transact(some)


BROKEN: dict[str, Callable[[Any], None]] = {
    "a gained value is not looked at": lambda patch: patch.setattr(
        "docferry.client.items.putter.is_anothers", lambda there, before: False
    ),
    "a document of the transaction that has changed is another": lambda patch: patch.setattr(
        module.ValueHolder, "has_changed", lambda self, guard: False
    ),
    "guards in a request of their own": lambda patch: patch.setattr(Putter, "commit", _apart),
    "versions of guards do not count": lambda patch: patch.setattr(
        "docferry.client.items.putter.version_in", lambda item: 0 if is_guard(item) else version_in(item)
    ),
    "what is given up stays": lambda patch: patch.setattr(
        "docferry.client.items.putter.guard_changes",
        lambda *asked: module.GuardChanges(gained=module.guard_changes(*asked).gained),
    ),
    "what one gives up and another gains is not netted": lambda patch: patch.setattr(
        "docferry.client.items.putter.netted", _not_netted
    ),
}


def _not_netted(guards: Any, holders: Any) -> Iterator[dict[str, Any]]:
    for one in guards:
        if one.error is not None:
            raise one.error
    seen: set[ItemKey] = set()
    for one in guards:
        if one.put is not None and one.key not in seen:
            seen.add(one.key)
            yield one.put


@contextmanager
def rule_broken(patch: Any, broken: str) -> Iterator[None]:
    with patch.context() as inner:
        if broken:
            BROKEN[broken](inner)
        yield


def one_run(runner: asyncio.Runner, seed: int) -> Counter[str]:
    """What was seen. Raises Diverged."""
    world = World(seed)
    try:
        runner.run(world.run())
    except* Diverged as group:
        raise group.exceptions[0] from None
    return world.seen
