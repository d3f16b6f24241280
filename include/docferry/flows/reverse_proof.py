"""Proof that writes to DynamoDB have reached MongoDB. A stream has no watermark, so the documents themselves are compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from docferry.core.diff import is_version
from docferry.core.mapping import Item, ItemKey
from docferry.core.raw import same_content
from docferry.core.versions import version_text
from docferry.errors import DocumentError, ItemsUnreadable, NotApplied, Stopped, TransientStoreError
from docferry.flows.background import aside
from docferry.flows.reverse import Reverse
from docferry.flows.reverse_letters import item_name
from docferry.flows.reverse_reading import Place, maps_to, places_of, read_document
from docferry.ports import StreamRecord, Target

LOOK_AGAIN_S = 0.2
AT_ONCE = 16


class Write(NamedTuple):
    """An item that was written, or buried, with this version."""

    table: str
    key: ItemKey
    version: int


async def wait_until_applied(job: Reverse, target: Target, writes: Sequence[Write], within_s: float) -> None:
    """Wait until MongoDB holds what DynamoDB holds for every document of these writes.

    Holds:  for each write, DynamoDB showed its version or a later one, and then MongoDB's copy was what DynamoDB's items
            decode to; or, if they are gone, MongoDB had no copy that maps to their key. If nobody writes meanwhile, that
            is proof. Dead letters show as what is left. Items of types that the file does not know are not looked at.
    Raises: NotApplied, naming the documents, after `within_s`; Stopped; StoreError that does not pass.
    """
    deadline = time.monotonic() + within_s
    left = list(dict.fromkeys(writes))
    named: list[tuple[str, str]] = []
    while left:
        if job.stop.is_set():
            raise Stopped("asked to stop while waiting for MongoDB to hold what DynamoDB does")
        found = await _unapplied(job, target, left)
        left, named = [write for write, _ in found], list(dict.fromkeys(name for _, name in found))
        if not left:
            return
        if time.monotonic() > deadline:
            raise NotApplied(named, within_s)
        await asyncio.sleep(LOOK_AGAIN_S)


async def _unapplied(job: Reverse, target: Target, writes: Sequence[Write]) -> list[tuple[Write, tuple[str, str]]]:
    """Those of which MongoDB does not hold what DynamoDB does, with their documents."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def look(write: Write) -> tuple[str, str] | None:
        async with slots:
            try:
                return await _lacking(job, target, write)
            except TransientStoreError:
                return write.table, item_name(write.key)  # not known yet: the deadline tells

    answers = await asyncio.gather(*(look(write) for write in writes))
    return [(write, name) for write, name in zip(writes, answers, strict=True) if name is not None]


async def _lacking(job: Reverse, target: Target, write: Write) -> tuple[str, str] | None:
    """The document that MongoDB does not hold as DynamoDB does; None if it does."""
    item = (await target.get_all(write.table, [write.key])).get(write.key)
    if item is None or not _shows(item, write.version):
        return write.table, item_name(write.key)
    record = StreamRecord(sequence="", key=write.key, created_ms=0, new=item)
    for place in places_of(record, job.migration.entities(write.table)):
        if isinstance(place, ItemsUnreadable):
            return place.namespace, item_name(write.key)
        if isinstance(place, Place) and not await _holds(job, target, place):
            return place.document
    return None


def _shows(item: Item, version: int) -> bool:
    stored = item.get("_v", {})
    return is_version(stored) and bool(stored["S"] >= version_text(version))


async def _holds(job: Reverse, target: Target, place: Place) -> bool:
    try:
        data = await read_document(target, place)
    except DocumentError:
        return False
    current = await aside(job.sink.current, place.mapping.collection, place.id, stop=job.stop)
    if data is not None:
        return current is not None and same_content(current, data)
    return current is None or not maps_to(current, place)
