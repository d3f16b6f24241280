"""Follow DynamoDB's streams for a while, while DynamoDB leads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from docferry_airflow.operators.base import MigrationOperator, Work
from docferry_airflow.operators.cutover import cutover_of


class ReverseOperator(MigrationOperator):
    """Make MongoDB follow DynamoDB, from the positions in the ledger on. One at a time, by a lease.

    :param minutes: How long one run lasts; the next one goes on where it stopped.
    """

    template_fields: Sequence[str] = ("migration_file", "minutes")

    def __init__(self, *, minutes: float | str = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minutes = minutes

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.cutover.hold_watch import end_dead_hold
        from docferry.flows.reverse.follower import Reverse, reverse

        with cutover_of(work) as change:
            end_dead_hold(change)
        with closing(work.connections.sink(work.migration)) as sink:
            job = Reverse(
                migration=work.migration,
                streams=work.connections.streams(work.migration),
                sink=sink,
                ledger=work.connections.ledger(work.migration),
                identity=work.identity,
                progress=work.progress,
                stop=work.stop,
            )
            report = work.with_target(lambda target: reverse(job, target, for_s=float(self.minutes) * 60))
        return report.to_dict()
