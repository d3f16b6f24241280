"""Follow MongoDB's change stream for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from docferry_airflow.lineage import LineageOperator, Rows, of_the_only
from docferry_airflow.operators.base import Work

if TYPE_CHECKING:
    from docferry.config import Migration
    from docferry.flows.replicate.report import ReplicationReport


class ReplicateOperator(LineageOperator):
    """Apply changes in order, conditionally, from the position in the ledger on. One at a time: a lease says whose turn it is.

    :param minutes: How long one run lasts; the next one goes on where it stopped.
    :param until_caught_up: End as soon as everything up to the time of the start is applied.
    """

    template_fields: Sequence[str] = ("migration_file", "minutes", "until_caught_up")

    def __init__(self, *, minutes: float | str = 20, until_caught_up: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minutes = minutes
        self.until_caught_up = until_caught_up

    def rows(self, migration: Migration, summary: dict[str, Any]) -> Rows:
        return Rows(tables=of_the_only((one.table for one in migration.collections), summary["written"]))

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.hold_watch import end_dead_hold
        from docferry.flows.replicate.follower import replicate
        from docferry.flows.reporting.history import with_history
        from docferry.flows.watch.watching import watched

        for_s = float(self.minutes) * 60
        with work.job() as job:
            end_dead_hold(job)
            until = job.source.cluster_time() if self.until_caught_up else None
            report: ReplicationReport = work.counted(
                job,
                "replicate",
                lambda target: with_history(
                    job, watched(job, target, replicate(job, target, for_s=for_s, until=until))
                ),
            )
        summary = report.to_dict()
        self.log.info(
            "%s events = %s written + %s superseded + %s dead letters + %s without images, loaded anew since + %s outside the "
            "filters; lag %s",
            *(report.events, report.written, report.superseded, report.dead, report.passed, report.outside),
            "unknown" if report.lag_s is None else f"{report.lag_s:.0f} s",
        )
        return summary
