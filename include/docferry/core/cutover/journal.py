"""The journal that proves the way back: what was written while DynamoDB leads, and what never will be. Pure.

A process has lanes. A lane has one write in flight at most, and a partition of the journal's table of its own; its entries are
numbered 1, 2, 3... through all epochs. A write puts its document items and its entry, on condition that the entry's slot is
empty, in one transaction: so an entry is there if and only if its write has happened.

A write that failed, or whose answer is missing, leaves its slot to the lane's next write: whichever arrives first takes it, and
the other can never happen. A *void* takes a slot and holds nothing: what was on its way there never happens. So does a *seal*, by
the process that changes the leader, in the lane of a process that is silent: the process that meets it has been struck off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

JOURNAL = "journal"
"""What the mode's record requires of a client while each write must have an entry."""
FIRST_LANES, MOST_LANES = 2, 64
ENTRY_LIVES_S = 72 * 3600
"""By the table's TTL. Longer than any request can be on its way (15 minutes and the clocks' difference), and than a way back
may take that a person has to mend."""
ENTRY_ITEMS = 1
"""Of a transaction's items: the others are left for documents."""


class EntryKind(StrEnum):
    """What an entry says of its slot."""

    WRITE = "write"
    VOID = "void"
    SEAL = "seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote:
    """The root item that a write has put, or buried: its table, key, and version.

    `expires_s` is when TTL may remove it (seconds since 1970), 0: never. Of a moved document there are two, the old root, too.
    """

    table: str
    key: tuple[str, str] = field(repr=False)
    version: str
    expires_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is in a slot. `nonce` names one attempt: by it a process knows its own."""

    kind: EntryKind
    nonce: str
    wrote: Sequence[Wrote] = ()


@dataclass(frozen=True, slots=True, order=True)
class LaneName:
    """A lane of an instance: a partition of the journal."""

    instance: str
    number: int

    def partition(self, migration: str) -> str:
        return f"{migration}#{self.instance}#{self.number}"


def slot_key(slot: int) -> str:
    """The sort key of a slot, from 1: text order is number order."""
    return f"{slot:012d}"


# --- as an item ------------------------------------------------------------------------------------------------------


def entry_item(partition: str, slot: int, entry: Entry, now_s: int) -> dict[str, Any]:
    """In wire form."""
    wrote = [
        {"L": [*({"S": text} for text in (one.table, *one.key, one.version)), {"N": str(one.expires_s)}]}
        for one in entry.wrote
    ]
    return {
        "PK": {"S": partition},
        "SK": {"S": slot_key(slot)},
        "kind": {"S": entry.kind.value},
        "nonce": {"S": entry.nonce},
        "wrote": {"L": wrote},
        "_ttl": {"N": str(now_s + ENTRY_LIVES_S)},
    }


def entry_in(item: Mapping[str, Any]) -> tuple[int, Entry]:
    """The inverse of `entry_item`: the slot, and what is in it."""
    wrote = [[next(iter(value.values())) for value in one["L"]] for one in item["wrote"]["L"]]
    entry = Entry(
        kind=EntryKind(item["kind"]["S"]),
        nonce=item["nonce"]["S"],
        wrote=tuple(
            Wrote(table=table, key=(pk, sk), version=version, expires_s=int(expires))
            for table, pk, sk, version, expires in wrote
        ),
    )
    return int(item["SK"]["S"]), entry


def put_if_empty(table: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """A `Put` of an entry, in a transaction or alone."""
    return {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(PK)"}


# --- a lane, as its process knows it ---------------------------------------------------------------------------------


class Answer(StrEnum):
    """What a slot that is taken means for the write that was refused there."""

    HAPPENED = "happened"
    BEHIND = "behind"
    """An earlier write of this lane, whose answer was missing, has happened: go on in the next slot."""
    SEALED = "sealed"
    """This process was struck off: nothing of this write has happened, and never will."""
    FOREIGN = "foreign"
    """A copy of this process writes to the same lane: nothing of this write has happened here."""


@dataclass(slots=True, eq=False)
class Lane:
    """`last` is the last slot that is known to be taken, `unanswered` are the nonces of what may still take the next one."""

    name: LaneName
    last: int = 0
    unanswered: set[str] = field(default_factory=set)

    @property
    def next(self) -> int:
        return self.last + 1

    @property
    def in_doubt(self) -> bool:
        return bool(self.unanswered)

    def send(self, nonce: str) -> None:
        """A request for the next slot is about to be sent."""
        self.unanswered.add(nonce)

    def take(self) -> None:
        """The next slot is taken: whatever else was sent for it can never happen."""
        self.last += 1
        self.unanswered.clear()

    def meet(self, entry: Entry, nonce: str) -> Answer:
        """Learn what is in the next slot, where the request of this nonce was refused."""
        if entry.kind is EntryKind.SEAL:
            return Answer.SEALED
        if entry.nonce not in self.unanswered:
            return Answer.FOREIGN
        self.take()
        return Answer.HAPPENED if entry.nonce == nonce else Answer.BEHIND


# --- lanes, as a change of leader reads them ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRead:
    """Entries of a lane behind a slot `after`, in order, as far as they follow each other. `sealed`: the last one is a seal;
    `gap`: a slot behind them is taken although the next one is empty."""

    after: int
    entries: Sequence[Entry] = field(repr=False)
    gap: bool = False

    @property
    def last(self) -> int:
        return self.after + len(self.entries)

    @property
    def sealed(self) -> bool:
        return bool(self.entries) and self.entries[-1].kind is EntryKind.SEAL


def read_lane(after: int, found: Sequence[tuple[int, Entry]]) -> LaneRead:
    """What a consistent query behind `after` has found, in order."""
    entries = [entry for place, (slot, entry) in enumerate(found, after + 1) if slot == place]
    return LaneRead(after=after, entries=entries, gap=len(entries) < len(found))


def missing(read: LaneRead, at: int) -> str:
    """Why a lane that its process says ends at slot `at` is not whole, in words; empty if it is."""
    if read.gap:
        return f"has no entry {read.last + 1}, and entries behind it"
    if read.last < at:
        return f"ends with entry {read.last}, and its process says {at}"
    return ""
