"""Remove tombstones that have nothing left to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docferry_airflow.operators.base import MigrationOperator, Work, require_typed


class PurgeTombstonesOperator(MigrationOperator):
    """Prove that nothing older than a tombstone can be written any more, and delete those of which it is proved.

    The log holds the proof. Fails, with all that is missing of it, if there is none; a dry run only says so.

    :param confirmed: The migration's name, typed; not needed to prove only.
    :param prove_only: Prove and count; delete nothing and note nothing.
    """

    template_fields: Sequence[str] = ("migration_file", "confirmed", "prove_only")

    def __init__(self, *, confirmed: str = "", prove_only: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.confirmed = confirmed
        self.prove_only = prove_only

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.flows.purge import purge

        if not self.prove_only:
            require_typed("purge", self.confirmed, work.migration.name)
        with work.job() as job:
            report = work.counted(job, "purge", lambda target: purge(job, target, bool(self.prove_only)))
        for line in report.render().splitlines():
            self.log.info(line)
        return report.to_dict()
