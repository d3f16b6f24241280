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
            f"at most {self.documents:,} documents a collection, {self.total_bytes / 1e9:.1f} GB and "
            f"{self.seconds / 60:.0f} minutes altogether"
        )


@dataclass(slots=True)
class Spent:
    """What has been read. `pace` waits while the server is busy with others, and says for how long it has waited."""

    budget: ReadBudget
    ping_ms: Callable[[], float]
    stop: StopSignal
    documents: int = 0
    bytes: int = 0
    yielded_s: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _usual_ms: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def ended(self) -> str:
        """Which budget is used up; '' if none is."""
        if self.bytes >= self.budget.total_bytes:
            return f"{self.budget.total_bytes / 1e9:.1f} GB were read"
        if self.seconds >= self.budget.seconds:
            return f"{self.budget.seconds / 60:.0f} minutes were over"
        return ""

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
        while self._busy() and not self.ended and not self.stop.is_set():
            time.sleep(WAIT_S)
            self.yielded_s += WAIT_S

    def _busy(self) -> bool:
        took = self.ping_ms()
        if self._usual_ms is None:
            self._usual_ms = min(took, self.ping_ms(), self.ping_ms())
        return took > self._usual_ms * BUSY and took > self._usual_ms + BUSY_MS
