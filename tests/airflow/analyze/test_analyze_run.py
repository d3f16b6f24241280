"""The DAG `analyze` in one process: a report in the run's own directory, counts in XCom, and who may read the pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from support.airflow.home import ROOT, write_migration
from support.analyze.databases import make_movies

SECRET = "person@secret.example"


@pytest.fixture
def movies(connections: SandboxStack) -> Iterator[str]:
    name = "airflow_movies"
    with MongoClient[Any](connections.mongo.uri("docferry")) as client:
        client.drop_database(name)
        make_movies(client[name], movies=60)
        client[name]["people"].insert_many({"email": f"{number}{SECRET}"} for number in range(50))
        yield name
        client.drop_database(name)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCFERRY_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "reports"


@pytest.mark.timeout(120)
def test_a_run_leaves_its_report_in_a_directory_of_its_own_and_no_value_of_a_document_in_xcom_or_files(
    movies: str, reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from docferry_airflow.reports import directory_of

    write_migration(tmp_path, "looked", source={"database": movies})
    monkeypatch.setenv("DOCFERRY_MIGRATIONS", str(tmp_path))
    bag = BundleDagBag(
        dag_folder=ROOT / "dags" / "before" / "analyze.py", bundle_path=ROOT / "dags", bundle_name="dags-folder"
    )
    assert bag.import_errors == {}
    bundles: Any = DagBundlesManager
    bundles().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
    named = {"mongo_connection": "mongo_default", "database": movies, "documents": 50}
    for dag_id, conf in (("analyze", named), ("looked.analyze", {"documents": 50, "prove": False})):
        dag = bag.dags[dag_id]
        defaults = dag.params.dump()
        run = dag.test(logical_date=datetime(2026, 1, len(dag_id), tzinfo=UTC), run_conf=defaults | conf)
        assert run.state == "success"
        task = next(one for one in run.get_task_instances() if one.task_id == "read_mongodb")
        told = task.xcom_pull(task_ids=task.task_id)
        assert told["collections"] == 5
        assert 0 < told["documents_read"] <= 5 * 50 + 400
        written = directory_of(dag_id, run.run_id)
        assert told["directory"] == str(written)
        assert sorted(path.name for path in written.iterdir()) == told["files"] == [
            "migration.yaml", "report.html", "report.json", "report.md",
        ]  # fmt: skip
        texts = [path.read_text() for path in written.iterdir()] + [json.dumps(told)]
        assert [text for text in texts if SECRET in text] == []


def test_link_leads_to_the_page_of_the_run(monkeypatch: pytest.MonkeyPatch, airflow_home: Path) -> None:
    from docferry_airflow.operators.analyze import AnalyzeOperator
    from docferry_airflow.reports import ReportLink

    operator = AnalyzeOperator(task_id="read_mongodb", mongo_conn_id="m", database="d")
    key: Any = SimpleNamespace(dag_id="shop.analyze", run_id="manual__2026-01-01T00:00:00+00:00")
    assert (
        ReportLink()
        .get_link(operator, ti_key=key)
        .endswith("/docferry/reports/shop.analyze/manual__2026-01-01T00%3A00%3A00%2B00%3A00/report.html")
    )


def test_directories_of_runs_stay_below_the_reports_and_apart(reports: Path, airflow_home: Path) -> None:
    from docferry_airflow.reports import directory_of

    names = ["..", "../..", ".", "a.b", "a_b", "a/b", "manual__2026-01-01T00:00:00+00:00"]
    found = [directory_of("shop.analyze", name) for name in names]
    assert len(set(found)) == len(found)
    assert all(path.resolve().parent.parent == reports.resolve() for path in found)


def test_pages_are_refused_to_who_is_not_logged_in(reports: Path, airflow_home: Path) -> None:
    from docferry_airflow.reports import directory_of, make_app
    from fastapi.testclient import TestClient

    page = directory_of("shop.analyze", "r1") / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("the report")
    answer = TestClient(make_app()).get("/reports/shop.analyze/r1/report.html")
    assert answer.status_code in (401, 403)
    assert "the report" not in answer.text


def test_without_its_connection_the_task_ends_at_once(airflow_home: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException
    from docferry_airflow.operators.analyze import AnalyzeOperator

    operator = AnalyzeOperator(task_id="read_mongodb", mongo_conn_id="mongo_gone", database="d")
    with pytest.raises(AirflowFailException, match="mongo_gone"):
        operator.execute({"dag_run": SimpleNamespace(dag_id="analyze", run_id="r")})
