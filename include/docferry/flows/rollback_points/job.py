"""What all work on rollback points takes, and what the ledger holds of them."""

from __future__ import annotations

from dataclasses import dataclass

from docferry.core.rollback_points.points import Point
from docferry.core.settings import RollbackPointSettings
from docferry.errors import PreflightFailed, Problem
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.rooms.points import OVER_LIVE, list_point_records, list_restores, read_point_record
from docferry.ports.flows import Ledger


def settings_of(job: Job) -> RollbackPointSettings:
    """Raises PreflightFailed, if the file does not speak of rollback points."""
    if job.migration.rollback_points is None:
        what, how = "has no section rollback_points", "rollback_points: {to: /backups}, or {to: s3://bucket/prefix}"
        raise PreflightFailed("rollback points", [Problem(where=job.migration.path, what=what, suggestion=how)])
    return job.migration.rollback_points


@dataclass(frozen=True, slots=True, kw_only=True)
class PointList:
    """The whole points, the oldest first; the names of those that a crash left or a process is making right now; and the
    databases that are half way to what a point is, as (database, point)."""

    points: tuple[Point, ...]
    unfinished: tuple[str, ...]
    half: tuple[tuple[str, str], ...]


def list_points(ledger: Ledger) -> PointList:
    """All points of a migration."""
    records = list_point_records(ledger)
    whole = [one.point for one in records if one.point is not None]
    return PointList(
        points=tuple(sorted(whole, key=lambda point: point.made_ms)),
        unfinished=tuple(one.name for one in records if not one.whole),
        half=tuple((one.database, one.point) for one in list_restores(ledger) if one.state == OVER_LIVE),
    )


def read_point(ledger: Ledger, name: str) -> Point:
    """A whole point. Raises PreflightFailed, with those there are, for any other name."""
    record = read_point_record(ledger, name)
    if record is None or record.point is None:
        known = ", ".join(point.name for point in list_points(ledger).points) or "none"
        what = "is not finished" if record is not None else "is no rollback point"
        raise PreflightFailed("rollback points", [Problem(where=name, what=what, suggestion=f"there are: {known}")])
    return record.point
