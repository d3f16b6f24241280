"""The journal's lanes of one instance, as the threads and tasks of its process share them. Thread-safe."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

from docferry.core.cutover.journal import FIRST_LANES, MOST_LANES, Answer, Entry, EntryKind, Lane, LaneName
from docferry.ports.flows import Journal


class InstanceLanes:
    """A lane is taken for one write, and given back with what became of it.

    `granted` is how many may be used: as many as the instance's record says, so that the process that seals them knows them all.
    `abandoned`: a lane was found to be sealed, or to have entries of a copy of this process; no write may begin.
    """

    def __init__(self, instance: str, wake: Callable[[], None], open_journal: Callable[[], Journal] | None) -> None:
        """`wake` is called when the record is to be written anew. Without `open_journal` there are no lanes."""
        self.instance, self._wake, self._open_journal = instance, wake, open_journal
        self.granted = 0
        self.wanted = FIRST_LANES if open_journal is not None else 0
        self.abandoned = False
        self._lock = threading.Lock()
        self._all: list[Lane] = []
        self._busy: set[int] = set()

    def __repr__(self) -> str:
        return f"InstanceLanes({self.instance!r}, {self.granted})"

    def grant(self, number: int) -> None:
        """The instance's record says so many."""
        with self._lock:
            while len(self._all) < number:
                self._all.append(Lane(LaneName(self.instance, len(self._all))))
            self.granted = len(self._all)

    def take(self) -> Lane | None:
        """A lane without a write in flight, for one's own; None if there is none at the moment: then more are asked for."""
        with self._lock:
            for lane in self._all:
                if lane.name.number not in self._busy:
                    self._busy.add(lane.name.number)
                    return lane
            asked, self.wanted = self.wanted, max(self.wanted, min(MOST_LANES, 2 * self.granted))
            more = self.wanted != asked
        if more:
            self._wake()
        return None

    def abandon(self) -> None:
        """The instance may not write any more: another one is to be registered in its place."""
        self.abandoned = True
        self._wake()

    def void(self, name: LaneName, slot: int) -> str:
        """The nonce of a void for one slot, which the lane's next write knows for its own if it meets it there."""
        nonce = uuid.uuid4().hex
        with self._lock:
            for lane in self._all:
                if lane.name == name and lane.next == slot:
                    lane.send(nonce)
        return nonce

    def give_back(self, lane: Lane) -> None:
        with self._lock:
            self._busy.discard(lane.name.number)

    def close(self, every: bool) -> bool:
        """Put a void into the next slot of each lane of which a request may still arrive, or of `every` lane: from then on it
        never happens. Every one, because a copy of this process (a machine resumed twice) may have sent what this one knows
        nothing of.

        False: the instance is abandoned, or a write is in flight. Raises StoreError.
        """
        if self._open_journal is None:
            return not self.busy
        with self._lock:
            if self._busy:
                return False
            lanes = [lane for lane in self._all if every or lane.in_doubt]
            self._busy.update(lane.name.number for lane in lanes)
        try:
            return all(self._void(self._open_journal(), lane, every) for lane in lanes)
        finally:
            for lane in lanes:
                self.give_back(lane)

    def _void(self, journal: Journal, lane: Lane, behind: bool) -> bool:
        """`behind`: also behind what has arrived meanwhile."""
        while True:
            void = Entry(kind=EntryKind.VOID, nonce=uuid.uuid4().hex)
            lane.send(void.nonce)
            there = journal.put(lane.name, lane.next, void)
            answer = lane.meet(there if there is not None else void, void.nonce)
            if answer in (Answer.SEALED, Answer.FOREIGN):
                self.abandon()
                return False
            if answer is Answer.HAPPENED or not behind:
                return True

    @property
    def busy(self) -> bool:
        """Whether a write is in flight."""
        with self._lock:
            return bool(self._busy)

    @property
    def at(self) -> tuple[int, ...]:
        """The last slot of each lane that is known to be taken, also of those that are wanted and not yet granted."""
        with self._lock:
            return (*(lane.last for lane in self._all), *[0] * (self.wanted - len(self._all)))
