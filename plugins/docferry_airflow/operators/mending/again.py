"""Make collections ready to be loaded once more, under live traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docferry_airflow.operators.backfill import plan_lines
from docferry_airflow.operators.base import ConfirmedOperator, Work


class BeginAgainOperator(ConfirmedOperator):
    """The next load reads these collections anew, every put conditional. Refused while replication or a load runs.

    :param collections: Only these; empty means all. All, if replication has lost its position.
    :param confirmed: The migration's name, typed; not needed for a dry run.
    :param plan_only: Only say what would be loaded; fails with what would refuse it.
    """

    template_fields: Sequence[str] = (*ConfirmedOperator.template_fields, "collections")

    def __init__(self, *, collections: Sequence[str] | str = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections = collections

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.backfill.again import begin_again, plan_again
        from docferry.flows.backfill.plan import plan_backfill
        from docferry.flows.preflight.majority import wait_for_majority

        only = tuple(self.collections or ())
        self.require_confirmed("load again", work)
        with work.job() as job:
            if self.plan_only:
                names = plan_again(job, only)
                for line in plan_lines(plan_backfill(job, only)):
                    self.log.info(line)
                return {"would_load": names}
            wait_for_majority(job.source, job.progress, job.stop, "the load")
            return {"to_load": begin_again(job, only)}
