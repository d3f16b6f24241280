"""Which records of a DynamoDB stream may tell of a write that came after DynamoDB had stopped leading. Pure.

While MongoDB leads, docferry writes to DynamoDB by versions of MongoDB's clock: replication, dual writes, loads and repairs.
What bears another version, or none, was written by a request of the time that DynamoDB led, or by a program without the library.
What is surely older than the switch is passed; of anything else it is asked what MongoDB holds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import Item
from docferry.core.versions import N_BITS, version_in
from docferry.ports.flows import StreamRecord

SURE_MS = 65_000
"""A record's time is rounded down, by DynamoDB to the second, by DynamoDB Local to the minute; clocks differ by some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reigned:
    """The time that DynamoDB led: its versions, and since when (ms since 1970) no process had a write under way any more."""

    floor: int
    end: int
    silent_ms: int

    def is_by_mongodb(self, version: int) -> bool:
        """Whether it is of MongoDB's clock. In the reign clients count on from the floor, one by one, so that the time in their
        versions stays the first one behind it; what reverse replication wrote to MongoDB has later times, and comes back by them.
        """
        return version > self.end or version >> N_BITS > (self.floor + 1) >> N_BITS


def why_no_stray(record: StreamRecord, reigned: Reigned, entities: Collection[str], ttl_attribute: str) -> str:
    """Why a record tells of no late write, for counting; '' if it may."""
    old, new = record.old, record.new
    if not {_entity(image) for image in (old, new) if image is not None} & set(entities):
        return "not of the migration"
    if new is None:
        assert old is not None
        if is_tombstone(old) or _has_expired(old, ttl_attribute, record.created_ms):
            return "an end by TTL, or a tombstone's"
        return ""
    version, before = version_in(new), version_in(old) if old is not None else 0
    if is_tombstone(new) and version == before:
        return "a burial"
    if reigned.is_by_mongodb(version):
        return "" if version == before else "by MongoDB's clock"
    if version > reigned.floor and record.created_ms < reigned.silent_ms - SURE_MS:
        return "of the time that DynamoDB led"
    return ""


def is_surely_late(record: StreamRecord, reigned: Reigned) -> bool:
    """Whether it was made behind the moment from which no process wrote any more, though its time is rounded down."""
    version = version_in(record.new) if record.new is not None else 0
    return reigned.is_by_mongodb(version) or record.created_ms > reigned.silent_ms


def _entity(item: Item) -> str:
    return str(item.get("entityType", {}).get("S", ""))


def _has_expired(item: Item, ttl_attribute: str, at_ms: int) -> bool:
    try:
        return float(item[ttl_attribute]["N"]) * 1000 <= at_ms + 1000
    except (KeyError, TypeError, ValueError):
        return False
