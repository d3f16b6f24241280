"""Look at a MongoDB database, and prove the model of a migration file; leave a report of each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from docferry_airflow.operators.base import MigrationOperator, RetryByErrorType, TaskProgress, Work
from docferry_airflow.reports import ReportLink, RoomLink, directory_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class AnalyzeOperator(BaseOperator):
    """Reads within a budget, and nothing but reads. The report, linked from the task, is the result; XCom has counts.

    :param mongo_conn_id: The connection to MongoDB.
    :param database: The database to look at.
    :param elsewhere: Collections of other databases: their names here -> database and collection.
    :param collections: Only these; none means all.
    :param documents: Read at most so many documents of a collection.
    :param minutes: Read for at most so long.
    """

    template_fields: Sequence[str] = ("mongo_conn_id", "database", "collections", "documents", "minutes")
    ui_color = "#eef3f8"
    operator_extra_links = (ReportLink(), RoomLink())
    report_file = "report.html"

    def __init__(
        self,
        *,
        mongo_conn_id: str,
        database: str,
        elsewhere: Mapping[str, Sequence[str]] | None = None,
        collections: Sequence[str] | str = (),
        documents: int | str = 20_000,
        minutes: float | str = 30.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retry_policy", RetryByErrorType())
        super().__init__(**kwargs)
        self.mongo_conn_id, self.database, self.elsewhere = mongo_conn_id, database, dict(elsewhere or {})
        self.collections, self.documents, self.minutes = collections, documents, minutes
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        from docferry.config.price_book import load_price_book
        from docferry.core.namespaces import Namespaces
        from docferry.flows.analyze.analyze import analyze
        from docferry.flows.analyze.budget import ReadBudget
        from docferry.flows.analyze.job import Analysis
        from docferry.wiring_design import analysis_directory, analysis_source

        from docferry_airflow.hooks.connections import mongo_uri_from_airflow

        self._stop = threading.Event()
        logging.getLogger("pymongo").setLevel(logging.WARNING)
        run = context["dag_run"]
        directory = directory_of(run.dag_id, run.run_id)
        uri = mongo_uri_from_airflow(self.mongo_conn_id, "the run's form")
        elsewhere = {name: (database, collection) for name, (database, collection) in self.elsewhere.items()}
        found = analysis_source(uri, Namespaces(self.database, elsewhere))
        with closing(found.source):
            job = Analysis(
                database=self.database,
                elsewhere=elsewhere,
                source=found.source,
                sketches=found.sketches,
                progress=TaskProgress(self.log),
                stop=self._stop,
                collections=tuple(self.collections or ()),
                budget=ReadBudget(documents=int(self.documents), seconds=float(self.minutes) * 60),
                state=analysis_directory(directory).state,  # a second attempt goes on where the first was
            )
            report, proposal = analyze(job, load_price_book(None))
        files = analysis_directory(directory).write(report, proposal)
        self.log.info(report.price.comparison.sentence)
        return report.counts() | {"directory": str(directory), "files": sorted(files)}

    def on_kill(self) -> None:
        if self._stop is not None:
            self._stop.set()


class ProveOperator(MigrationOperator):
    """A bounded sample in scratch tables, and each access pattern of the file on MongoDB and on DynamoDB. The page, linked from
    the task, is the result; XCom has counts. Differences do not fail the task: they are what it is there to find.

    :param enabled: Off, the task is skipped.
    :param documents: Load at most so many documents of a collection.
    :param calls: Of each access pattern.
    """

    template_fields: Sequence[str] = ("migration_file", "enabled", "documents", "calls")
    operator_extra_links = (ReportLink(), RoomLink())
    report_file = "proof.html"

    def __init__(
        self, *, enabled: bool | str = True, documents: int | str = 2_000, calls: int | str = 100, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.enabled, self.documents, self.calls = enabled, documents, calls

    def carry_out(self, work: Work) -> dict[str, Any]:
        from docferry.config.price_book import load_price_book
        from docferry.core.analyze.proof_report import first_lines, proof_files
        from docferry.wiring_design import analysis_directory
        from docferry.wiring_proof import proof_job, run_proof

        if not self.enabled:
            raise AirflowSkipException("not asked for")
        dag_id, _, run_id = work.run.partition(" ")
        directory = directory_of(dag_id, run_id)
        with proof_job(
            work.connections,
            work.migration,
            directory.parent,  # where a killed run has left its tables' names, the next one finds them
            load_price_book(None),
            work.progress,
            work.stop,
            documents=int(self.documents),
            calls=int(self.calls),
        ) as job:
            proof = run_proof(work.connections, job)
        files = analysis_directory(directory).leave(proof_files(proof))
        for line in first_lines(proof):
            self.log.info(line)
        return proof.counts() | {"directory": str(directory), "files": sorted(files)}
