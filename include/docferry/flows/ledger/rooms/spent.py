"""What DynamoDB says that flows have consumed, added up over all runs: section `spent`, a record for each flow.

A load counts in its chunks (`load_headers`), and the application's processes in their own records (`instances`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from docferry.errors import ConditionFailed
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record, SpentUnits

SPENT = "spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSpent:
    """Of one flow, since `since_ms`, as of `at_ms`."""

    flow: str
    spent: SpentUnits
    since_ms: int
    at_ms: int


class SpentBook:
    """Adds to a flow's record what its target has spent since the last time. Several processes may keep one record.

    `spent` is the target's own, which goes on counting. What a process had not kept when it was killed is lost.
    """

    def __init__(self, ledger: Ledger, flow: str, spent: SpentUnits) -> None:
        self._ledger, self._flow, self._spent = ledger, flow, spent
        self._kept = replace(spent)

    def keep(self) -> None:
        """Raises StoreError: then the next time keeps it."""
        now = replace(self._spent)
        new = now - self._kept
        while new != SpentUnits():
            record = self._ledger.read(SPENT, self._flow)
            try:
                self._ledger.write(SPENT, self._flow, _body(record, new), expect=record)
            except ConditionFailed:
                continue  # another process has kept what it spent: add to that
            self._kept = now
            return


def list_spent(ledger: Ledger) -> list[FlowSpent]:
    """Of every flow that has run."""
    return [
        FlowSpent(
            flow=record.key, spent=_spent(record), since_ms=int(record.body["since"]), at_ms=int(record.body["at"])
        )
        for record in ledger.list(SPENT)
    ]


def _body(record: Record | None, new: SpentUnits) -> dict[str, int]:
    """In half units, the smallest that there are: whole numbers."""
    total = new if record is None else _spent(record) + new
    return {
        "read_halves": round(2 * total.read_units),
        "write_halves": round(2 * total.write_units),
        "untold": total.untold,
        "since": now_ms() if record is None else int(record.body["since"]),
        "at": now_ms(),
    }


def _spent(record: Record) -> SpentUnits:
    body = record.body
    return SpentUnits(int(body["read_halves"]) / 2, int(body["write_halves"]) / 2, int(body["untold"]))
