"""Generations after the first: suspects are looked at again until they are proved different, or not.

The proof, where replication runs: T is a time up to which it has applied every change. The document as of T is mapped; an
item whose `_v` is not newer than T must be equal, for nothing that is still to come concerns it. An item that is newer has
moved on: it is compared with the document as of that item's own time, and equal there is equal; different there proves
nothing, and the next generation looks again. What stays proved for `settle_s` is a mismatch.

Where replication has never run, what the change stream names since the load is still on its way, and undecided. Of all else
nothing is on its way: what two looks, SETTLE_S apart, find different in the same way while neither side has moved is a mismatch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from bson.timestamp import Timestamp

from docferry.core.compare.diff import Difference, DifferenceKind, differences_of, is_tombstone, is_version
from docferry.core.compare.masking import shown_id, shown_key_of, shown_strange_key
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, id_of, id_text
from docferry.core.versions import parse_version, snapshot_version, version_time
from docferry.errors import DocumentError, OutsideFilter
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.dead_letters import read_letter
from docferry.flows.ledger.positions import ReplicationState, read_replication
from docferry.flows.ledger.reigns import Reigns
from docferry.flows.ledger.reports import CollectionResult
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import JUDGING_BEHIND_S, SEEN_S
from docferry.flows.validate.changed import Unreplicated
from docferry.flows.validate.common import PAGE_DOCUMENTS, is_of, keys_accounted_for, mark_of, read_ids
from docferry.flows.validate.judging import NO_COLLECTION, Judged, Judging
from docferry.flows.validate.suspects import Suspect, Suspects
from docferry.ports.flows import Target

POLL_S = 0.25
STILL_S = 60.0
"""Replication whose position has not moved for so long, while MongoDB's time has, stands still."""
START = "start it (docferry replicate, or the DAG replicate), and validate again"
NEVER_RUN = f"they have changed since the load, and replication has never run: {START}"
WRITTEN_S = 10.0
"""The same for documents, where replication has never run."""


@dataclass(frozen=True, slots=True)
class When:
    """The time of a look. `version` is that of everything applied by then, None where replication has never run.

    `latest` is the last version that there can be: an item that claims a later one is not newer, but wrong.
    """

    time: Timestamp
    version: int | None
    latest: int = 0


@dataclass(slots=True)
class _Look:
    """What a look at one document found: by item; whether it has moved on, and the newest version if an item says so; whether
    what is stored of a wrong item is what DynamoDB was given while it led."""

    found: list[list[Difference]] = field(default_factory=list)
    keys: list[ItemKey] = field(default_factory=list)
    moved: bool = False
    newest: int = 0
    unstorable: bool = False
    led: bool = False


class Generations(Judging):
    """Judges by replication's position. `results` are told of documents that turn out to be dead letters; what is of one of
    DynamoDB's `reigns` is told apart."""

    expected = "equal items"

    def __init__(
        self,
        job: Job,
        target: Target,
        suspects: Suspects,
        results: Mapping[str, CollectionResult],
        reigns: Reigns,
        again_s: float,
    ) -> None:
        super().__init__(job, target, suspects)
        self.results, self.reigns, self.again_s = results, reigns, again_s
        self.unreplicated = Unreplicated(job)
        self._first_look = 0.0

    async def run(self) -> Judged:
        try:
            return await super().run()
        finally:
            await self.unreplicated.close()

    async def generation(self) -> str:
        await self._pause()
        when = await self._when()
        if isinstance(when, str):
            return when
        self._first_look = self._first_look or time.monotonic()
        self.judged.generations += 1
        if when.version is None:
            await self.unreplicated.read_until(when.time)
        await self._look(when)
        self._decide(when)
        if when.version is None and len(self.suspects) and all(map(self._is_on_its_way, self.suspects)):
            return NEVER_RUN
        for_s = self.settle_s + (WRITTEN_S if when.version is None else JUDGING_BEHIND_S)
        return "some are written again before each look" if time.monotonic() - self._first_look > for_s else ""

    # --- when --------------------------------------------------------------------------------------------------------

    async def _pause(self) -> None:
        """Until something may have changed: a while, or until what is proved has been so for long enough."""
        wait_s = self.again_s
        if all(one.proved_ms for one in self.suspects):
            due_ms = min(one.proved_ms for one in self.suspects) + int(self.settle_s * 1000)
            wait_s = max(0.0, (due_ms - now_ms()) / 1000)
        await asyncio.sleep(wait_s or 0.01)

    async def _when(self) -> When | str:
        """A time up to which everything has been applied, not before now; why, if replication does not get there."""
        now = await self._cluster_time()
        replication = await self.aside(read_replication, self.job.ledger)
        position = replication.position
        if position is None:
            return When(now, None)
        began = moved = time.monotonic()
        applied, at_move = position.time, now
        while applied <= now:
            await asyncio.sleep(POLL_S)
            replication = await self.aside(read_replication, self.job.ledger)
            position = replication.position
            if position is not None and position.time != applied:
                applied, moved, at_move = position.time, time.monotonic(), await self._cluster_time()
            elif replication.at_ms and self._is_nobody(replication):
                return f"no process replicates, and {shown_time(applied)} is as far as it came: {START}"
            elif time.monotonic() - moved > STILL_S and await self._cluster_time() > at_move:
                return f"replication stands still at {shown_time(applied)}"
            elif time.monotonic() - began > JUDGING_BEHIND_S:
                return f"replication is at {shown_time(applied)}, {now.time - applied.time} s behind"
        before = _just_before(applied)
        return When(before, snapshot_version(before))

    def _is_nobody(self, replication: ReplicationState) -> bool:
        return replication.holder.expired(self.job.identity) and replication.noted_s_ago > SEEN_S

    async def _cluster_time(self) -> Timestamp:
        return await self.aside(self.job.source.cluster_time)

    # --- a look ------------------------------------------------------------------------------------------------------

    async def _look(self, when: When) -> None:
        documents, items = list(self.suspects.documents(PAGE_DOCUMENTS)), list(self.suspects.items(PAGE_DOCUMENTS))
        for collection, page in documents:
            await self._look_at_documents(self.job.migration.mapping(collection), page, when)
        for table, page in items:  # those that looking at documents has added have their turn in the next look
            await self._look_at_items(table, page, when)

    async def _look_at_documents(self, mapping: DocumentMapping, page: Sequence[Suspect], when: When) -> None:
        self.judged.rechecked += len(page)
        ids = [one.id for one in page]
        raw = {id_of(data): data for data in await self._read(mapping.collection, ids, when.time)}
        items = {id_data: _items_of(mapping, data) for id_data, data in raw.items()}
        wanted = {key_of(item): None for found in items.values() for item in found}
        stored = await self.target.get_all(mapping.table, list(wanted))
        self._see_versions(stored.values())
        when = await self._with_latest(when)
        for one in page:
            self._follow_keys(one, items.get(one.id, ()))
            if one.id not in raw:
                self.suspects.drop(one)
                continue
            look = await self._compare(mapping, raw[one.id], stored, when)
            if not look.found and look.newest:
                look = await self._compare_at_its_own_time(mapping, one, look)
            mark = mark_of(raw[one.id], [stored.get(key_of(item)) for item in items[one.id]])
            self._note(one, look, mark, when)

    def _follow_keys(self, one: Suspect, items: Sequence[Item]) -> None:
        """Items that the document had when it was seen last, and has no longer, must go."""
        keys = tuple(key_of(item) for item in items)
        for key in set(one.keys).difference(keys):
            item = Suspect(
                table=one.table, collection=one.collection, id=one.id, key=key, first_seen_ms=one.first_seen_ms
            )
            self.suspects.add(item)
        one.keys = keys

    async def _compare(self, mapping: DocumentMapping, data: bytes, stored: dict[ItemKey, Item], when: When) -> _Look:
        """Everything in which the stored items are not those of the document, but for items that are newer."""
        try:
            items = encode_raw(mapping, data, 0)
        except OutsideFilter:
            return _Look()  # it has left since: the items that it had must go, which is looked for by their keys
        except DocumentError as error:
            return await self._compare_unstorable(mapping, data, error)
        mine = [stored.get(key_of(item)) for item in items]
        look = _Look()
        for item, found in zip(items, mine, strict=True):
            wrong = differences_of(mapping, item, found, id_text(data), self.masked)
            newer = self._newer(found, when) if wrong else 0
            look.newest = max(look.newest, newer)
            look.moved = look.moved or bool(newer)
            if wrong:
                look.keys.append(key_of(item))
            if wrong and not newer:
                look.found.append(wrong)
                look.led = look.led or (found is not None and self.reigns.bore(found))
        nothing = not any(found is not None and is_of(found, items[0]["_id"]) for found in mine)
        if nothing and (look.found or look.moved) and await self._has_letter(mapping.collection, data):
            return _Look(unstorable=True)  # it maps, but DynamoDB would not take it
        return look

    async def _compare_unstorable(self, mapping: DocumentMapping, data: bytes, error: DocumentError) -> _Look:
        """Its letter must be there. A letter bears no time to go by, so the document must not have moved either."""
        if await self._has_letter(mapping.collection, data):
            return _Look()
        if data not in await self._read(mapping.collection, [id_of(data)], None):
            return _Look(moved=True)
        return _Look(found=[[_unaccounted(mapping.collection, shown_id(id_text(data), self.masked), error)]])

    async def _compare_at_its_own_time(self, mapping: DocumentMapping, one: Suspect, look: _Look) -> _Look:
        """The newest item tells when: a document that is equal then has caught up, whatever came after."""
        for data in await self._read(mapping.collection, [one.id], version_time(look.newest)):
            items = _items_of(mapping, data)
            self._follow_keys(one, items)
            stored = await self.target.get_all(mapping.table, [key_of(item) for item in items])
            if items and not any(differences_of(mapping, i, stored.get(key_of(i)), "", ()) for i in items):
                return _Look()
        return look

    async def _look_at_items(self, table: str, page: Sequence[Suspect], when: When) -> None:
        self.judged.rechecked += len(page)
        stored = await self.target.get_all(table, [one.key for one in page if one.key is not None])
        live = {key: item for key, item in stored.items() if not is_tombstone(item)}
        self._see_versions(live.values())
        when = await self._with_latest(when)
        accounted = await self.aside(keys_accounted_for, self.job, table, list(live.values()), when.time)
        for one in page:
            item = live.get(one.key) if one.key is not None else None
            if item is None or one.key in accounted:
                self.suspects.drop(one)
                continue
            newest = self._newer(item, when)
            if newest and await self._accounted_at_its_own_time(table, item, newest):
                self.suspects.drop(one)
                continue
            led = self.reigns.bore(item)
            look = _Look(moved=True) if newest else _Look(found=[[self._extra(one, item, led)]], led=led)
            self._note(one, look, mark_of(b"", [item.get("_v")]), when)

    async def _accounted_at_its_own_time(self, table: str, item: Item, newest: int) -> bool:
        return key_of(item) in await self.aside(keys_accounted_for, self.job, table, [item], version_time(newest))

    async def _with_latest(self, when: When) -> When:
        """To be asked after the items have been read."""
        return replace(when, latest=snapshot_version(await self._cluster_time()))

    def _newer(self, item: Item | None, when: When) -> int:
        """The item's version if it is newer than the look, else 0. Nothing is, where there is no replication."""
        if when.version is None or item is None or "_v" not in item or not is_version(item["_v"]):
            return 0
        version = parse_version(item["_v"]["S"])
        return version if when.version < version <= when.latest else 0

    async def _read(self, collection: str, ids: Sequence[bytes], at: Timestamp | None) -> list[bytes]:
        return await self.aside(read_ids, self.job, collection, ids, at)

    async def _has_letter(self, collection: str, data: bytes) -> bool:
        letter = await self.aside(read_letter, self.job.ledger, collection, id_text(data))
        return letter is not None

    def _see_versions(self, items: Iterable[Item]) -> None:
        self.judged.versions |= {item["_v"]["S"] for item in items if "_v" in item and is_version(item["_v"])}

    def _extra(self, one: Suspect, item: Item, led: bool) -> Difference:
        key = key_of(item)
        if one.collection:
            mapping = self.job.migration.mapping(one.collection)
            pk, sk = shown_key_of(mapping, item.get("entityType", {}).get("S", ""), key, self.masked)
        else:
            mappings = [mapping for mapping in self.job.migration.mappings.values() if mapping.table == one.table]
            pk, sk = shown_strange_key(mappings, key, self.masked)
        return Difference(
            kind=DifferenceKind.EXTRA, collection=one.collection or NO_COLLECTION, id=self.shown_id(one), pk=pk, sk=sk,
            expected="a document in MongoDB" if led else "no item",
            actual="an item that was written while DynamoDB led" if led else "an item",
        )  # fmt: skip

    # --- judging -----------------------------------------------------------------------------------------------------

    def _note(self, one: Suspect, look: _Look, mark: bytes, when: When) -> None:
        """What this look means for a suspect."""
        moved, one.mark = one.mark != mark, mark
        one.wrong_keys = tuple(look.keys)
        if look.found and (when.version is not None or not moved):
            one.found, one.led = look.found, look.led
            one.proved_ms = one.proved_ms or now_ms()
        elif look.found or look.moved:
            one.proved_ms = 0
        else:
            self.results[one.collection].unstorable += look.unstorable
            self.suspects.drop(one)

    def _decide(self, when: When) -> None:
        """What has been proved for long enough is a mismatch."""
        settle_ms = int(self.settle_s * 1000) if when.version is not None else 0
        for one in self.suspects:
            if one.proved_ms and now_ms() - one.proved_ms >= settle_ms and not self._is_on_its_way(one):
                self.is_mismatch(one)

    def _is_on_its_way(self, one: Suspect) -> bool:
        return self.unreplicated.holds(one)


def shown_time(at: Timestamp) -> str:
    """A cluster time as ISO date, in UTC."""
    return datetime.fromtimestamp(at.time, UTC).isoformat()


def _just_before(at: Timestamp) -> Timestamp:
    """The last time before a position's: of its own time something may still be to come."""
    return Timestamp(at.time, at.inc - 1) if at.inc else Timestamp(at.time - 1, 2**32 - 1)


def _items_of(mapping: DocumentMapping, data: bytes) -> list[Item]:
    """None for a document that cannot be stored."""
    try:
        return encode_raw(mapping, data, 0)
    except DocumentError:
        return []


def _unaccounted(collection: str, shown: str, error: DocumentError) -> Difference:
    return Difference(
        kind=DifferenceKind.UNACCOUNTED, collection=collection, id=shown, pk="", sk="", path=error.path,
        expected="a dead letter", actual=f"none ({error.reason})",
    )  # fmt: skip
