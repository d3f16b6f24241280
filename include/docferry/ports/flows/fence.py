"""MongoDB's fence, and who is connected to MongoDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import (
    FenceFacts,
    FencePlan,
    FenceState,
    Grant,
    OpenTransaction,
    RunningOperation,
    StrayWrite,
)
from docferry.core.cutover.mongodb_clients import Look


class Fence(Protocol):
    """MongoDB's refusal of the application's writes, one step at a time: order, deadlines and what is remembered are the
    flow's affair. Nothing is remembered here, so that another process can lift what this one has raised. Raises StoreError.
    """

    def facts(self) -> FenceFacts: ...

    def grants(self, users: Sequence[str]) -> tuple[Grant, ...]:
        """What revocation would take from these users (`<database>.<name>`), exactly. Changes nothing; write it down first."""

    def external_memo(self) -> str:
        """What the command of the external fence will need to open it again, before it is closed. Changes nothing.

        Raises: RequestRefused if there is no such command, or it refuses; Unavailable, TimedOut.
        """

    def open_transactions(self) -> Sequence[OpenTransaction]:
        """Every transaction that is open on the primary, docferry's own left out, the oldest first."""

    def kill_transactions(self, found: Sequence[OpenTransaction]) -> None:
        """Kill the sessions of these transactions: whatever runs in them ends with an error."""

    def raise_fence(self, plan: FencePlan) -> None:
        """One attempt, which holds readers up for a second at most. Idempotent.

        Raises: TimedOut if something is in the way, or the answer was lost: the fence may be up or not, and either way it
                can be tried again or lifted.
        """

    def still_writing(self, plan: FencePlan) -> Sequence[RunningOperation | OpenTransaction]:
        """What began before `raise_fence` and may still write: the fence counts once this has been empty."""

    def mark_time(self) -> Timestamp:
        """A cluster time behind every write so far, which a majority has and the change stream passes at once."""

    def lift_fence(self, plan: FencePlan) -> None:
        """Take the fence away: exactly what the plan takes is given back. Idempotent, whatever part of it had been raised."""

    def fence_state(self, plan: FencePlan) -> FenceState:
        """What MongoDB says."""

    def writes_after(self, time: Timestamp, limit: int = 100) -> Sequence[StrayWrite]:
        """The first writes to the migration's collections that are behind `time` in the oplog, and not docferry's own.

        Raises: ResumeTokenLost if the oplog no longer reaches back to `time`.
        """


class Clients(Protocol):
    """Who is connected to MongoDB."""

    def look(self) -> Look:
        """Every connection of now, on each member. Raises StoreError."""
