"""The two databases of a run: in memory here, on real servers in `real_side`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from random import Random
from typing import Any, Protocol

from bson.timestamp import Timestamp
from docferry.config import Migration, parse_migration
from docferry.core.mapping.items import Item, key_of
from docferry.core.mapping.raw import id_bytes
from docferry.flows.replicate.lanes import LANES
from docferry.ports.flows import Bounds, Ledger, Source, Target
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget

DATABASE = "converging"
_FILE = """
migration: converge
source: {database: converging}
tables: {Converging: {}}
backfill: {budget_wcu: 0}
collections:
  docs:
    table: Converging
    overflow: compress
    item: {entity: DOC, key: {PK: "DOC#{name}", SK: ROOT}}
    children:
      parts: {entity: PART, key: {SK: "PART#{kind}#{index:03d}"}}
    unique:
      _id_: [_id]
      mail_1: {key: [mail], partial: {active: {$exists: true}, mail: {$gt: ""}}}
      tags_1: {key: [tags], sparse: true}
"""
MIGRATION = parse_migration(_FILE.encode())
TRANSFORMED = parse_migration(f"{_FILE}    transform: support.transforms:counted\n".encode())
"""The same by a transform of the user's own, of which one changed part changes all items."""
KEPT = parse_migration(f"{_FILE}    order: keep\n".encode())
"""The same with the order of fields."""
MAPPING = MIGRATION.mapping("docs")
TABLE, DOCS, OTHERS, TTL = "Converging", "docs", "others", MIGRATION.table("Converging").ttl_attribute
EVERYTHING = Bounds(None, None)

REFUSED_KIND = "z"
"""Where DynamoDB can be told to, it refuses parts of this kind: others of their document it may have taken by then."""

Document = dict[str, Any]
Made = tuple[int, Document | None, tuple[str, ...] | None]
"""(id, the document then or None, the paths that an update names, None for an insert or a replace)."""


class Side(Protocol):
    """What a run asks of its databases. `migration` is its file; `ids`, `names` and `mails` are its own, and `bounds` lie around
    the ids; `kinds` are those of parts, `look_s` is how long to wait before looking again."""

    @property
    def migration(self) -> Migration: ...

    @property
    def source(self) -> Source: ...

    @property
    def target(self) -> Target: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def mails(self) -> Sequence[str]: ...

    @property
    def bounds(self) -> Bounds: ...

    @property
    def kinds(self) -> str: ...

    @property
    def look_s(self) -> float: ...

    def write(self, changes: Sequence[Made]) -> Timestamp:
        """Make the changes, several in one transaction; their time."""

    def let_time_pass(self) -> None:
        """MongoDB's time moves on without a change of a document."""

    async def items(self) -> list[Item]:
        """All live items of this run."""

    async def transact(self, items: Sequence[Item], conditional: bool) -> None:
        """All puts or none, as TransactWriteItems; with a condition each only over what is older."""

    async def delete_older(self, item: Item) -> None:
        """What a tombstone would be, if there were none."""


def names_for(documents: int, mark: str = "") -> list[str]:
    """One more than there are documents: so a name can be free, and pass from one to another."""
    return [f"{mark}{'abcdefgh'[index]}" for index in range(documents + 1)]


def ids_for(documents: int, first: int, lanes: int) -> list[int]:
    """The next ids that are in no more than so many lanes; 0 means wherever they fall."""
    found: list[int] = []
    used: set[int] = set()
    while len(found) < documents:
        lane = zlib.crc32(id_bytes(first), zlib.crc32(DOCS.encode())) % LANES
        if not lanes or lane in used or len(used) < lanes:
            used.add(lane)
            found.append(first)
        first += 1
    return found


def is_storable(document: Document) -> bool:
    return "deep" not in document and all(part["kind"] != REFUSED_KIND for part in document.get("parts", ()))


def _is_refused(item: Item) -> bool:
    return item["SK"]["S"].startswith(f"PART#{REFUSED_KIND}") and "_deleted" not in item


class FakeSide:
    """Both databases in memory. One write in thirty is too large for the stream to bring its images."""

    bounds, look_s = EVERYTHING, 0.0
    kinds = "xxxxyyyy" + REFUSED_KIND

    def __init__(self, seed: int, documents: int = 2, lanes: int = 0, migration: Migration = MIGRATION) -> None:
        self.migration = migration
        self.ids, self.names = ids_for(documents, 1, lanes), names_for(documents)
        self.mails = self.names
        self.source, self.target, self.ledger = FakeSource({DOCS: []}), FakeTarget(), FakeLedger()
        self.source.batch_events = 4
        self.target.create_table(TABLE)
        self.target.refuses = _is_refused
        self.table = self.target.tables[TABLE]
        self._random = Random(f"side {seed}")

    def write(self, changes: Sequence[Made]) -> Timestamp:
        if len(changes) == 1 and changes[0][1] is not None and self._random.random() < 1 / 30:
            return self.source.put(DOCS, changes[0][1], changes[0][2], images_lost=True)
        return self.source.transaction(
            *((DOCS, document, key if document is None else touched) for key, document, touched in changes)
        )

    def let_time_pass(self) -> None:
        self.source.put(OTHERS, {"_id": 0})

    async def items(self) -> list[Item]:
        return [item for item in self.table.values() if "_deleted" not in item]

    async def transact(self, items: Sequence[Item], conditional: bool) -> None:
        if any(map(_is_refused, items)):
            return
        stored = [(self.table.get(key_of(item)), item) for item in items]
        if not conditional or all(old is None or old["_v"]["S"] < new["_v"]["S"] for old, new in stored):
            self.table.update({key_of(item): dict(item) for item in items})

    async def delete_older(self, item: Item) -> None:
        stored = self.table.get(key_of(item))
        if stored is not None and stored["_v"]["S"] < item["_v"]["S"]:
            del self.table[key_of(item)]
