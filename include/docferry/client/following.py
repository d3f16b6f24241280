"""How a process follows the mode: how often it asks, and by which kind of read.

The mode is one item, for which a partition of DynamoDB gives 3,000 read units a second, and every process asks for it. So most
looks are eventually consistent, half the price of the others. Such a look may be a moment old: a mode that is not the known one
is confirmed by a consistent read, and every few seconds one is made in any case. An old look never does harm: a process that
has not seen a change has not acknowledged it, and the process that changes the leader waits for that.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from bson.timestamp import Timestamp

from docferry.core.cutover.modes import CROWD, MODE, Mode
from docferry.flows.ledger.modes import crowd_in
from docferry.flows.ledger.positions import applied_position
from docferry.ports.flows import Ledger, Record

BEAT_S = 0.25
HOLDING_BEAT_S = 0.1
"""While writes wait, every moment counts; but so does what all processes together ask of the ledger."""
LOOKS_PER_S = 3_000
"""Of all processes together: about 1,750 read units a second. Up to 750 processes look every `BEAT_S`, 2,000 every 0.7 s."""
CONSISTENT_S, HOLDING_CONSISTENT_S = 2.5, 0.5
"""So often a look is consistent; where very many follow, every sixth."""
RENEWALS_PER_S = 400
"""Of all processes together, where a lease allows it: each writes a record of a kilobyte or two, all in one partition, which
takes 1,000 write units a second."""
CROWD_S = 30.0
"""So often a process asks how many there are."""
JITTER = 0.2
"""A pause is up to so much longer or shorter, by chance: processes that began together do not stay together."""


def replicated_by(open_ledger: Callable[[], Ledger]) -> Callable[[], Timestamp | None]:
    """How far replication is, by the ledger; a fork opens one of its own."""
    opened: dict[int, Ledger] = {}

    def ask() -> Timestamp | None:
        process = os.getpid()
        if process not in opened:
            opened.clear()
            opened[process] = open_ledger()
        position = applied_position(opened[process])
        return position.time if position is not None else None

    return ask


def pause_of(mode: Mode, live: int) -> float:
    """Seconds from one look to the next, where so many processes live."""
    return max(HOLDING_BEAT_S if mode is Mode.HOLD else BEAT_S, live / LOOKS_PER_S)


class ModeReader:
    """Reads the mode's record. Used by one thread at a time."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: Record | None = None
        self._confirmed = self._counted = float("-inf")
        self._live = 0

    def pause_s(self, mode: Mode) -> float:
        """How long to wait for the next look."""
        return pause_of(mode, self._live) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - share_key, not secrecy

    def renewal_s(self, lease_s: float) -> float:
        """How old a lease is to be renewed: a quarter of its life, where very many live up to two fifths."""
        return min(lease_s * 0.4, max(lease_s / 4, self._live / RENEWALS_PER_S))

    def look(self, ledger: Ledger, mode: Mode) -> Record | None:
        """The mode's record as of now, or of a moment ago if nothing has changed. Raises StoreError."""
        now = self._monotonic()
        if now - self._counted > CROWD_S:
            self._live = crowd_in(ledger.glance(*CROWD))
            self._counted = now + random.uniform(0, CROWD_S / 2)  # noqa: S311
        due_s = HOLDING_CONSISTENT_S if mode is Mode.HOLD else CONSISTENT_S
        if now - self._confirmed > max(due_s, 6 * pause_of(mode, self._live)):
            return self.read(ledger)
        seen = ledger.glance(*MODE)
        if seen is None or self._known is None or seen.revision != self._known.revision:
            return self.read(ledger)
        return seen

    def read(self, ledger: Ledger) -> Record | None:
        """By a consistent read. Raises StoreError."""
        began = self._monotonic()
        self._known = ledger.read(*MODE)
        self._confirmed = began
        return self._known
