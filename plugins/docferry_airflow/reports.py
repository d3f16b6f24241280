"""Reports of the DAG `analyze`: where they lie, the link to them in a task's page, and the pages themselves.

Tasks write them to a directory (DOCFERRY_REPORTS, by default `docferry-reports` in AIRFLOW_HOME) that workers and the API server
share. The API server shows them to those who may see the DAG's runs.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

DIRECTORY = "DOCFERRY_REPORTS"
PREFIX = "/docferry"
MEDIA = {".html": "text/html", ".md": "text/markdown", ".json": "application/json", ".yaml": "text/plain"}
"""Kinds of files that are shown; no other is."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
"""A report has no script and asks for nothing; whatever may be in one, it runs nothing in Airflow's name."""
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def directory() -> Path:
    """Where all reports are."""
    return Path(
        os.environ.get(DIRECTORY) or Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "docferry-reports")
    ).expanduser()


def directory_of(dag_id: str, run_id: str) -> Path:
    """Where the reports of one run are: below `directory()`, whatever the run is called (`..` is a name that Airflow allows)."""
    return directory() / _plain(dag_id) / _plain(run_id)


def _plain(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name else f"{plain[:150]}_{blake2b(name.encode(), digest_size=4).hexdigest()}"


def path_of(dag_id: str, run_id: str, file: str) -> str:
    """The path of a report's page on the API server."""
    return f"{PREFIX}/reports/{quote(dag_id, safe='')}/{quote(run_id, safe='')}/{quote(file, safe='')}"


class ReportLink(BaseOperatorLink):
    """The button `Report` on the page of a task that has written one."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.configuration import conf

        base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
        return base + path_of(ti_key.dag_id, ti_key.run_id, getattr(operator, "report_file", "report.html"))


class RoomLink(BaseOperatorLink):
    """The button `Control room` on the page of each task: collections, dead letters, and who did what."""

    name = "Control room"
    section = ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.configuration import conf

        base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
        return f"{base}/migrations/#{quote(ti_key.dag_id.rpartition('.')[0], safe='')}{self.section}"


class LettersLink(RoomLink):
    """The button `Dead letters` on the page of a task that may leave some: the list in the control room."""

    name = "Dead letters"
    section = "/letters"


class ValidationLink(RoomLink):
    """The button `Last report` on the page of a task that makes one, or asks for an approval of one."""

    name = "Last report"
    section = "/report"


class ChunksLink(RoomLink):
    """The button `Chunk ranges` on the page of a task of a collection's load."""

    name = "Chunk ranges"
    section = "/collections"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        room = super().get_link(operator, ti_key=ti_key)
        return f"{room}/{quote(getattr(operator, 'collection', ''), safe='')}"


def make_app() -> Any:
    """The pages, as a FastAPI application of Airflow's API server."""
    # No public name for what asks who may see a DAG: tests/airflow/analyze/test_analyze_run.py sees that it still refuses.
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import FileResponse

    from docferry_airflow.page_headers import add_headers

    app = FastAPI(title="docferry", docs_url=None, redoc_url=None, openapi_url=None)
    add_headers(app, HEADERS)
    allowed = Depends(requires_access_dag("GET", DagAccessEntity.RUN))

    @app.get("/reports/{dag_id}/{run_id}/{file}", dependencies=[allowed])
    def show(dag_id: str, run_id: str, file: str) -> FileResponse:
        path = directory_of(dag_id, run_id) / file
        media = MEDIA.get(path.suffix)
        if media is None or "/" in file or not path.is_file():
            raise HTTPException(
                404, f"no {file} of this run is in {directory()} on the API server: let it and the workers share it"
            )
        return FileResponse(path, media_type=media)

    return app
