"""The end of a journal's lanes while writes are held: by the word of the process, or by seals. Blocking.

A process that has not acknowledged by then may be dead, frozen, cut off, or slow, and a request of it may arrive at any time. It
is struck off first, on condition of its record: from then on its lanes grow no more. Then a seal takes the next slot of each
lane. Whatever it has sent for that slot fails for ever, and it sends nothing for a later one before it has read the seal.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from docferry.core.cutover.instances import Instance
from docferry.core.cutover.journal import Entry, EntryKind, LaneName, missing, read_lane
from docferry.errors import JournalBroken
from docferry.flows.ledger.modes import strike_off
from docferry.ports.flows import Journal, Ledger

PAGE = 200
SHOW_TRIES, SHOW_S = 25, 0.2
"""Until an entry that must be there shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanesEnd:
    """The last slot of each lane of an instance. `for_good`: it never writes again; else it goes on if the hold goes back."""

    instance: str
    ends: Mapping[LaneName, int]
    sealed: bool
    for_good: bool


def end_of_lanes(ledger: Ledger, journal: Journal, one: Instance, epoch: int, proved: Mapping[int, int]) -> LanesEnd:
    """Where the lanes of an instance end in the hold of this epoch; `proved` by lane: where reading may begin.

    Raises: JournalBroken; StoreError.
    """
    now = strike_off(ledger, one.id, unless=lambda one: one.ended or one.epoch >= epoch)
    if now is None:
        raise JournalBroken(f"the record of instance {one.id} is gone, and its lanes are not proved to their end")
    one = now
    lanes = [LaneName(one.id, number) for number in range(one.lanes)]
    if one.struck:
        ends = {lane: seal(journal, lane, proved.get(lane.number, 0)) for lane in lanes}
    else:
        ends = dict(zip(lanes, one.at, strict=True))
    return LanesEnd(instance=one.id, ends=ends, sealed=one.struck, for_good=one.struck or one.ended)


def seal(journal: Journal, lane: LaneName, after: int) -> int:
    """Put a seal into the lane's next slot behind `after`; returns the seal's slot. Idempotent.

    Raises: JournalBroken; StoreError.
    """
    tries, mark = 0, Entry(kind=EntryKind.SEAL, nonce=uuid.uuid4().hex)
    while True:
        found = journal.read(lane, after, PAGE)
        read = read_lane(after, found)
        after = read.last
        if what := missing(read, after):  # or it does not show yet: a transaction's items show one by one
            if (tries := tries + 1) > SHOW_TRIES:
                raise JournalBroken(f"lane {lane.number} of instance {lane.instance} {what}")
            time.sleep(SHOW_S)
        elif read.sealed:
            return after
        elif len(found) < PAGE and journal.put(lane, after + 1, mark) is None:
            return after + 1
