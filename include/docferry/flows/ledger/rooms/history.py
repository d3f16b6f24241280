"""How lag, windows, latency and consumption went: section `history`, a record for each series, rolled up and bounded.

A record holds points of five minutes for a day, and points of an hour for thirty: about 30 KB, however long a migration takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from docferry.errors import ConditionFailed
from docferry.ports.flows import Ledger, Record

HISTORY = "history"
FINE_S, FINE_POINTS = 300, 288
COARSE_S, COARSE_POINTS = 3600, 720
UNKNOWN = -1
"""Of a value that could not be told: it gives way to any that could."""


class Series(StrEnum):
    """What is kept, and the values of its points."""

    FORWARD = "forward"
    """Replication: lag in s (the largest), and for how long the oplog holds its position, in s (the least)."""
    REVERSE = "reverse"
    """Reverse replication: the same, of the 24 hours for which a stream keeps its records."""
    READS = "reads"
    """The application's reads: p95 in ms of MongoDB and of DynamoDB (the largest), and how many were timed of each (the sum)."""
    SPENT = "spent"
    """Read and write units that flows and loads have consumed, all together so far."""
    FORECAST = "forecast"
    """Write units that the loads have consumed, and those that were forecast for the same work."""


Values = tuple[int, ...]
_FOLDS: Mapping[Series, tuple[Callable[[int, int], int], ...]] = {
    Series.FORWARD: (max, min),
    Series.REVERSE: (max, min),
    Series.READS: (max, max, int.__add__, int.__add__),
    Series.SPENT: (max, max),
    Series.FORECAST: (max, max),
}


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """What is known of the time from `at_s` (since 1970) to the next point."""

    at_s: int
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHistory:
    """Points in the order of time, of five minutes and of hours."""

    fine: tuple[HistoryPoint, ...] = ()
    coarse: tuple[HistoryPoint, ...] = ()


def note_point(ledger: Ledger, series: Series, at_s: float, values: Values) -> None:
    """Add what was seen at a time: to the point that it falls into, and to the hour's. Raises StoreError."""
    while True:
        record = ledger.read(HISTORY, series)
        known = _history_in(record) if record is not None else SeriesHistory()
        fine = _added(series, known.fine, int(at_s) // FINE_S * FINE_S, values)[-FINE_POINTS:]
        coarse = _added(series, known.coarse, int(at_s) // COARSE_S * COARSE_S, values)[-COARSE_POINTS:]
        body = {"fine": _to_body(fine), "coarse": _to_body(coarse)}
        try:
            ledger.write(HISTORY, series, body, expect=record)
        except ConditionFailed:
            continue  # another process has added a point: add to that
        return


def list_history(ledger: Ledger) -> dict[Series, SeriesHistory]:
    """All series, in one query. Raises StoreError."""
    known = {one.value for one in Series}
    return {Series(one.key): _history_in(one) for one in ledger.list(HISTORY) if one.key in known}


def _added(series: Series, points: Sequence[HistoryPoint], at_s: int, values: Values) -> tuple[HistoryPoint, ...]:
    """In order of time: two processes may note points of different times."""
    found = {one.at_s: one for one in points}
    before = found.get(at_s)
    found[at_s] = HistoryPoint(at_s, values if before is None else folded(series, before.values, values))
    return tuple(found[at] for at in sorted(found))


def folded(series: Series, before: Values, after: Values) -> Values:
    """Two looks as one: the worst of each value, or the sum."""
    return tuple(
        max(one, other) if UNKNOWN in (one, other) else fold(one, other)
        for fold, one, other in zip(_FOLDS[series], before, after, strict=True)
    )


def _to_body(points: Sequence[HistoryPoint]) -> list[list[int]]:
    return [[one.at_s, *one.values] for one in points]


def _history_in(record: Record) -> SeriesHistory:
    fine, coarse = (
        tuple(HistoryPoint(int(at_s), tuple(map(int, values))) for at_s, *values in record.body[name])
        for name in ("fine", "coarse")
    )
    return SeriesHistory(fine=fine, coarse=coarse)


def history_body(history: SeriesHistory) -> dict[str, Any]:
    """Plain values for JSON: `[time in s, values ...]`."""
    return {"fine": _to_body(history.fine), "coarse": _to_body(history.coarse)}
