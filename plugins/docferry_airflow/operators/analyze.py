"""Look at a MongoDB database; leave a report, and a migration file to begin with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from docferry_airflow.operators.base import RetryByErrorType, TaskProgress
from docferry_airflow.reports import ReportLink, directory_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class AnalyzeOperator(BaseOperator):
    """Reads within a budget, and nothing but reads. The report, linked from the task, is the result; XCom has counts.

    :param mongo_conn_id: The connection to MongoDB.
    :param database: The database to look at.
    :param collections: Only these; none means all.
    :param documents: Read at most so many documents of a collection.
    :param minutes: Read for at most so long.
    """

    template_fields: Sequence[str] = ("mongo_conn_id", "database", "collections", "documents", "minutes")
    ui_color = "#eef3f8"
    operator_extra_links = (ReportLink(),)
    report_file = "report.html"

    def __init__(
        self,
        *,
        mongo_conn_id: str,
        database: str,
        collections: Sequence[str] | str = (),
        documents: int | str = 20_000,
        minutes: float | str = 30.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retry_policy", RetryByErrorType())
        super().__init__(**kwargs)
        self.mongo_conn_id, self.database = mongo_conn_id, database
        self.collections, self.documents, self.minutes = collections, documents, minutes
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        from docferry.config.price_book import load_price_book
        from docferry.flows.analyze.analyze import analyze
        from docferry.flows.analyze.budget import ReadBudget
        from docferry.flows.analyze.collect import Analysis
        from docferry.wiring import analysis_directory, analysis_source

        from docferry_airflow.hooks.connections import mongo_uri_from_airflow

        self._stop = threading.Event()
        logging.getLogger("pymongo").setLevel(logging.WARNING)
        uri = mongo_uri_from_airflow(self.mongo_conn_id, "the run's form")
        found = analysis_source(uri, self.database)
        with closing(found.source):
            job = Analysis(
                database=self.database,
                source=found.source,
                sketches=found.sketches,
                progress=TaskProgress(self.log),
                stop=self._stop,
                collections=tuple(self.collections or ()),
                budget=ReadBudget(documents=int(self.documents), seconds=float(self.minutes) * 60),
            )
            report, proposal = analyze(job, load_price_book(None))
        run = context["dag_run"]
        directory = directory_of(run.dag_id, run.run_id)
        files = analysis_directory(directory).write(report, proposal)
        self.log.info(report.price.comparison.sentence)
        return report.counts() | {"directory": str(directory), "files": sorted(files)}

    def on_kill(self) -> None:
        if self._stop is not None:
            self._stop.set()
