"""Stray writes: what reached a database after it had stopped leading, each with what both databases held.

A letter of its own for each write, so that none takes another's place. It is closed by a person alone, and that it was stays
recorded.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

from docferry.errors import ConditionFailed, InvariantBroken
from docferry.flows.ledger.dead_letters import LETTER_PART_BYTES, bounded, letter_id
from docferry.flows.ledger.rooms.watch import Old
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

STRAYS, PARTS, SETTLED = "strays", "stray-parts", "strays-settled"
OLD_COPY, NEW_COPY = "old", "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """One write that is about to be noted. `place` is where it is in its stream: the same write has the same, however often it is
    read. `copies` are BSON: what the old leader was given, and what the new one holds; None where there is no document."""

    old: Old
    place: str
    collection: str
    id: str
    operation: str
    at: str
    who: str = ""
    remark: str = ""
    copies: tuple[bytes | None, bytes | None] = field(default=(None, None), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayLetter:
    """A write that was noted. `parts` counts the records of each copy, None where there is no document."""

    old: Old
    collection: str
    id: str
    operation: str
    at: str
    who: str
    remark: str
    at_ms: int
    parts: tuple[int | None, int | None]
    record: Record = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        return self.record.key

    def to_dict(self) -> dict[str, Any]:
        names = ("key", "collection", "id", "operation", "at", "who", "remark", "at_ms")
        held = {"in_old_leader": self.parts[0] is not None, "in_new_leader": self.parts[1] is not None}
        return {"reached": self.old.value} | {name: getattr(self, name) for name in names} | held

    def __str__(self) -> str:
        return f"{self.operation} of {self.collection} {self.id} in {self.old.label} at {self.at}"


def key_of(old: Old, place: str) -> str:
    """By which a stray write is found."""
    return f"{old.value}-{hashlib.sha256(place.encode()).hexdigest()[:20]}"


def open_stray(ledger: Ledger, stray: Stray) -> bool:
    """Note a write with both copies; False if it was noted before, or settled. The copies first: a letter that is there is whole.

    Raises: StoreError.
    """
    key = key_of(stray.old, stray.place)
    if ledger.read(STRAYS, key) is not None or ledger.read(SETTLED, key) is not None:
        return False
    parts = [_keep(ledger, key, name, copy) for name, copy in zip((OLD_COPY, NEW_COPY), stray.copies, strict=True)]
    body = {
        "old": stray.old.value,
        "collection": stray.collection,
        "id": letter_id(stray.id),
        "operation": stray.operation,
        "time": stray.at,
        "who": bounded(stray.who, 200),
        "remark": bounded(stray.remark),
        "at": now_ms(),
        "parts": [-1 if count is None else count for count in parts],
    }
    try:
        ledger.write(STRAYS, key, body, expect=None)
    except ConditionFailed:
        return False  # another process has noted it just now
    return True


def list_strays(ledger: Ledger) -> list[StrayLetter]:
    """Those that are not settled. Raises StoreError."""
    return [stray_in(record) for record in ledger.list(STRAYS)]


def read_stray(ledger: Ledger, key: str) -> StrayLetter | None:
    record = ledger.read(STRAYS, key)
    return stray_in(record) if record is not None else None


def stray_in(record: Record) -> StrayLetter:
    """What the record says."""
    body = record.body
    old, new = (None if int(count) < 0 else int(count) for count in body["parts"])
    return StrayLetter(
        old=Old(body["old"]),
        collection=body["collection"],
        id=letter_id(body["id"]),
        operation=body["operation"],
        at=body["time"],
        who=body["who"],
        remark=body["remark"],
        at_ms=int(body["at"]),
        parts=(old, new),
        record=record,
    )


def stray_copies(ledger: Ledger, letter: StrayLetter) -> tuple[bytes | None, bytes | None]:
    """BSON: (what the old leader was given, what the new one held). Raises InvariantBroken if parts are missing; StoreError."""
    old, new = (
        None if count is None else _kept(ledger, letter.key, name, count)
        for name, count in zip((OLD_COPY, NEW_COPY), letter.parts, strict=True)
    )
    return old, new


def settle_stray(ledger: Ledger, letter: StrayLetter, by: str, why: str) -> None:
    """A person has dealt with it: who and why stay, its copies go. Raises ConditionFailed if another has just now; StoreError."""
    told = {name: letter.record.body[name] for name in ("old", "collection", "id", "operation", "time", "who")}
    ledger.write(SETTLED, letter.key, told | {"by": by, "why": bounded(why), "settled": now_ms()}, expect=None)
    ledger.delete(letter.record)
    for name in (OLD_COPY, NEW_COPY):
        for part in ledger.list(PARTS, f"{letter.key}#{name}#"):
            ledger.delete(part)


def _keep(ledger: Ledger, key: str, name: str, copy: bytes | None) -> int | None:
    if copy is None:
        return None
    packed = zlib.compress(copy)
    parts = [packed[start : start + LETTER_PART_BYTES] for start in range(0, len(packed), LETTER_PART_BYTES)]
    for index, part in enumerate(parts):
        part_key = f"{key}#{name}#{index:05d}"
        ledger.write(PARTS, part_key, {"data": part}, expect=ledger.read(PARTS, part_key))
    return len(parts)


def _kept(ledger: Ledger, key: str, name: str, count: int) -> bytes:
    parts = ledger.list(PARTS, f"{key}#{name}#")[:count]
    if len(parts) != count:
        raise InvariantBroken(f"stray write {key}: {len(parts)} of {count} parts of a copy are there")
    return zlib.decompress(b"".join(part.body["data"] for part in parts))
