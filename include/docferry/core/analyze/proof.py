"""What the proof of a model found: each access pattern on MongoDB and on DynamoDB side by side, heat, and cost. Values, pure.

Nothing here holds a value of a document: partitions are counted, not named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from docferry.core.estate.tags import SCRATCH
from docferry.core.limits import PARTITION_WRU_PER_S

MULTIPLES = (1, 10, 100)
PARTITION_RRU_PER_S = 3_000
"""What one partition of a table or an index serves (eventually consistent reads take half a unit each)."""
_SCRATCH = re.compile(re.escape(SCRATCH) + r"[0-9a-f]{8}-\d{1,3}\Z")
TAG = "docferry:scratch-until"
"""On every scratch table: the time (seconds since 1970) after which any run may remove it."""
KEPT_S = 6 * 3600


def scratch_name(run: str, number: int) -> str:
    """The name of a run's table. `run`: eight hexadecimal digits."""
    return f"{SCRATCH}{run}-{number}"


def is_scratch(name: str) -> bool:
    """Whether a table may be one of ours at all: nothing else is ever deleted."""
    return _SCRATCH.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of `calls` calls."""

    calls: int
    p50: float
    p95: float
    p99: float


def latency(seconds: Sequence[float]) -> Latency:
    """The shares are of what was measured: with fewer than a hundred calls, p99 is the slowest."""
    if not seconds:
        return Latency(calls=0, p50=0.0, p95=0.0, p99=0.0)
    ordered = sorted(seconds)
    at = [1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99)]
    return Latency(calls=len(ordered), p50=at[0], p95=at[1], p99=at[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternProof:
    """One access pattern, on both sides. Numbers are means over the calls.

    `items_read` are items that DynamoDB read, of tables and indexes; `pages` are requests; `units` are read units by the sizes of
    what was read, `units_told` those that the server said. `same`, `different`: calls whose answers could be compared.
    """

    name: str
    collection: str
    by: str
    mongodb: Latency
    dynamodb: Latency
    documents_mongodb: float
    documents_dynamodb: float
    items_read: float
    pages: float
    units: float
    units_told: float
    same: int
    different: int
    missing: int = 0
    """Documents that MongoDB gave and DynamoDB did not, over all calls; `more` the other way round."""
    more: int = 0
    failed: str = ""
    """Why it could not be asked; '' if it was."""

    @property
    def items_a_document(self) -> float:
        """Items read for one document that is returned: what a design pays beside its answers."""
        return self.items_read / self.documents_dynamodb if self.documents_dynamodb else self.items_read


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """The heaviest partition of one collection in a table or an index, at today's calls.

    `share`: of the documents, how many are in it. Units a second are those of this one partition.
    """

    collection: str
    where: str
    partitions: int
    share: float
    write_units_s: float
    read_units_s: float

    def load(self, multiple: float) -> float:
        """How full the partition is at so many times of today's calls: 1.0 is all that DynamoDB gives it."""
        return multiple * max(self.write_units_s / PARTITION_WRU_PER_S, self.read_units_s / PARTITION_RRU_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSample:
    """What one collection had in the scratch tables. `complete`: all of its documents."""

    collection: str
    documents: int
    of: int
    items: int
    refused: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProof:
    """Everything that a proof tells. `usd`: a month on demand at each multiple of today's data and calls."""

    migration: str
    database: str
    began: str
    seconds: float
    endpoint: str
    """Empty for AWS itself, else what stood in its place."""
    samples: Sequence[LoadedSample]
    patterns: Sequence[PatternProof]
    heat: Sequence[Heat]
    usd: Mapping[int, float]
    read_million: float
    """USD for a million read units."""
    book: str
    notes: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether every pattern was answered, and no answer differed."""
        return not any(one.failed or one.different for one in self.patterns)

    def counts(self) -> dict[str, int | float | bool]:
        """What may stand in a log or a record: numbers only."""
        return {
            "ok": self.ok,
            "patterns": len(self.patterns),
            "failed": sum(bool(one.failed) for one in self.patterns),
            "different": sum(one.different for one in self.patterns),
            "documents": sum(one.documents for one in self.samples),
            "items": sum(one.items for one in self.samples),
            "seconds": round(self.seconds, 1),
        }
