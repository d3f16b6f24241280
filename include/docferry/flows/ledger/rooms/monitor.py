"""Who publishes the migration's metrics next, and what had been done when they were published last."""

from __future__ import annotations

from dataclasses import dataclass

from docferry.errors import ConditionFailed
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

MONITOR = ("monitor", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Up to `at_ms`: documents that loads have read, and units that flows and the application have consumed. They grow, but for
    records that are gone."""

    at_ms: int = 0
    loaded: int = 0
    read_units: float = 0.0
    write_units: float = 0.0


LAST_S = 5.0
"""At the end of a flow it is its turn again so soon."""


def is_due(ledger: Ledger, owner: str, every_s: float, *, last: bool = False) -> bool:
    """Whether no process has published for nearly `every_s`. At its end a flow may follow closely upon another, and at once upon
    itself. Raises StoreError."""
    return _is_due(ledger.read(*MONITOR), owner, every_s, last)


def _is_due(record: Record | None, owner: str, every_s: float, last: bool) -> bool:
    if record is None or (last and record.body["by"] == owner):
        return True
    return now_ms() - int(record.body["at"]) >= (LAST_S if last else every_s * 0.9) * 1000


def take_turn(ledger: Ledger, owner: str, every_s: float, totals: Totals, *, last: bool = False) -> Totals | None:
    """Take the turn to publish `totals`, if it is due: what was published before. None: another process has it.

    However many processes work at a migration, one of them publishes at a time. Raises StoreError.
    """
    record = ledger.read(*MONITOR)
    if not _is_due(record, owner, every_s, last):
        return None
    body = record.body if record is not None else {}
    new = {
        "at": totals.at_ms or now_ms(),
        "by": owner,
        "loaded": totals.loaded,
        "read_halves": round(2 * totals.read_units),
        "write_halves": round(2 * totals.write_units),
    }
    try:
        ledger.write(*MONITOR, new, expect=record)
    except ConditionFailed:
        return None  # another process publishes now
    return Totals(
        at_ms=int(body.get("at", 0)),
        loaded=int(body.get("loaded", 0)),
        read_units=int(body.get("read_halves", 0)) / 2,
        write_units=int(body.get("write_halves", 0)) / 2,
    )
