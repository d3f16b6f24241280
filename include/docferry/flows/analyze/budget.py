"""How much an analysis may read, and for how long; and when it makes room for the application."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from docferry.errors import Stopped
from docferry.ports.flows import StopSignal

BUSY = 3.0
"""A ping that takes so many times as long as at the beginning, and `BUSY_MS` longer, means that the server is busy."""
BUSY_MS = 5.0
LOOK_EVERY_S = 1.0
WAIT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBudget:
    """What may be read: documents a collection, bytes and seconds altogether."""

    documents: int = 20_000
    total_bytes: int = 4 * 10**9
    seconds: float = 1_800.0

    def __str__(self) -> str:
        return (
            f"at most {self.documents:,} documents a collection, {self.total_bytes / 1e9:.1f} GB (with what the server counts) "
            f"and {self.seconds / 60:g} minutes altogether"
        )


@dataclass(slots=True)
class Spent:
    """What has been read. `pace` waits while the server is busy with others, and says so.

    `server_bytes` are those of documents that the server looked at without sending them: they count as what is read does.
    `before_s`: seconds of earlier runs that this one goes on from.
    """

    budget: ReadBudget
    ping_ms: Callable[[], float]
    stop: StopSignal
    say: Callable[[str], None]
    documents: int = 0
    bytes: int = 0
    server_bytes: int = 0
    before_s: float = 0.0
    yielded_s: float = 0.0
    wait: Callable[[float], None] = time.sleep
    _began: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _usual_ms: float | None = None
    _took_ms: float = 0.0

    @property
    def seconds(self) -> float:
        return self.before_s + time.monotonic() - self._began

    @property
    def late(self) -> bool:
        """Whether the time is over: then nothing more is asked."""
        return self.seconds >= self.budget.seconds

    @property
    def ended(self) -> str:
        """Which budget is used up; '' if none is."""
        if not self.room(1):
            return f"{self.budget.total_bytes / 1e9:.1f} GB were read"
        if self.late:
            return f"{self.budget.seconds / 60:g} minutes were over"
        return ""

    def room(self, size: int) -> bool:
        """Whether so many more bytes may be looked at."""
        return self.bytes + self.server_bytes + size <= self.budget.total_bytes

    def add(self, documents: int, size: int) -> None:
        self.documents += documents
        self.bytes += size

    def pace(self) -> None:
        """Raises: Stopped."""
        if self.stop.is_set():
            raise Stopped("stopped before the report was written; nothing was changed")
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        told = False
        while self._busy() and not self.ended and not self.stop.is_set():
            if not told:
                self.say(
                    f"the server takes {self._took_ms:.0f} ms for a ping, not {self._usual_ms:.0f}: waiting, it is busy"
                )
                told = True
            self.wait(WAIT_S)
            self.yielded_s += WAIT_S

    def _busy(self) -> bool:
        self._took_ms = took = self.ping_ms()
        if self._usual_ms is None:
            self._usual_ms = min(took, self.ping_ms(), self.ping_ms())
        return took > self._usual_ms * BUSY and took > self._usual_ms + BUSY_MS
