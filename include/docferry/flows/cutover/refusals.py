"""What can refuse a phase before anything is touched: one table for each phase.

The dry run and the run ask `require` of the same table, `check` those of its rows that can be asked before anything is loaded
(`early`), and health those that say how things stand (`standing`): so none of them can say yes where another says no.
docs/cutover.md has the same rows, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from docferry.core.cutover.modes import Mode
from docferry.errors import PreflightFailed, Problem
from docferry.flows.cutover.flip_evidence import USUAL, FlipBounds
from docferry.flows.kernel.job import Job
from docferry.flows.preflight.readiness import LOOK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a phase is asked for. `look_s`: how long MongoDB's connections are looked at; `percent` and `bounds` are a flip's,
    `to` a rollback's. `no_ledger`: it is not asked whether a fence stands, because there may be no ledger yet."""

    job: Job
    waived: Sequence[str] = ()
    percent: int = 0
    bounds: FlipBounds = USUAL
    to: Mode = Mode.MONGO_ONLY
    look_s: float = LOOK_S
    no_ledger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason: in words, where it comes from, and what it finds. `find` may raise MoveRefused, if the mode is the reason."""

    what: str
    source: str
    find: Callable[[Asked], Iterable[Problem]]
    early: bool = False
    standing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase and all that can refuse it."""

    subject: str
    refusals: tuple[Reason, ...]

    def problems(self, asked: Asked, rows: Callable[[Reason], bool] = lambda one: True) -> list[Problem]:
        """All that is in the way, by these rows. Raises MoveRefused; StoreError and RetryExhausted, if it cannot be told."""
        return [problem for one in self.refusals if rows(one) for problem in one.find(asked)]

    def require(self, asked: Asked) -> None:
        """Raises PreflightFailed with all of that; MoveRefused; StoreError."""
        if found := self.problems(asked):
            raise PreflightFailed(f"{asked.job.migration.name}: {self.subject}", found)
