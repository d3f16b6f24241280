"""Rollback points, and what was restored from them: beside the live data, or over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from docferry.core.rollback_points.points import POINTS, RESTORES, Point, point_of
from docferry.errors import ConditionFailed
from docferry.flows.ledger.leases import Holder, holder_of
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

MAKING, WHOLE = "making", "whole"
"""A point's states: being made, or left by a crash; all of it written and read again."""
RESTORING, OVER_LIVE, OVER = "restoring", "over live", "done"
"""A restore's states, beside `WHOLE`: beside the live data and not finished; over it and not finished; over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRecord:
    """`point` None: it is not whole. `to` is the place that its files go to."""

    name: str
    point: Point | None
    to: str
    holder: Holder
    record: Record = field(repr=False, compare=False)

    @property
    def whole(self) -> bool:
        return self.point is not None


def read_point_record(ledger: Ledger, name: str) -> PointRecord | None:
    record = ledger.read(POINTS, name)
    return point_in(record) if record is not None else None


def list_point_records(ledger: Ledger) -> list[PointRecord]:
    """All, by name; those too that a crash left."""
    return [point_in(record) for record in ledger.list(POINTS)]


def remove_point_record(ledger: Ledger, found: PointRecord) -> None:
    """Raises ConditionFailed if it has changed since it was read."""
    ledger.delete(found.record)


def point_in(record: Record) -> PointRecord:
    """What the record says; `point_in(lease.record)` of one that is held."""
    body = record.body
    return PointRecord(
        name=record.key,
        point=point_of(body) if body.get("state") == WHOLE else None,
        to=str(body.get("to", "")),
        holder=holder_of(record),
        record=record,
    )


def point_begun(to: str) -> dict[str, Any]:
    """What the lease writes before anything is made."""
    return {"state": MAKING, "to": to}


def point_whole(point: Point) -> dict[str, Any]:
    """What the lease writes when all is written and has been read again."""
    return {"state": WHOLE, **point.to_body()}


def note_verdict(ledger: Ledger, name: str, *, sound: bool) -> None:
    """Remember when a point was verified, and with which verdict; nothing if it has been removed meanwhile."""
    while (record := ledger.read(POINTS, name)) is not None:
        try:
            ledger.write(POINTS, name, {**record.body, "checked_ms": now_ms(), "sound": sound}, expect=record)
        except ConditionFailed:
            continue
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """What was restored into one place (`key`). `tables`: table -> the one beside it; `sums`: collection -> sha256 of its
    documents; `database` only of one over the live data."""

    key: str
    state: str
    point: str
    database: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)


def read_restore(ledger: Ledger, key: str) -> Restore | None:
    record = ledger.read(RESTORES, key)
    return _restore_in(record) if record is not None else None


def list_restores(ledger: Ledger) -> list[Restore]:
    return [_restore_in(record) for record in ledger.list(RESTORES)]


def _restore_in(record: Record) -> Restore:
    body = record.body
    return Restore(
        key=record.key,
        state=str(body.get("state", "")),
        point=str(body.get("point", "")),
        database=str(body.get("database", "")),
        tables=body.get("tables", {}),
        sums=body.get("sums", {}),
    )


def restore_begun(point: str, tables: Mapping[str, str]) -> dict[str, Any]:
    """What the lease writes before anything is restored beside the live data."""
    return {"state": RESTORING, "point": point, "tables": dict(tables)}


def restore_whole(point: str, tables: Mapping[str, str], sums: Mapping[str, str]) -> dict[str, Any]:
    return {"state": WHOLE, "point": point, "sums": dict(sums), "tables": dict(tables)}


def over_live_begun(point: str, database: str, sentence: str) -> dict[str, Any]:
    """What the lease writes before the live data is changed; `sentence` is what was confirmed."""
    return {"state": OVER_LIVE, "point": point, "database": database, "sentence": sentence, "at": now_ms()}


def over_live_done() -> dict[str, Any]:
    return {"state": OVER}
