"""Repair and dead-letter replay, by the version rules: nothing newer is ever overwritten, nothing is plainly deleted.

A document that is missing or different is read again at a snapshot of now and put where nothing is stored or the
stored `_v` is smaller. An extra item becomes a tombstone of its own version, if the document that it names does not have it at
a snapshot of now: another document may have taken its key since, and whatever that one's writers bring is newer. What it
held is kept in the ledger first (section `replaced`), because a mistake in this step must not lose anything either.

While DynamoDB leads, its documents are right, and guards alone are mended, by what they hold (`guards.mending`).

What DynamoDB was given while it led, and was not written since, is neither overwritten nor buried: MongoDB may never have
got it, and then it is the only copy. A person writes to MongoDB what is right.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.compare.diff import is_tombstone
from docferry.core.compare.masking import shown_id
from docferry.core.cutover.modes import Mode
from docferry.core.cutover.permitted import Flow
from docferry.core.mapping.items import Item, ItemKey, is_guard, key_of, tombstone
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, encode_raw, id_of, id_text
from docferry.core.versions import parse_version, snapshot_version, version_in, version_time
from docferry.errors import DocumentError, InvariantBroken, OutsideFilter, Stopped
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import in_thread, unless_stopped
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.dead_letters import letter_key, open_letter
from docferry.flows.ledger.modes import read_mode, require_permitted
from docferry.flows.ledger.positions import recorded_position
from docferry.flows.ledger.reigns import Reigns, read_reigns
from docferry.flows.ledger.rooms.owners import read_neighbours
from docferry.flows.ledger.rooms.validation import keep_replaced
from docferry.flows.ledger.writers import writing
from docferry.flows.validate.common import keys_accounted_for, keys_of, read_ids
from docferry.flows.validate.first_pass import ValidationReport, validate
from docferry.flows.validate.guards.mending import GuardMending
from docferry.ports.flows import Guard, Target

BATCH_DOCUMENTS = 200
TIME_PASSES_WITHIN_S = 25.0
"""A replica set without writes looks every ten seconds, and notes the time if there were none since it last did."""


@dataclass(slots=True, kw_only=True)
class RepairReport:
    """What was done. Documents: read = written + superseded + dead-lettered + outside the collection's filter.

    A document is superseded if all of its items are newer in DynamoDB; `items_superseded` counts the items of any.
    `guards` were put while DynamoDB leads, for documents that lacked them. `kept` are items that were extra a moment ago, and now
    belong to a document or cannot be judged; of guards, those of values that two documents hold, too. `led` are documents and
    items of which DynamoDB holds what it was given while it led: it may be the only copy, and is left. `stuck` of the superseded
    items bear a `_v` that docferry cannot have written, or of a time to come: nothing that MongoDB does is newer.
    """

    documents: int = 0
    written: int = 0
    superseded: int = 0
    items_superseded: int = 0
    stuck: int = 0
    dead: int = 0
    outside: int = 0
    guards: int = 0
    kept: int = 0
    led: int = 0
    tombstones: int = 0
    tombstones_superseded: int = 0
    dry_run: bool = False
    before: ValidationReport | None = None

    def check(self) -> None:
        """Raises InvariantBroken if a document is unaccounted for."""
        accounted = self.written + self.superseded + self.dead + self.outside
        if self.documents != accounted:
            raise InvariantBroken(f"repair: {self.documents} read, {accounted} accounted for")

    @property
    def complete(self) -> bool:
        """All that was found has been mended. What was not is newer in DynamoDB, or cannot be stored."""
        if self.dry_run:
            return self.before is not None and self.before.ok
        return not (
            self.items_superseded or self.dead or self.tombstones_superseded or self.kept or self.led or self._unjudged
        )

    @property
    def _unjudged(self) -> int:
        return self.before.unchecked + self.before.pending if self.before else 0

    def to_dict(self) -> dict[str, Any]:
        names = [name for name in self.__dataclass_fields__ if name != "before"]
        return {name: getattr(self, name) for name in names} | {"found": self.before.to_dict() if self.before else None}


async def repair(job: Job, target: Target, only: Sequence[str] = (), dry_run: bool = False) -> RepairReport:
    """Validate, then mend what is different, missing or extra. Validate again to see that it is equal.

    Items of no collection are buried only if all collections were compared: one of another collection may have lost the
    name that says so, and its document mends it.

    While DynamoDB leads guards alone are mended, where the file names unique indexes.

    Raises: as `validate`, PreflightFailed while DynamoDB leads and there are no guards, LeaseHeld if another repair is under way,
            and InvariantBroken if a document is unaccounted for.
    """
    leading = any(one.unique for one in job.migration.mappings.values()) and await in_thread(_leads, job, stop=job.stop)
    flow = Flow.REPAIR_GUARDS if leading else Flow.REPAIR
    await in_thread(require_permitted, job.ledger, flow, stop=job.stop)
    before = await validate(job, target, only, record=not dry_run)
    report = RepairReport(dry_run=dry_run, before=before, led=before.led)
    if dry_run:
        return report
    if leading:
        await _mend_guards(job, target, before, report)
    elif any(any(found.values()) for found in (before.suspects, before.extra_keys, before.foreign_keys)):
        async with writing(job.ledger, job.identity, "repair", job.stop) as leased:
            await _mend(_Repair(job, target, report, leased), before, bool(only))
    report.check()
    return report


def _leads(job: Job) -> bool:
    return read_mode(job.ledger).mode is Mode.DYNAMODB_ONLY


async def _mend_guards(job: Job, target: Target, before: ValidationReport, report: RepairReport) -> None:
    if not before.guards:
        return
    async with writing(job.ledger, job.identity, "repair", job.stop, Flow.REPAIR_GUARDS) as leased:
        mode = await in_thread(read_mode, job.ledger, stop=job.stop)
        work = GuardMending(job, target, leased, mode.floor)
        for collection, wrong in before.guards.items():
            mapping = job.migration.mapping(collection)
            await work.documents(mapping, sorted({id_data for id_data, _ in wrong if id_data}))
            await work.without_holder(mapping.table, [key for _, key in wrong])
    report.guards, report.tombstones, report.kept = work.done.put, work.done.buried, work.done.kept


async def _mend(work: _Repair, before: ValidationReport, only_some: bool) -> None:
    await work.time_after([version_time(parse_version(text)) for text in before.versions])
    for collection, ids in before.suspects.items():
        await work.documents(work.job.migration.mapping(collection), sorted(ids))
    for table, keys in before.extra_keys.items():
        await work.bury(table, keys)
    for table, keys in before.foreign_keys.items():
        if only_some or before.unchecked:
            work.report.kept += len(keys)
        else:
            await work.bury(table, keys)


class _Repair:
    """Puts documents and tombstones; `leased` raises once the lease is lost under which all of it is read and written."""

    def __init__(self, job: Job, target: Target, report: RepairReport, leased: Guard) -> None:
        self.job, self.target, self.report, self.leased = job, target, report, leased
        self.budget = LedgerBudget(job.ledger, "wcu", budget_of(job.migration), job.stop)

    def guard(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; what was written stays, repair again to continue")
        self.leased()

    async def documents(self, mapping: DocumentMapping, ids: Sequence[bytes]) -> None:
        for start in range(0, len(ids), BATCH_DOCUMENTS):
            batch = ids[start : start + BATCH_DOCUMENTS]
            self.guard()
            raw, version = await in_thread(read_now, self.job, mapping.collection, batch, stop=self.job.stop)
            await self.put(mapping, await self._not_led(mapping, raw), version)

    async def _not_led(self, mapping: DocumentMapping, raw: Sequence[bytes]) -> list[bytes]:
        """Those of which DynamoDB does not hold what it was given while it led."""
        reigns = await self._reigns()
        keys = {data: keys_of(mapping, data) for data in raw if reigns.all}
        stored = await self._stored(mapping.table, list({key: None for found in keys.values() for key in found}))
        led = {data for data, mine in keys.items() if any(key in stored and reigns.bore(stored[key]) for key in mine)}
        self.report.led += len(led)
        return [data for data in raw if data not in led]

    async def _reigns(self) -> Reigns:
        return await in_thread(read_reigns, self.job.ledger, stop=self.job.stop)

    async def put(self, mapping: DocumentMapping, raw: Sequence[bytes], version: int) -> None:
        """Put these documents' items; one that cannot be stored gets a dead letter, and what is there of it is buried, as is what
        is there of one outside the collection's filter."""
        dead: list[bytes] = []
        outside: list[bytes] = []
        for data in raw:
            self.report.documents += 1
            try:
                items = self._encode(mapping, data, version)
                newer = await self._put_items(mapping, items)
            except OutsideFilter:
                outside.append(data)
                continue
            except DocumentError as error:
                error.id = error.id or id_text(data)
                await asyncio.to_thread(open_letter, self.job.ledger, mapping.collection, error, data, version)
                dead.append(data)
                continue
            self.report.items_superseded += len(newer)
            await self._look_at_newer(mapping, data, newer)
            if len(newer) == len(items):
                self.report.superseded += 1
            else:
                self.report.written += 1
        self.report.dead += len(dead)
        self.report.outside += len(outside)
        for data in (*dead, *outside):
            await self._bury_document(mapping, data)

    async def time_after(self, times: Sequence[Timestamp]) -> None:
        """Wait until MongoDB's time is none of these: a version wins over earlier ones only, not over its own time's.

        Times to come are not waited for: what bears them is newer, and stays.
        """
        deadline = time.monotonic() + TIME_PASSES_WITHIN_S
        while await self._cluster_time() in times and time.monotonic() < deadline:
            self.guard()
            await asyncio.sleep(0.1)

    async def _cluster_time(self) -> Timestamp:
        return await in_thread(self.job.source.cluster_time, stop=self.job.stop)

    async def _stored(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        return await unless_stopped(self.target.get_all(table, list(keys)), self.job.stop)

    @staticmethod
    def _encode(mapping: DocumentMapping, data: bytes, version: int) -> list[Item]:
        items = encode_raw(mapping, data, version)
        mapping.check_sizes(items)
        return items

    async def _put_items(self, mapping: DocumentMapping, items: Sequence[Item]) -> list[ItemKey]:
        """Those that were newer already. Children first: a reader trusts a root whose digest fits them."""
        newer: list[ItemKey] = []
        for part in (items[1:], items[:1]):
            written = await self.target.put_newer(mapping.table, part, self.budget, self.guard)
            for refused in written.refused.values():
                raise refused
            newer += [key_of(part[index]) for index in written.superseded]
        return newer

    async def _look_at_newer(self, mapping: DocumentMapping, data: bytes, keys: Sequence[ItemKey]) -> None:
        """Says which items only a person can mend."""
        stored = await self._stored(mapping.table, keys) if keys else {}
        now = snapshot_version(await self._cluster_time()) if keys else 0
        for key, item in stored.items():
            if 0 < version_in(item) <= now:
                continue
            self.report.stuck += 1
            name = f"{mapping.collection} {shown_id(id_text(data), self.job.migration.validate.masked)}"
            place = "root" if key == mapping.root_key(decode_document(data)) else "guard" if is_guard(item) else "child"
            self.job.progress.say(
                f"{name}: the `_v` of a {place} item is no version, or of a time to come, and nothing is newer: "
                "remove that attribute from the item, and repair again"
            )

    async def _bury_document(self, mapping: DocumentMapping, data: bytes) -> None:
        """What is stored of a document that has a dead letter now, or is none that is migrated: readers go to MongoDB for it.

        The tombstones are of now, so the document must be the same now: were it mended since it was read, or gone and its
        key another's, they would win over the items that replication has put since, and nothing would bring those back.
        They win over items of the same time, too: DynamoDB may have taken some before it refused another.
        """
        try:
            document = decode_document(data)
            keys = [*mapping.keys(document), *map(key_of, mapping.guard_items(document))]
        except DocumentError:
            return  # no keys, no items; what is there under older keys is extra
        time_now = await self._cluster_time()
        same = await in_thread(read_ids, self.job, mapping.collection, [id_of(data)], time_now, stop=self.job.stop)
        stored = await self._stored(mapping.table, list(dict.fromkeys(keys)))
        if same != [data]:
            self.report.kept += len(stored)
            return
        await self._entomb(mapping.table, stored, snapshot_version(time_now))

    async def bury(self, table: str, keys: Sequence[ItemKey]) -> None:
        """Tombstones for those of the items that are extra now. Not of now: all documents of now cannot be known, and one of
        them may own the key, by a change that replication has still to bring. What is newer than now is not judged."""
        reigns = await self._reigns()
        for start in range(0, len(keys), BATCH_DOCUMENTS):
            self.guard()
            time_now = await self._cluster_time()
            mine = await self._mine(table, keys[start : start + BATCH_DOCUMENTS])
            stored = await self._stored(table, mine)
            accounted = await in_thread(
                keys_accounted_for, self.job, table, list(stored.values()), time_now, stop=self.job.stop
            )
            extra = {key: item for key, item in stored.items() if key not in accounted}
            self.report.kept += len(stored) - len(extra)
            led = {key for key, item in extra.items() if not is_tombstone(item) and reigns.bore(item)}
            self.report.led += len(led)
            extra = {key: item for key, item in extra.items() if key not in led}
            of_then = {key: item for key, item in extra.items() if version_in(item) <= snapshot_version(time_now)}
            self.report.tombstones_superseded += sum(
                not is_tombstone(extra[key]) for key in extra.keys() - of_then.keys()
            )
            await self._entomb(table, of_then)

    async def _mine(self, table: str, keys: Sequence[ItemKey]) -> list[ItemKey]:
        """Without those of a migration that has begun to share the table since they were judged."""
        neighbours = await in_thread(read_neighbours, self.job.migration, self.job.ledger, stop=self.job.stop)
        mine = [key for key in keys if not neighbours.have(table, key[0])]
        self.report.kept += len(keys) - len(mine)
        return mine

    async def _entomb(self, table: str, items: Mapping[ItemKey, Item], version: int | None = None) -> None:
        """Tombstones of a version, or each of the version of its item."""
        live = {key: item for key, item in items.items() if not is_tombstone(item)}
        for key, item in live.items():
            await asyncio.to_thread(self._keep, table, key, item)
        ttl_attribute = self.job.migration.table(table).ttl_attribute
        versions = [version_in(item) if version is None else version for item in live.values()]
        tombstones = [tombstone(item, own, ttl_attribute) for item, own in zip(live.values(), versions, strict=True)]
        written = await self.target.put_newer(table, tombstones, self.budget, self.guard, or_same=True)
        self.report.tombstones_superseded += len(written.superseded)
        self.report.tombstones += len(tombstones) - len(written.superseded)

    def _keep(self, table: str, key: ItemKey, item: Item) -> None:
        data = json.dumps(item, sort_keys=True).encode()
        keep_replaced(self.job.ledger, table, letter_key(f"{key[0]}#{key[1]}"), data)


def read_now(
    job: Job, collection: str, ids: Sequence[bytes], floor: Timestamp | None = None
) -> tuple[list[bytes], int]:
    """Documents by id at a snapshot of now, not before `floor` and the stream position, and that snapshot's version."""
    position = recorded_position(job.ledger)
    least = max((at for at in (floor, position.time if position else None) if at is not None), default=Timestamp(0, 0))

    def once() -> tuple[list[bytes], int]:
        at = max(job.source.cluster_time(), least)
        return job.source.read_ids(collection, ids, at), snapshot_version(at)

    return retrying(f"read documents of {collection}", once, job.stop)
