"""What all work on rollback points takes, and what the ledger holds of them."""

from __future__ import annotations

from dataclasses import dataclass

from docferry.core.rollback_points.points import POINTS, RESTORES, Point, point_of
from docferry.core.settings import RollbackPointSettings
from docferry.errors import PreflightFailed, Problem
from docferry.flows.kernel.job import Job
from docferry.ports.flows import Ledger

WHOLE, OVER_LIVE = "whole", "over live"


def settings_of(job: Job) -> RollbackPointSettings:
    """Raises PreflightFailed, if the file does not speak of rollback points."""
    if job.migration.rollback_points is None:
        what, how = "has no section rollback_points", "rollback_points: {to: /backups}, or {to: s3://bucket/prefix}"
        raise PreflightFailed("rollback points", [Problem(where=job.migration.path, what=what, suggestion=how)])
    return job.migration.rollback_points


@dataclass(frozen=True, slots=True, kw_only=True)
class PointList:
    """The whole points, the oldest first; the names of what a crash left, or somebody is making right now; and the databases
    that are half way to what a point is, as (database, point)."""

    points: tuple[Point, ...]
    unfinished: tuple[str, ...]
    half: tuple[tuple[str, str], ...]


def list_points(ledger: Ledger) -> PointList:
    """All points of a migration."""
    records = ledger.list(POINTS)
    whole = [point_of(one.body) for one in records if one.body.get("state") == WHOLE]
    return PointList(
        points=tuple(sorted(whole, key=lambda point: point.made_ms)),
        unfinished=tuple(one.key for one in records if one.body.get("state") != WHOLE),
        half=tuple(
            (str(one.body["database"]), str(one.body["point"]))
            for one in ledger.list(RESTORES)
            if one.body.get("state") == OVER_LIVE
        ),
    )


def read_point(ledger: Ledger, name: str) -> Point:
    """A whole point. Raises PreflightFailed, with those there are, for any other name."""
    record = ledger.read(POINTS, name)
    if record is None or record.body.get("state") != WHOLE:
        known = ", ".join(point.name for point in list_points(ledger).points) or "none"
        what = "is not finished" if record is not None else "is no rollback point"
        raise PreflightFailed("rollback points", [Problem(where=name, what=what, suggestion=f"there are: {known}")])
    return point_of(record.body)
