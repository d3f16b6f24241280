"""Validation: are the two databases equal, field by field, in both directions, while both are being written?

This is the first generation while MongoDB leads, which compares everything. From MongoDB: every document, read page by page at a
named snapshot, is mapped, its items fetched and compared. From DynamoDB: every item is scanned. If the keys scanned are exactly
the keys expected (their number and the sum of their 128-bit hashes are the same), nothing is extra, and MongoDB is not
asked again; else the documents of the items are fetched, and an item that none of them accounts for is extra. Where documents
have changed meanwhile the keys would hardly agree: a scan for the sum alone would be paid for in vain.

Whatever is found is only suspected: `recheck` looks at it again until it is proved different, or not. A full validation goes on
where it was killed (`progress`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from docferry.core.compare.diff import differences_of, is_tombstone
from docferry.core.compare.keysum import KeySum
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, id_of, id_text, item_id
from docferry.core.versions import snapshot_version
from docferry.errors import DocumentError, OutsideFilter
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread, unless_stopped
from docferry.flows.ledger.dead_letters import read_letter
from docferry.flows.ledger.mapping_fingerprint import require_mapping
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.positions import changes_applied
from docferry.flows.ledger.reigns import read_reigns
from docferry.flows.ledger.reports import CollectionResult, Direction, ValidationReport, latest_report
from docferry.flows.ledger.rooms.owners import require_owned
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.mongodb import require_source
from docferry.flows.validate.common import keys_accounted_for, keys_of, mark_of, owner_of, read_ids
from docferry.flows.validate.progress import Scan
from docferry.flows.validate.recheck import Generations
from docferry.flows.validate.reverse_first_pass import ReverseValidation
from docferry.flows.validate.skeleton import DocumentPage, Validation, leader_changed
from docferry.flows.validate.suspects import Suspect
from docferry.ports.flows import Target

__all__ = ["CollectionResult", "ValidationReport", "keys_accounted_for", "latest_report", "validate"]

SETTLE_S = 1.0
"""Between seeing a difference and looking again: a change on its way has arrived by then, or is late."""

KEYS = ("PK", "SK", "_id", "_v", "_deleted", "entityType")
"""What the first scan asks for: whether an item is alive, and whose."""
OWNERS = (*KEYS, "_t")
"""What naming its document takes: the hints say of which type its id is."""


async def validate(
    job: Job, target: Target, only: Sequence[str] = (), sample: int | None = None, record: bool = True
) -> ValidationReport:
    """Compare the collections (all, or `only` these; all documents, or a `sample` of each) and record the report.

    The leader is right, the other is judged. While MongoDB leads, a full and recorded validation is leased, and goes on
    where an earlier one was ended.

    Raises: PreflightFailed (also if the leader changes meanwhile, or MongoDB is not kept up to date any more), StoreError,
            RetryExhausted, LeaseHeld, LeaseLost, Stopped (within five seconds). A difference is no error here: look at `ok`.
    """
    await in_thread(require_mapping, job.migration, job.ledger, only, stop=job.stop)
    await in_thread(require_owned, job.migration, job.ledger, stop=job.stop)
    mode = await in_thread(read_mode, job.ledger, stop=job.stop)
    direction = ReverseValidation if mode.leader.dynamodb_leads else ForwardValidation
    return await unless_stopped(direction(job, target, only, sample).run(record), job.stop)


class ForwardValidation(Validation):
    """MongoDB leads: DynamoDB must hold what it does."""

    direction, resumable = Direction.FORWARD, True

    async def begin(self) -> None:
        await self.aside(require_source, self.job.migration, self.job.source)
        self.changes = await self.aside(changes_applied, self.job.ledger)
        self.reigns = await self.aside(read_reigns, self.job.ledger)
        self.floor = (await self.aside(read_mode, self.job.ledger)).floor

    async def end(self) -> None:
        mode = await self.aside(read_mode, self.job.ledger)
        if mode.leader.dynamodb_leads or mode.floor != self.floor:
            raise leader_changed()

    async def first_pass(self) -> None:
        await self.from_mongo()
        await self.from_dynamo()

    def judging(self) -> Generations:
        return Generations(self.job, self.target, self.suspects, self.so_far.results, self.reigns, SETTLE_S)

    # --- MongoDB -> DynamoDB -----------------------------------------------------------------------------------------

    def count(self, mapping: DocumentMapping, page: DocumentPage) -> None:
        result = self.so_far.results[mapping.collection]
        result.documents += len(page.raw) - page.outside
        result.outside += page.outside
        result.items += page.items
        result.unstorable += page.unstorable
        self.so_far.expected.setdefault(mapping.table, KeySum()).add_sum(page.sums)
        self.so_far.see(page.at)

    async def compare(self, mapping: DocumentMapping, page: DocumentPage) -> DocumentPage:
        expected: list[tuple[bytes, list[Item]]] = []
        version = snapshot_version(page.at)
        for data in page.raw:
            try:
                items = encode_raw(mapping, data, version)
            except OutsideFilter:
                page.outside += 1
                continue
            except DocumentError:
                await self._unstorable(mapping, data, page)
                continue
            expected.append((data, items))
            page.items += len(items)
            page.sums.add_all(key_of(item) for item in items)
        keys = {key_of(item): None for _, items in expected for item in items}  # a request may not name one twice
        stored = await self.target.get_all(mapping.table, list(keys))
        for data, items in expected:
            if any(differences_of(mapping, item, stored.get(key_of(item)), "", ()) for item in items):
                mine = tuple(map(key_of, items))
                page.suspects.append(_suspect(mapping, data, [stored.get(key) for key in mine], mine))
        return page

    async def _unstorable(self, mapping: DocumentMapping, data: bytes, page: DocumentPage) -> None:
        page.unstorable += 1
        letter = await self.aside(read_letter, self.job.ledger, mapping.collection, id_text(data))
        if letter is None:
            page.suspects.append(_suspect(mapping, data, (), ()))

    # --- DynamoDB -> MongoDB -----------------------------------------------------------------------------------------

    async def scan_table(self, table: str) -> None:
        entities = self.job.migration.kinds(table)
        if self.so_far.scan is None:
            self.so_far.scan = self.new_scan(table, owners=self.sample is not None or await self._have_changed())
        if not self.so_far.scan.owners and not await self._keys_agree(self.so_far.scan, entities):
            self.so_far.scan = self.new_scan(table, owners=True)
        if self.so_far.scan.owners:
            await self._look_up(self.so_far.scan, entities)

    async def _have_changed(self) -> bool:
        """Whether documents have changed since the beginning, as far as replication has seen."""
        return bool(await self.aside(changes_applied, self.job.ledger) != self.changes)

    async def _keys_agree(self, scan: Scan, entities: Mapping[str, DocumentMapping]) -> bool:
        """True if the keys in the table are exactly those that MongoDB's documents have."""
        async with aclosing(self.scan(scan, KEYS)) as pages:
            async for items in pages:
                mine: list[ItemKey] = []
                for item in items:
                    if is_tombstone(item):
                        continue
                    mapping = owner_of(item, entities)
                    if mapping is None:
                        return False
                    if mapping.collection in self.mappings:
                        mine.append(key_of(item))
                scan.sums.add_all(mine)
        return scan.sums == self.so_far.expected.get(scan.table, KeySum())

    async def _look_up(self, scan: Scan, entities: Mapping[str, DocumentMapping]) -> None:
        async with aclosing(self.scan(scan, OWNERS)) as pages:
            async for items in pages:
                by_collection: dict[str, dict[bytes, list[Item]]] = {}
                for item in items:
                    if is_tombstone(item):
                        continue
                    mapping, id_data = owner_of(item, entities), item_id(item)
                    if mapping is None or id_data is None:
                        self.suspects.add(_strange(scan.table, "", b"", item))
                    elif mapping.collection in self.mappings:
                        by_collection.setdefault(mapping.collection, {}).setdefault(id_data, []).append(item)
                for collection, owners in by_collection.items():
                    await self._accounted(self.mappings[collection], owners)

    async def _accounted(self, mapping: DocumentMapping, owners: Mapping[bytes, list[Item]]) -> None:
        raw = await self.aside(read_ids, self.job, mapping.collection, list(owners))
        keys = {id_of(data): keys_of(mapping, data) for data in raw}
        for id_data, found in owners.items():
            for item in found:
                if key_of(item) not in keys.get(id_data, ()):
                    self.suspects.add(_strange(mapping.table, mapping.collection, id_data, item))


def _suspect(
    mapping: DocumentMapping, data: bytes, stored: Sequence[Item | None], keys: tuple[ItemKey, ...]
) -> Suspect:
    return Suspect(
        table=mapping.table, collection=mapping.collection, id=id_of(data), keys=keys, first_seen_ms=now_ms(),
        mark=mark_of(data, stored),
    )  # fmt: skip


def _strange(table: str, collection: str, id_data: bytes, item: Item) -> Suspect:
    return Suspect(
        table=table, collection=collection, id=id_data, key=key_of(item), first_seen_ms=now_ms(),
        mark=mark_of(b"", [item.get("_v")]),
    )  # fmt: skip
