"""What has changed since a time, and whether exactly that is equal: a look at everything would take too long while writes wait.

A validation says up to which time all is equal. From there the change stream names each document that was changed since, and
the keys that it had before. Once MongoDB is fenced and everything has been applied, these are compared exactly: nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bson.timestamp import Timestamp

from docferry.core.compare.diff import Difference, DifferenceKind, differences_of, is_tombstone
from docferry.core.compare.masking import shown_id, shown_key_of
from docferry.core.mapping.change_writes import DecodedChange
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, id_of, id_text
from docferry.errors import DocumentError, OutsideFilter, PreflightFailed, Problem, ResumeTokenLost, StreamEnded
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.positions import recorded_position
from docferry.flows.validate.common import PAGE_DOCUMENTS, keys_accounted_for, read_ids
from docferry.flows.validate.suspects import Suspect
from docferry.ports.flows import ChangeEvent, Feed, StreamPosition, Target

READ_WAIT_S = 0.2
MOST_CHANGED = 200_000
"""Documents. Past that, a validation finds more in less time."""


@dataclass(slots=True)
class ChangedDocuments:
    """Documents changed since `since`, by collection, and the keys of their items before and after, by table.

    Everything before `read_up_to` has been seen.
    """

    since: Timestamp
    read_up_to: StreamPosition
    ids: dict[str, dict[bytes, None]] = field(default_factory=dict, repr=False)
    keys: dict[str, dict[ItemKey, None]] = field(default_factory=dict, repr=False)

    @property
    def documents(self) -> int:
        return sum(map(len, self.ids.values()))

    def see(self, change: ChangeEvent, mapping: DocumentMapping) -> None:
        """One more change. Raises PreflightFailed past MOST_CHANGED."""
        if self.documents >= MOST_CHANGED:
            what = f"more than {MOST_CHANGED:,} documents have changed since the last validation"
            raise PreflightFailed(
                "the documents changed since", [Problem(where="validate", what=what, suggestion="validate")]
            )
        decoded = DecodedChange.of(mapping, change.after, change.before, change.version)
        if decoded.outside and not change.images_lost:
            return
        self.ids.setdefault(change.collection, {})[change.id] = None
        self.keys.setdefault(mapping.table, {}).update(dict.fromkeys(decoded.keys()))


class ChangeWatch:
    """Follows the change stream beside replication, from a time or a position on, and only takes notes."""

    def __init__(self, job: Job, since: Timestamp | StreamPosition) -> None:
        self._job = job
        self._feed: Feed | None = None
        if isinstance(since, StreamPosition):
            self.changed = ChangedDocuments(since.time, since)
        else:
            self.changed = ChangedDocuments(since, job.source.stream_position(since))

    async def read_until(self, time: Timestamp) -> None:
        """Up to and including that time. Raises as `Feed.read` does; Stopped."""
        at, more = self.changed.read_up_to.time, True
        while at < time or (at == time and more):  # those of a large transaction come in several batches
            more = await self._read()
            at = self.changed.read_up_to.time

    def start_over(self, since: Timestamp) -> None:
        """What is behind `since` has been found equal."""
        self.changed = ChangedDocuments(since, self.changed.read_up_to)

    async def close(self) -> None:
        if self._feed is not None:
            await in_thread(self._feed.close, within_s=2.0)
            self._feed = None

    async def _read(self) -> bool:
        """Whether there was anything."""
        job = self._job
        if self._feed is None:
            fields = {name: mapping.key_fields for name, mapping in job.migration.mappings.items()}
            self._feed = await in_thread(job.source.follow, self.changed.read_up_to, fields, stop=job.stop)
        batch = await in_thread(self._feed.read, READ_WAIT_S, stop=job.stop)
        for change in batch.changes:
            self.changed.see(change, job.migration.mapping(change.collection))
        self.changed.read_up_to = batch.position
        return bool(batch.changes)


class Unreplicated:
    """What is still on its way where replication has never run: whatever the change stream names since the load.

    The stream is read only when it is asked for: a validation that suspects nothing needs none of it.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._watch: ChangeWatch | None = None
        self._all = False
        """It is not known what has changed: too much, or the stream cannot be read over something. So it may be anything."""

    async def read_until(self, time: Timestamp) -> None:
        """Everything up to that time. Without a load's position nothing is on its way. Raises StoreError; Stopped."""
        if self._watch is None:
            position = await in_thread(recorded_position, self._job.ledger, stop=self._job.stop)
            if position is None:
                return
            self._watch = ChangeWatch(self._job, position)
        try:
            await self._watch.read_until(time)
        except (PreflightFailed, ResumeTokenLost, StreamEnded):
            self._all = True

    def holds(self, one: Suspect) -> bool:
        """Whether a suspect may be different only because of what has not been replicated."""
        if self._watch is None or self._all:
            return self._all
        changed = self._watch.changed
        return one.id in changed.ids.get(one.collection, ()) or one.key in changed.keys.get(one.table, ())

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()


@dataclass(slots=True)
class Compared:
    """What differs, in words, and which documents and keys these are: to be looked at again while things move."""

    differences: list[Difference] = field(default_factory=list)
    ids: dict[str, dict[bytes, None]] = field(default_factory=dict, repr=False)
    keys: dict[str, dict[ItemKey, None]] = field(default_factory=dict, repr=False)

    def differs(self, collection: str, id_data: bytes, found: Sequence[Difference]) -> None:
        if found:
            self.differences += found
            self.ids.setdefault(collection, {})[id_data] = None

    def is_extra(self, table: str, key: ItemKey, found: Difference) -> None:
        self.differences.append(found)
        self.keys.setdefault(table, {})[key] = None


async def compare_changed(job: Job, target: Target, changed: ChangedDocuments, at: Timestamp) -> Compared:
    """Everything in which the items of these documents are not those of MongoDB at `at`; proof, when nothing moves."""
    compared = Compared()
    for collection, ids in changed.ids.items():
        mapping, listed = job.migration.mapping(collection), list(ids)
        for start in range(0, len(listed), PAGE_DOCUMENTS):
            await _compare_page(job, target, mapping, listed[start : start + PAGE_DOCUMENTS], at, compared)
    for table, keys in changed.keys.items():
        await _compare_keys(job, target, table, list(keys), at, compared)
    return compared


async def _compare_page(
    job: Job, target: Target, mapping: DocumentMapping, ids: Sequence[bytes], at: Timestamp, compared: Compared
) -> None:
    name, masked = mapping.collection, job.migration.validate.masked
    expected: list[tuple[bytes, list[Item]]] = []
    for data in await in_thread(read_ids, job, name, ids, at, stop=job.stop):
        try:
            expected.append((data, encode_raw(mapping, data, 0)))
        except OutsideFilter:
            continue  # it has no items: those that it may have had are looked for by their keys
        except DocumentError as error:
            compared.differs(name, id_of(data), [_unstorable(name, shown_id(id_text(data), masked), error)])
    keys = {key_of(item): None for _, items in expected for item in items}  # a request may not name one twice
    stored = await target.get_all(mapping.table, list(keys))
    for data, items in expected:
        found = [differences_of(mapping, item, stored.get(key_of(item)), id_text(data), masked) for item in items]
        compared.differs(name, id_of(data), [one for of_item in found for one in of_item])


async def _compare_keys(
    job: Job, target: Target, table: str, keys: Sequence[ItemKey], at: Timestamp, compared: Compared
) -> None:
    """Items that are alive where no document has one any more."""
    stored = await target.get_all(table, keys)
    live = [item for item in stored.values() if not is_tombstone(item)]
    accounted = await in_thread(keys_accounted_for, job, table, live, at, stop=job.stop) if live else set()
    for item in live:
        if key_of(item) not in accounted:
            compared.is_extra(table, key_of(item), _extra(job, item))


def _unstorable(collection: str, shown: str, error: DocumentError) -> Difference:
    return Difference(
        kind=DifferenceKind.UNACCOUNTED, collection=collection, id=shown, pk="", sk="", path=error.path,
        expected="a document that DynamoDB can hold", actual=error.reason,
    )  # fmt: skip


def _extra(job: Job, item: Item) -> Difference:
    entity = item.get("entityType", {}).get("S", "")
    mapping = next(one for one in job.migration.mappings.values() if entity in one.kinds)
    pk, sk = shown_key_of(mapping, entity, key_of(item), job.migration.validate.masked)
    return Difference(
        kind=DifferenceKind.EXTRA,
        collection=mapping.collection,
        id="",
        pk=pk,
        sk=sk,
        expected="no item",
        actual="an item",
    )
