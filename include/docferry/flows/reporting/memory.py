"""What is remembered between two looks at a migration, for a page that looks every few seconds: a look then asks for what can
have changed, and not for every dead letter and every chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from docferry.flows.ledger.dead_letters import LIST_ALL_S, last_openings, list_letters
from docferry.flows.ledger.load_headers import Counts, LoadHeader, list_chunks
from docferry.ports.flows import Ledger

MOST_CHUNKS = 500
"""Chunks that one look of such a page reads: a tenth of a millisecond each."""
OTHERS_EVERY = 4
"""So often the loads that do not seem to move come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """How far the chunks of a load are. `run` and `chunks` are of the load that was looked at."""

    run: str
    chunks: int
    counts: Counts
    expected: int
    done: int
    looked: int
    moved: bool


class RoomMemory:
    """Of one migration. Any ledger of it may be given; looks of several threads at once cost more, and harm nothing."""

    def __init__(self, most_chunks: float = inf, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most_chunks, self._monotonic = most_chunks, monotonic
        self._letters: dict[str, int] = {}
        self._openings: dict[str, int] = {}
        self._listed_s = float("-inf")
        self._loads: dict[str, LoadProgress] = {}
        self._looks = 0

    def letters(self, ledger: Ledger, collections: Iterable[str]) -> dict[str, int]:
        """How many are open: one query, and one more for each collection that has some, or had one opened since the last look.
        Raises StoreError."""
        openings = last_openings(ledger)
        now = self._monotonic()
        every = now - self._listed_s >= LIST_ALL_S
        for name in collections:
            opened = openings.get(name, 0)
            if every or self._letters.get(name) or opened != self._openings.get(name, 0):
                self._letters[name] = len(list_letters(ledger, name))
                self._openings[name] = opened
        if every:
            self._listed_s = now
        return {name: self._letters.get(name, 0) for name in collections}

    def loads(self, ledger: Ledger, headers: Iterable[LoadHeader]) -> dict[str, LoadProgress]:
        """How far the loads that are under way are. Where they have more than `most_chunks`, some are told as they were a few
        looks ago, or not at all yet: those that move come first. Raises StoreError."""
        self._looks += 1
        open_loads = [one for one in headers if not one.complete]
        left = self._most_chunks
        for header in sorted(open_loads, key=self._urgency):
            if left > 0:
                found = self._look(ledger, header)
                left -= max(1, found.chunks)
                self._loads[header.collection] = found
        known = ((one, self._loads.get(one.collection)) for one in open_loads)
        return {one.collection: found for one, found in known if found is not None and found.run == one.run}

    def _urgency(self, header: LoadHeader) -> tuple[bool, bool, int]:
        last = self._loads.get(header.collection)
        known = last is not None and last.run == header.run
        moves = last is not None and last.moved and self._looks % OTHERS_EVERY != 0
        return (known, not moves, last.looked if last else 0)

    def _look(self, ledger: Ledger, header: LoadHeader) -> LoadProgress:
        chunks, last = list_chunks(ledger, header.collection), self._loads.get(header.collection)
        counts = sum((one.counts for one in chunks), Counts())
        return LoadProgress(
            run=header.run,
            chunks=len(chunks),
            counts=counts,
            expected=sum(one.expected for one in chunks),
            done=sum(one.done for one in chunks),
            looked=self._looks,
            moved=last is not None and last.counts != counts,
        )
