"""What all work on rollback points takes, and what the ledger holds of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from docferry.core.rollback_points.points import Point, date_text, time_text
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        half = [{"database": database, "point": point} for database, point in self.half]
        return {"points": [described(one) for one in self.points], "unfinished": list(self.unfinished), "half": half}

    def render(self, migration: str) -> str:
        """The list for a person."""
        lines = [f"{migration}: {len(self.points)} rollback point(s)", *map(point_line, self.points)]
        if self.unfinished:
            names = ", ".join(self.unfinished)
            lines.append(
                f"unfinished, so no points: {names} (the next `--make` removes those that no process is working on)"
            )
        lines += [
            f"{database} is half way to what {point} is: restore it over the live data again"
            for database, point in self.half
        ]
        return "\n".join(lines)


def described(point: Point) -> dict[str, Any]:
    """A point, as plain values for JSON."""
    return point.to_body() | {"documents": point.documents, "bytes": point.bytes}


def point_line(point: Point) -> str:
    """A point in a line, for a person."""
    what = "a snapshot made elsewhere" if point.method == "snapshot" else f"{point.documents:,} documents"
    when = f"at {date_text(point.time.time)} ({time_text(point.time)})"
    since = {"mongodump": f"begun {when}, not of one time", "snapshot": f"recorded {when}"}.get(point.method, when)
    checked = f"verified {date_text(point.checked_ms / 1000)}" if point.checked_ms else "verified when it was made"
    sound = checked if point.sound else f"NOT WHAT WAS RECORDED ({checked})"
    return f"  {point.name}: {what}, {since}, mode {point.mode}; {point.where}; {len(point.backups)} backup(s); {sound}"


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
