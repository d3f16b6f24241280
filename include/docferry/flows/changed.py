"""What has changed since a time, and whether exactly that is equal: a look at everything would take too long while writes wait.

A validation says up to which time all is equal. From there the change stream names each document that was changed since, and
the keys that it had before. Once MongoDB is fenced and everything has been applied, these are compared exactly: nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bson.timestamp import Timestamp

from docferry.core.diff import Difference, Kind, differences_of, is_tombstone
from docferry.core.mapping import Item, ItemKey, key_of
from docferry.core.mapping import Mapping as DocumentMapping
from docferry.core.masking import shown_id, shown_key
from docferry.core.raw import decode_document, encode_raw, id_text
from docferry.errors import DocumentError, PreflightFailed, Problem
from docferry.flows.background import aside
from docferry.flows.comparing import PAGE_DOCUMENTS, Validation, keys_accounted_for, read_ids
from docferry.ports import Change, Feed, StreamPosition, Target

READ_WAIT_S = 0.2
MOST_CHANGED = 200_000
"""Documents. Past that, a validation finds more in less time."""


@dataclass(slots=True)
class Changed:
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

    def see(self, change: Change, mapping: DocumentMapping) -> None:
        """One more change. Raises PreflightFailed past MOST_CHANGED."""
        if self.documents >= MOST_CHANGED:
            what = f"more than {MOST_CHANGED:,} documents have changed since the last validation"
            raise PreflightFailed(
                "the documents changed since", [Problem(where="validate", what=what, suggestion="validate")]
            )
        self.ids.setdefault(change.collection, {})[change.id] = None
        for image in (change.before, change.after):
            for stub in _stubs(mapping, image):
                self.keys.setdefault(mapping.table, {})[key_of(stub)] = None


def _stubs(mapping: DocumentMapping, image: bytes | None) -> Sequence[Item]:
    if image is None:
        return ()
    try:
        return mapping.stubs(decode_document(image))
    except DocumentError:
        return ()


class Watching:
    """Follows the change stream beside replication, and only takes notes."""

    def __init__(self, job: Validation, since: Timestamp) -> None:
        self._job = job
        self._feed: Feed | None = None
        self.changed = Changed(since, job.source.stream_position(since))

    async def read_until(self, time: Timestamp) -> None:
        """Up to and including that time. Raises as `Feed.read` does; Stopped."""
        at, more = self.changed.read_up_to.time, True
        while at < time or (at == time and more):  # those of a large transaction come in several batches
            more = await self._read()
            at = self.changed.read_up_to.time

    def start_over(self, since: Timestamp) -> None:
        """What is behind `since` has been found equal."""
        self.changed = Changed(since, self.changed.read_up_to)

    async def close(self) -> None:
        if self._feed is not None:
            await aside(self._feed.close, within_s=2.0)
            self._feed = None

    async def _read(self) -> bool:
        """Whether there was anything."""
        job = self._job
        if self._feed is None:
            fields = {name: mapping.key_fields for name, mapping in job.migration.mappings.items()}
            self._feed = await aside(job.source.follow, self.changed.read_up_to, fields, stop=job.stop)
        batch = await aside(self._feed.read, READ_WAIT_S, stop=job.stop)
        for change in batch.changes:
            self.changed.see(change, job.migration.mapping(change.collection))
        self.changed.read_up_to = batch.position
        return bool(batch.changes)


async def compare_changed(job: Validation, target: Target, changed: Changed, at: Timestamp) -> list[Difference]:
    """Everything in which the items of these documents are not those of MongoDB at `at`; exact, for when nothing moves."""
    found: list[Difference] = []
    for collection, ids in changed.ids.items():
        mapping, listed = job.migration.mapping(collection), list(ids)
        for start in range(0, len(listed), PAGE_DOCUMENTS):
            found += await _compare_page(job, target, mapping, listed[start : start + PAGE_DOCUMENTS], at)
    for table, keys in changed.keys.items():
        found += await _compare_keys(job, target, table, list(keys), at)
    return found


async def _compare_page(
    job: Validation, target: Target, mapping: DocumentMapping, ids: Sequence[bytes], at: Timestamp
) -> list[Difference]:
    masked = job.migration.validate.masked
    found: list[Difference] = []
    expected: list[tuple[bytes, list[Item]]] = []
    for data in await aside(read_ids, job, mapping.collection, ids, at, stop=job.stop):
        try:
            expected.append((data, encode_raw(mapping, data, 0)))
        except DocumentError as error:
            found.append(
                Difference(
                    kind=Kind.UNACCOUNTED,
                    collection=mapping.collection,
                    id=shown_id(id_text(data), masked),
                    pk="",
                    sk="",
                    path=error.path,
                    expected="a document that DynamoDB can hold",
                    actual=error.reason,
                )
            )
    stored = await target.get_all(mapping.table, [key_of(item) for _, items in expected for item in items])
    for data, items in expected:
        for item in items:
            found += differences_of(mapping, item, stored.get(key_of(item)), id_text(data), masked)
    return found


async def _compare_keys(
    job: Validation, target: Target, table: str, keys: Sequence[ItemKey], at: Timestamp
) -> list[Difference]:
    """Items that are alive where no document has one any more."""
    stored = await target.get_all(table, keys)
    live = [item for item in stored.values() if not is_tombstone(item)]
    accounted = await aside(keys_accounted_for, job, table, live, at, stop=job.stop) if live else set()
    return [_extra(job, item) for item in live if key_of(item) not in accounted]


def _extra(job: Validation, item: Item) -> Difference:
    entity = item.get("entityType", {}).get("S", "")
    mapping = next(one for one in job.migration.mappings.values() if entity in (one.root.entity, *one.children))
    plan = mapping.children.get(entity, mapping.root)
    pk, sk = shown_key(plan, key_of(item), job.migration.validate.masked)
    return Difference(
        kind=Kind.EXTRA, collection=mapping.collection, id="", pk=pk, sk=sk, expected="no item", actual="an item"
    )
