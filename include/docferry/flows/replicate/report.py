"""What one run of replication did, and up to which time it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any

from bson.timestamp import Timestamp

from docferry.flows.kernel.books import Books, StreamReport
from docferry.flows.ledger.times import encode_time
from docferry.flows.preflight.windows import Windows


class ChangeOutcome(Enum):
    """What became of an event."""

    WRITTEN = auto()
    SUPERSEDED = auto()
    """All of it was stored already."""
    DEAD = auto()
    PASSED = auto()
    """It came without images, and its collection has been loaded anew since."""
    OUTSIDE = auto()
    """Of a document that the collection's filter leaves out."""


@dataclass(slots=True, kw_only=True)
class ReplicationReport(StreamReport[ChangeOutcome]):
    """What one run did: events = written + superseded + dead + passed + outside.

    `lag_s` is MongoDB's time minus the time up to which everything is applied; `position` that time.
    """

    books: Books[ChangeOutcome] = field(default_factory=partial(Books, "events", ChangeOutcome))
    position: Timestamp | None = None
    windows: Windows | None = None

    @property
    def events(self) -> int:
        return self.books.settled

    @property
    def written(self) -> int:
        return self.books[ChangeOutcome.WRITTEN]

    @property
    def superseded(self) -> int:
        return self.books[ChangeOutcome.SUPERSEDED]

    @property
    def dead(self) -> int:
        return self.books[ChangeOutcome.DEAD]

    @property
    def passed(self) -> int:
        return self.books[ChangeOutcome.PASSED]

    @property
    def outside(self) -> int:
        return self.books[ChangeOutcome.OUTSIDE]

    def to_dict(self) -> dict[str, Any]:
        return StreamReport.to_dict(self) | {
            "position": encode_time(self.position) if self.position else None,
            "windows": self.windows.to_dict() if self.windows else None,
        }


@dataclass(slots=True)
class Until:
    """Up to which time to apply: it may be set while replication runs, as a fence's is. `lag_s` is told meanwhile."""

    time: Timestamp | None = None
    lag_s: float | None = None
