"""Rollback points: listed, verified, restored beside the live data, and over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docferry.errors import PreflightFailed, Problem, ValidationFailed

from docferry_airflow.operators.base import MigrationOperator, Work


class ListPointsOperator(MigrationOperator):
    """The rollback points that there are."""

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.rollback_points.job import list_points

        with work.job() as job:
            found = list_points(job.ledger)
        for line in found.render(work.migration.name).splitlines():
            self.log.info(line)
        return found.to_dict()


class VerifyPointOperator(MigrationOperator):
    """Read all of a point again. Fails if anything is not as it was recorded.

    :param point: Its name.
    """

    template_fields: Sequence[str] = ("migration_file", "point")

    def __init__(self, *, point: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.rollback_points.verify import verify_point

        with work.job() as job:
            report = verify_point(job, _named(self.point))
        for line in report.render().splitlines():
            self.log.info(line)
        if not report.ok:
            raise ValidationFailed(f"{self.point} is not what was recorded", {"faults": len(report.faults)})
        return report.to_dict()


class RestoreBesideOperator(MigrationOperator):
    """Restore a point into a database and tables of their own, and compare. Nothing that exists is written into.

    :param point: Its name.
    :param into: The database; empty for `<database>_restored_<point>`.
    :param plan_only: Only say where it would be restored; fails with what would refuse it.
    """

    template_fields: Sequence[str] = ("migration_file", "point", "into", "plan_only")

    def __init__(self, *, point: str, into: str = "", plan_only: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.into = into
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.rollback_points.restore import plan_restore, restore_beside

        point = _named(self.point)
        with work.job() as job:
            if self.plan_only:
                plan = plan_restore(job, point, self.into)
                places = ", ".join(filter(None, (plan.database, *plan.tables.values())))
                self.log.info("%s would be restored into %s; nothing was made", point, places)
                return plan.to_dict()
            report = restore_beside(job, point, self.into)
        for line in report.render().splitlines():
            self.log.info(line)
        return report.to_dict()


class RestoreOverLiveOperator(MigrationOperator):
    """Make MongoDB's live database what a point was that has been restored beside before.

    :param point: Its name.
    :param beside: Where it was restored; empty for `<database>_restored_<point>`.
    :param sentence: What the dry run prints, typed: it counts what is lost, and is true only as long as nothing changes.
    :param plan_only: Only say what would be lost; fails with what would refuse it.
    """

    template_fields: Sequence[str] = ("migration_file", "point", "beside", "sentence", "plan_only")

    def __init__(
        self, *, point: str, beside: str = "", sentence: str = "", plan_only: bool | str = True, **kwargs: Any
    ) -> None:
        kwargs.setdefault("retries", 0)  # the sentence is another one, once anything has been changed
        super().__init__(**kwargs)
        self.point = point
        self.beside = beside
        self.sentence = sentence
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.rollback_points.restore_over_live import plan_over_live, restore_over_live

        point = _named(self.point)
        with work.job() as job:
            if self.plan_only:
                plan = plan_over_live(job, point, self.beside)
                for line in plan.render().splitlines():
                    self.log.info(line)
                return plan.to_dict()
            return restore_over_live(job, point, self.sentence, self.beside).to_dict()


def _named(point: object) -> str:
    """Jinja's native rendering makes a number of digits. Raises PreflightFailed, if there is no name."""
    if not point:
        problem = Problem(where="point", what="is not named", suggestion="list the points, and name one")
        raise PreflightFailed("rollback points", [problem])
    return str(point)
