"""What the application's processes have counted, as evidence for a flip of the reads, and the bounds that it must keep. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.cutover.instances import Instance
from docferry.core.cutover.latency import percentile_ms, took_of

MOST_WRONG = 0.01
"""Of the reads that were compared, or answered by DynamoDB, while a share soaks."""
MONGO, DYNAMODB = "mongodb", "dynamodb"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipBounds:
    """What a flip asks of its evidence.

    reads:   so many reads must have been compared before the first share; of a share, its percent of so many must have come from
             DynamoDB while it soaked. 0 asks for none
    slower:  DynamoDB's p95 may be at most so many times MongoDB's; 0 is no bound
    fast_ms: a p95 up to here is never too slow
    timed:   of fewer reads there is no p95

    Why: that 0 of 300 differ says, with 95 % confidence, that fewer than 1 % do (the rule of three), which is what may be wrong.
    """

    reads: int = 300
    slower: float = 3.0
    fast_ms: float = 50.0
    timed: int = 100

    def served_by(self, percent: int) -> int:
        """How many reads a share must have served."""
        return math.ceil(self.reads * percent / 100)

    def described(self) -> str:
        """What was asked for less than usual, for the history of the mode; "" if nothing was."""
        told = [
            f"{name} {getattr(self, name):g} instead of {getattr(USUAL, name):g}"
            for name in ("reads", "slower")
            if getattr(self, name) != getattr(USUAL, name)
        ]
        return ", ".join(told)


USUAL = FlipBounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounts:
    """What the application's processes counted, all together; `took` is how long reads took, by database and bucket."""

    served: int = 0
    fell_back: int = 0
    compared: int = 0
    mismatches: int = 0
    took: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def since(self, before: ReadCounts) -> ReadCounts:
        took = {name: Counter(found) - Counter(before.took.get(name, {})) for name, found in self.took.items()}
        names = ("served", "fell_back", "compared", "mismatches")
        return ReadCounts(**{name: getattr(self, name) - getattr(before, name) for name in names}, took=took)

    @property
    def differing(self) -> str:
        """Differences past their bound, in words; empty if they are not."""
        if self.mismatches and self.mismatches > MOST_WRONG * (self.compared + self.mismatches):
            return f"{self.mismatches} of {self.compared + self.mismatches} compared reads differ"
        return ""

    @property
    def wrong(self) -> str:
        """What is past its bound, in words; empty if nothing is."""
        if self.differing:
            return self.differing
        asked = self.served + self.fell_back
        if self.fell_back and self.fell_back > MOST_WRONG * asked:
            return f"{self.fell_back} of {asked} reads from DynamoDB failed, and went to MongoDB"
        return ""

    def p95_ms(self, database: str, least: int) -> float | None:
        """None of fewer than `least` reads."""
        return percentile_ms(self.took.get(database, {}), 0.95, least)

    def too_slow(self, all_of_them: ReadCounts, bounds: FlipBounds) -> str:
        """Whether DynamoDB took too long while a share soaked, in words; MongoDB's p95 is that of all reads that are known."""
        ours, theirs = self.p95_ms(DYNAMODB, bounds.timed), all_of_them.p95_ms(MONGO, bounds.timed)
        if not bounds.slower or ours is None or theirs is None:
            return ""
        if ours <= max(bounds.fast_ms, bounds.slower * theirs):
            return ""
        return f"the p95 of reads is {ours:.0f} ms from DynamoDB and {theirs:.0f} ms from MongoDB"

    def to_dict(self) -> dict[str, Any]:
        names = ("served", "fell_back", "compared", "mismatches")
        p95 = {f"{name}_p95_ms": self.p95_ms(name, 1) for name in (DYNAMODB, MONGO)}
        return {name: getattr(self, name) for name in names} | p95


def counts_of(instances: Sequence[Instance]) -> ReadCounts:
    """The counts of these processes together."""

    def total(*names: str, prefix: str = "\0") -> int:
        return sum(
            count for one in instances for name, count in one.counts.items() if name in names or name.startswith(prefix)
        )

    took: dict[str, Counter[int]] = {}
    for one in instances:
        for database, found in took_of(one.counts).items():
            took.setdefault(database, Counter()).update(found)
    return ReadCounts(
        served=total("read.served"),
        fell_back=total(prefix="read.fell_back."),
        compared=total("shadow.equal"),
        mismatches=total("shadow.mismatch"),
        took=took,
    )
