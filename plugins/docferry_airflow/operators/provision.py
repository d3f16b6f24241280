"""Make AWS hold what the migration file asks for, and MongoDB tell what a change needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from docferry_airflow.operators.base import MigrationOperator, Work


class ProvisionOperator(MigrationOperator):
    """Ledger, tables with their indexes, and the DAX cluster: plan, diff, apply, read back; and the marker in MongoDB that says
    who leads. Idempotent.

    :param plan_only: Only show the plan, and what a real run would refuse.
    :param allow_changes: Also change what exists and differs, where DynamoDB can do so in place. Without it a
        difference fails the task before anything is touched.
    """

    template_fields: Sequence[str] = ("migration_file", "plan_only", "allow_changes")

    def __init__(self, *, plan_only: bool | str = False, allow_changes: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_only = plan_only
        self.allow_changes = allow_changes

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.fence.marker import mark_leader
        from docferry.flows.provision.run import ownership, provision

        connections, migration = work.connections, work.migration
        owned = ownership(migration, connections.ledger(migration), connections.estate(migration))
        found = self._run(partial(provision, ownership=owned), work)
        if not self.plan_only:
            with work.job() as job:
                mark_leader(job)
        return found

    def _run(self, flow: Callable[..., Any], work: Work) -> dict[str, Any]:
        from docferry.flows.provision.report import render_plan
        from docferry.flows.provision.streams import streams_are_free
        from docferry.wiring import desired

        connections, migration = work.connections, work.migration
        report = flow(
            desired(migration, final=streams_are_free(migration, connections.ledger(migration))),
            connections.estate(migration),
            allow_changes=bool(self.allow_changes),
            dry_run=bool(self.plan_only),
            progress=work.progress,
            stop=work.stop,
        )
        for line in render_plan(report).splitlines():
            self.log.info(line)
        return {
            "dry_run": report.dry_run,
            "changed_anything": report.changed_anything,
            "resources": {one.resource: one.outcome.value for one in report.resources},
            "refusals": list(report.refusals),
        }


class SwitchImagesOnOperator(MigrationOperator):
    """The change stream's pre- and post-images, for every collection; what they cost in space is logged first. Idempotent.

    :param plan_only: Only show what would be switched on, and the cost.
    """

    template_fields: Sequence[str] = ("migration_file", "plan_only")

    def __init__(self, *, plan_only: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_only = plan_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.preflight.images import render_images, switch_images_on

        with closing(work.connections.source(work.migration)) as source:
            report = switch_images_on(work.migration, source, dry_run=bool(self.plan_only), progress=work.progress)
        for line in render_images(report).splitlines():
            self.log.info(line)
        return report.to_dict()


class AddReplicasOperator(ProvisionOperator):
    """The file's replica regions, one at a time. After the load: replicated writes cost more, and bulk puts refuse
    global tables.

    :param plan_only: Only show the plan.
    :param allow_changes: See ProvisionOperator.
    """

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.provision.run import add_replicas

        return self._run(add_replicas, work)
