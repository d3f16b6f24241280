"""What one run of replication did, and up to which time it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

from docferry.errors import InvariantBroken
from docferry.flows.ledger.positions import COUNTED
from docferry.flows.ledger.times import encode_time
from docferry.flows.preflight.windows import Windows


@dataclass(slots=True, kw_only=True)
class ReplicationReport:
    """What one run did: events = written + superseded + dead + passed. `passed` came without images, and their collection
    has been loaded anew since.

    `lag_s` is MongoDB's time minus the time up to which everything is applied; `position` that time.
    """

    events: int = 0
    written: int = 0
    superseded: int = 0
    dead: int = 0
    passed: int = 0
    seconds: float = 0.0
    lag_s: float | None = None
    position: Timestamp | None = None
    windows: Windows | None = None

    def check(self) -> None:
        """Raises InvariantBroken if an event is unaccounted for."""
        if self.events != self.written + self.superseded + self.dead + self.passed:
            raise InvariantBroken(f"replication: {self.events} events do not add up: {self.to_dict()}")

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: getattr(self, name) for name in COUNTED}
        return found | {
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "lag_s": self.lag_s,
            "position": encode_time(self.position) if self.position else None,
            "windows": self.windows.to_dict() if self.windows else None,
        }


@dataclass(slots=True)
class Until:
    """Up to which time to apply: it may be set while replication runs, as a fence's is. `lag_s` is told meanwhile."""

    time: Timestamp | None = None
    lag_s: float | None = None
