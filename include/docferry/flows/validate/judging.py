"""Judging suspects, for both directions: they are looked at again until they are proved different, or not.

What cannot be judged, because replication is behind or stands still, or because it is written at every look, is pending.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

from docferry.core.compare.diff import Difference, DifferenceKind
from docferry.core.compare.masking import shown_id
from docferry.core.mapping.raw import id_name
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.times import now_ms
from docferry.flows.validate.suspects import Suspect, Suspects
from docferry.ports.flows import Target

T = TypeVar("T")
NO_COLLECTION = "(no collection)"


@dataclass(slots=True)
class Judged:
    """What became of the suspects. `why` says why some of them are pending."""

    mismatches: list[Suspect] = field(default_factory=list)
    pending: list[Suspect] = field(default_factory=list)
    why: str = ""
    generations: int = 0
    rechecked: int = 0
    versions: set[str] = field(default_factory=set)


class Judging(ABC):
    """Looks at suspects until nothing is left of them, or the time is up. `expected` is what a pending one should be."""

    expected: ClassVar[str]

    def __init__(self, job: Job, target: Target, suspects: Suspects) -> None:
        self.job, self.target, self.suspects = job, target, suspects
        self.masked, self.settle_s = job.migration.validate.masked, job.migration.validate.settle_s
        self.judged = Judged()

    async def run(self) -> Judged:
        """Raises: StoreError, RetryExhausted, Stopped."""
        while len(self.suspects) and not self.judged.why:
            self.judged.why = await self.generation()
        self.judged.pending = list(self.suspects)
        if not self.judged.pending:
            self.judged.why = ""
        return self.judged

    @abstractmethod
    async def generation(self) -> str:
        """Wait until something may have changed, and look at each suspect once. Why what is left cannot be judged; "" if it may
        still be."""

    async def aside(self, call: Callable[..., T], *arguments: object) -> T:
        return await in_thread(call, *arguments, stop=self.job.stop)

    def is_mismatch(self, one: Suspect) -> None:
        self.judged.mismatches.append(one)
        self.suspects.drop(one)

    def shown_id(self, one: Suspect) -> str:
        return shown_id(id_name(one.id), self.masked) if one.id else ""

    def pending_difference(self, one: Suspect) -> Difference:
        """A suspect that could not be judged, as an entry of the report."""
        return Difference(
            kind=DifferenceKind.PENDING, collection=one.collection or NO_COLLECTION, id=self.shown_id(one), pk="", sk="",
            expected=self.expected, actual=self.judged.why,
        )  # fmt: skip


def aged(found: Difference, one: Suspect) -> Difference:
    """The difference with how long its suspect has been seen."""
    age_s = max(0, now_ms() - one.first_seen_ms) / 1000
    return replace(found, first_seen_ms=one.first_seen_ms, age_s=round(age_s, 3))
