"""Say what the migration costs, before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docferry_airflow.operators.base import MigrationOperator, Work
from docferry_airflow.reports import ReportLink, RoomLink, directory_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class CostOperator(MigrationOperator):
    """What the file's design costs a month, and the migration once, beside MongoDB's bill. Reads only. The report, linked from
    the task, is the result; XCom has a few figures.

    :param price_book: A price book on the worker; empty for list prices of us-east-1.
    :param mongodb_bill: What MongoDB costs a month, a file on the worker; empty for an estimate.
    :param workload: Calls a second, and the plan, a file on the worker; empty for what MongoDB counts.
    """

    template_fields: Sequence[str] = ("migration_file", "price_book", "mongodb_bill", "workload")
    operator_extra_links = (ReportLink(), RoomLink())
    report_file = "cost.html"

    def __init__(self, *, price_book: str = "", mongodb_bill: str = "", workload: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.price_book, self.mongodb_bill, self.workload = price_book, mongodb_bill, workload
        self._directory: Path | None = None

    def execute(self, context: Context) -> Any:
        run = context["dag_run"]
        self._directory = directory_of(run.dag_id, run.run_id)
        return super().execute(context)

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.config.price_book import load_bill, load_price_book
        from docferry.config.workload import load_workload
        from docferry.core.cost.forecast import Workload
        from docferry.core.cost.report import first_lines, report_files, summary
        from docferry.flows.cost.forecasting import forecast_of
        from docferry.wiring_design import analysis_directory, call_counter

        migration = work.migration
        book = load_price_book(Path(self.price_book) if self.price_book else None)
        bill = load_bill(Path(self.mongodb_bill) if self.mongodb_bill else None, book)
        indexes = {name for table in migration.tables for name in table.indexes}
        given = load_workload(Path(self.workload), migration.mappings, indexes) if self.workload else Workload()
        with (
            closing(work.connections.source(migration)) as source,
            closing(call_counter(work.connections.mongo_uri, migration.namespaces)) as counter,
        ):
            found = forecast_of(migration, source, counter, given, book, bill)
        for line in first_lines(found):
            self.log.info(line)
        assert self._directory is not None
        files = analysis_directory(self._directory).leave(report_files(found))
        return summary(found) | {"files": sorted(files)}
