"""Proof that writes to DynamoDB have reached MongoDB. A stream has no watermark, so the documents themselves are compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from docferry.core.compare.diff import is_version
from docferry.core.mapping.items import Item, ItemKey
from docferry.core.mapping.raw import same_content
from docferry.core.versions import version_text
from docferry.errors import DocumentError, ItemsUnreadable, NotApplied, Stopped, TransientStoreError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.reverse_letters import item_name
from docferry.flows.reverse.places import Place, maps_to, places_of, read_document
from docferry.ports.flows import StreamRecord, Target

LOOK_AGAIN_S = 0.2
AT_ONCE = 16


class Write(NamedTuple):
    """An item that was written, or buried, with this version."""

    table: str
    key: ItemKey
    version: int


async def wait_until_applied(job: Job, target: Target, writes: Sequence[Write], within_s: float) -> None:
    """Wait until MongoDB holds what DynamoDB holds for every document of these writes.

    Holds:  for each write, DynamoDB showed its version or a later one, and then MongoDB's copy was what DynamoDB's items
            decode to; or, if they are gone, MongoDB had no copy that maps to their key. If no process writes meanwhile, that
            is proof. Dead letters show as what is left. Items of types that the file does not know are not looked at.
    Raises: NotApplied, naming the documents, after `within_s`; Stopped; StoreError that does not pass.
    """
    deadline = time.monotonic() + within_s
    left = list(dict.fromkeys(writes))
    named: list[tuple[str, str]] = []
    while left:
        if job.stop.is_set():
            raise Stopped("asked to stop while waiting for MongoDB to hold what DynamoDB does")
        found = await unapplied(job, target, left)
        left, named = [write for write, _ in found], list(dict.fromkeys(name for _, name in found))
        if not left:
            return
        if time.monotonic() > deadline:
            raise NotApplied(named, within_s)
        await asyncio.sleep(LOOK_AGAIN_S)


async def unapplied(job: Job, target: Target, writes: Sequence[Write]) -> list[tuple[Write, tuple[str, str]]]:
    """One look: the writes of which MongoDB does not hold what DynamoDB does (see `wait_until_applied`), with their documents.

    Items are read a hundred at once, and each document once, however many of its items were written. What could not be read
    for now counts as not applied.
    Raises: StoreError that does not pass.
    """
    try:
        items = await items_of(target, writes)
    except TransientStoreError:
        return [(write, (write.table, item_name(write.key))) for write in writes]
    found: list[tuple[Write, tuple[str, str]]] = []
    at: list[tuple[Write, Place]] = []
    for write in writes:
        item = items.get((write.table, write.key))
        if item is None or not shows(item, write.version):
            found.append((write, (write.table, item_name(write.key))))
            continue
        record = StreamRecord(sequence="", key=write.key, created_ms=0, new=item)
        for place in places_of(record, job.migration.entities(write.table)):
            if isinstance(place, ItemsUnreadable):
                found.append((write, (place.namespace, item_name(write.key))))
            elif isinstance(place, Place):
                at.append((write, place))
    lacking = await _lacking(job, target, [place for _, place in at])
    return found + [(write, place.document) for write, place in at if _name(place) in lacking]


async def items_of(target: Target, writes: Sequence[Write]) -> dict[tuple[str, ItemKey], Item]:
    """What DynamoDB shows now in the places of these writes, by table and key. Raises StoreError."""
    keys: dict[str, dict[ItemKey, None]] = {}
    for write in writes:
        keys.setdefault(write.table, {})[write.key] = None
    return {
        (table, key): item
        for table, wanted in keys.items()
        for key, item in (await target.get_all(table, list(wanted))).items()
    }


def _name(place: Place) -> tuple[str, bytes, str, str]:
    return place.mapping.collection, place.id, place.pk, place.sk


async def _lacking(job: Job, target: Target, places: Sequence[Place]) -> set[tuple[str, bytes, str, str]]:
    """The places (by `_name`) of documents that MongoDB does not hold as DynamoDB does."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def holds(place: Place) -> bool:
        async with slots:
            try:
                return await _holds(job, target, place)
            except TransientStoreError:
                return False  # not known yet: the next look tells

    each = {_name(place): place for place in places}
    answers = await asyncio.gather(*map(holds, each.values()))
    return {name for name, held in zip(each, answers, strict=True) if not held}


def shows(item: Item, version: int) -> bool:
    """Whether an item is of this version or a later one."""
    stored = item.get("_v", {})
    return is_version(stored) and bool(stored["S"] >= version_text(version))


async def _holds(job: Job, target: Target, place: Place) -> bool:
    try:
        data = await read_document(target, place)
    except DocumentError:
        return False
    current = await in_thread(job.sink.current, place.mapping.collection, place.id, stop=job.stop)
    if data is not None:
        return current is not None and same_content(current, data, ordered=place.mapping.keeps_order)
    return current is None or not maps_to(current, place)
