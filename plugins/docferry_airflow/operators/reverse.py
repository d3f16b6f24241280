"""Follow DynamoDB's streams for a while, while DynamoDB leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from docferry_airflow.lineage import LineageOperator, Rows, of_the_only
from docferry_airflow.operators.base import Work

if TYPE_CHECKING:
    from docferry.config import Migration


class ReverseOperator(LineageOperator):
    """Make MongoDB follow DynamoDB, from the positions in the ledger on. One at a time, by a lease.

    :param minutes: How long one run lasts; the next one goes on where it stopped.
    """

    movement = "to the collections"
    template_fields: Sequence[str] = ("migration_file", "minutes")

    def __init__(self, *, minutes: float | str = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minutes = minutes

    def rows(self, migration: Migration, summary: dict[str, Any]) -> Rows:
        return Rows(collections=of_the_only((one.name for one in migration.collections), summary["applied"]))

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.hold_watch import end_dead_hold
        from docferry.flows.fence.watch import fence_watched
        from docferry.flows.reporting.history import with_history
        from docferry.flows.reverse.follower import reverse
        from docferry.flows.watch.watching import watched

        with work.job() as job:
            end_dead_hold(job)
            with fence_watched(job):
                for_s = float(self.minutes) * 60
                report = work.counted(
                    job,
                    "reverse",
                    lambda target: with_history(job, watched(job, target, reverse(job, target, for_s=for_s))),
                )
        return report.to_dict()
