"""What one run of reverse replication did, and up to when it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from docferry.flows.kernel.books import Books, StreamReport
from docferry.flows.reverse.shards import ShardOutcome

KEEP_S = 24 * 3600.0
"""How long a stream keeps a record. Source: AWS, "Change data capture for DynamoDB Streams", from memory."""


@dataclass(slots=True, kw_only=True)
class ReverseReport(StreamReport[ShardOutcome]):
    """What one run did: records = applied + same + removed + ignored + dead. `ignored_by` says how often for which reason
    (an unknown entityType by its name; one record may have two); `healed` are dead letters closed, `letters` those open.

    `reached_ms`: everything that was written before that time (since 1970) is applied, as far as the shards' answers tell.
    `lag_s` is the age of the oldest record that is not applied, 0 once every shard has answered that there is nothing more;
    `window_left_s` how long the stream will still keep what is not applied.
    """

    books: Books[ShardOutcome] = field(default_factory=partial(Books, "records", ShardOutcome))
    healed: int = 0
    letters: int = 0
    ignored_by: dict[str, int] = field(default_factory=dict)
    reached_ms: int = 0

    @property
    def records(self) -> int:
        return self.books.settled

    @property
    def applied(self) -> int:
        return self.books[ShardOutcome.APPLIED]

    @property
    def same(self) -> int:
        return self.books[ShardOutcome.SAME]

    @property
    def removed(self) -> int:
        return self.books[ShardOutcome.REMOVED]

    @property
    def ignored(self) -> int:
        return self.books[ShardOutcome.IGNORED]

    @property
    def dead(self) -> int:
        return self.books[ShardOutcome.DEAD]

    @property
    def window_left_s(self) -> float | None:
        return None if self.lag_s is None else max(0.0, KEEP_S - self.lag_s)

    @property
    def in_danger(self) -> bool:
        """Half of the window is used up."""
        return self.lag_s is not None and self.lag_s > KEEP_S / 2

    def to_dict(self) -> dict[str, Any]:
        return StreamReport.to_dict(self) | {
            "healed": self.healed,
            "letters": self.letters,
            "ignored_by": self.ignored_by,
            "window_left_s": self.window_left_s,
            "in_danger": self.in_danger,
        }
