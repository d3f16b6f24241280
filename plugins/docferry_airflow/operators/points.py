"""Rollback points in a DAG: made, and read again, before a phase that cannot be undone by a change of mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from docferry_airflow.forms import some_of, text
from docferry_airflow.operators.base import MigrationOperator, Work

if TYPE_CHECKING:
    from docferry.config import Migration


class RollbackPointOperator(MigrationOperator):
    """Make a rollback point of MongoDB and of DynamoDB's tables, and read it again.

    A retry begins a new one and removes what this one left.

    :param point: Its name; empty for the time.
    :param snapshot: With `method: snapshot` in the file, the name of the snapshot that was made.
    :param plan_only: Only say what would be made; fails with what would refuse it.
    """

    template_fields: Sequence[str] = ("migration_file", "point", "snapshot", "plan_only")

    def __init__(self, *, point: str = "", snapshot: str = "", plan_only: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.snapshot = snapshot
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.rollback_points.make import make_point, plan_point

        name = str(self.point)  # Jinja's native rendering makes a number of digits
        with work.job() as job:
            if self.plan_only:
                would = plan_point(job, name, self.snapshot)
                self.log.info("%s; nothing was made", would)
                return {"would": would}
            point = make_point(job, name, self.snapshot)
        summary = {"point": point.name, "where": point.where, "documents": point.documents, "bytes": point.bytes}
        return summary | {"backups": dict(point.backups)}


def snapshot_param(migration: Migration) -> dict[str, Param]:
    """What the person who starts a run must say, if rollback points are snapshots made elsewhere: nothing otherwise."""
    points = migration.rollback_points
    if points is None or points.method != "snapshot":
        return {}
    told = "The snapshot of MongoDB that you have just made: snap-…, s3://bucket/prefix, or a path."
    return {"snapshot": text("Snapshot", told)}


def switch_waivers_param() -> Param:
    """What the person who starts a change of leader may waive."""
    told = (
        "lift: a lift of the fence that a process may have on its way, which you know to be gone; watch: the rest of the watch "
        "of DynamoDB after a way back; strays: stray writes that are not settled."
    )
    return some_of("Waived", ["lift", "watch", "strays"], told)


def rollback_point(migration: Migration) -> list[RollbackPointOperator]:
    """The task that makes one; none, if the file does not speak of rollback points."""
    if migration.rollback_points is None:
        return []
    snapshot = "{{ params.snapshot }}" if snapshot_param(migration) else ""
    return [RollbackPointOperator(task_id="make_rollback_point", snapshot=snapshot)]
