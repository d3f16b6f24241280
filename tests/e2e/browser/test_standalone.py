"""The whole way through a real `airflow standalone`: the load while two of its tasks are killed, then replication and
validation while an application writes, started by hand, on schedule and in the browser, and killed as well."""

from __future__ import annotations

import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from demo.traffic import TrafficProcess
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.replicate.follower import TELL_S
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow_api import AirflowApi, TaskState
from playwright.sync_api import expect
from pymongo import MongoClient
from support.airflow.control_room import PAGE, open_watched, pictures_directory
from support.airflow.grid import find_browser, look, take_pages, trigger_by_clicks
from support.airflow.site import Site
from support.airflow.standalone import (
    DATABASE,
    PLAN,
    TABLE,
    WAIT_S,
    Standalone,
    dynamodb_client,
    eventually,
    judge_followed,
    read_page,
    unstorable_ids,
)
from support.backfill.rig import table_names

pytestmark = pytest.mark.slow

PATIENCE_S = 900
"""For the slowest machine; an idle one needs four minutes for all of it."""
BACKFILL, REPLICATE, VALIDATE, ANALYZE = (
    f"{DATABASE}.{phase}" for phase in ("backfill", "replicate", "validate", "analyze")
)


@dataclass
class Loaded:
    """A finished run of the first three phases, with what the tasks returned."""

    api: AirflowApi
    run_id: str
    killed: list[TaskState]
    tasks: Mapping[str, TaskState]
    totals: Mapping[str, Any]
    compared: Mapping[str, Any]


@dataclass
class Live:
    """The first scheduled run of replicate, which found that the command line was at it."""

    run_id: str
    began: float
    cli_said: str
    cli_code: int
    first_log: str


@pytest.fixture(scope="module")
def standalone(site: Site) -> Iterator[Standalone]:
    stack = site.stack
    site.airflow.wait_until_ready()
    with pytest.MonkeyPatch.context() as patch, MongoClient[Any](stack.mongo.uri("docferry")) as mongo:
        for name, value in stack.env().items():
            patch.setenv(name, value)
        yield Standalone(stack, site.airflow, site.standalone, mongo, dynamodb_client(stack))


@pytest.fixture(scope="module")
def loaded(standalone: Standalone) -> Loaded:
    api = standalone.api
    api.wait_for_dags([f"{DATABASE}.provision", BACKFILL, REPLICATE, VALIDATE])
    assert standalone.finished("provision")[1] == "success"
    standalone.switch_on("backfill")
    run_id = api.trigger(BACKFILL)
    killed = standalone.kill(BACKFILL, run_id, "users.load", "orders.load")
    ended = api.wait_for_run(BACKFILL, run_id, timeout_s=2 * WAIT_S)
    tasks = {task.name: task for task in api.tasks(BACKFILL, run_id)}
    assert ended == "success", "\n".join(f"{task.name} {task.state}" for task in tasks.values())
    check_id, checked = standalone.finished("validate")
    assert checked == "success"
    api.set_paused(VALIDATE, True)
    return Loaded(
        api=api,
        run_id=run_id,
        killed=killed,
        tasks=tasks,
        totals=api.result(BACKFILL, run_id, "report_totals"),
        compared=api.result(VALIDATE, check_id, "compare_every_document"),
    )


# --- the load ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(PATIENCE_S)
def test_two_killed_tasks_were_tried_again_and_every_document_is_accounted_for_once(loaded: Loaded) -> None:
    assert [task.try_number for task in loaded.killed] == [1, 1]
    again = {(task.task_id, task.map_index): task for task in loaded.tasks.values()}
    assert all(again[killed.task_id, killed.map_index].try_number > 1 for killed in loaded.killed)
    assert all(task.state in ("success", "skipped") for task in again.values())
    for one in loaded.totals["collections"]:
        assert one["state"] == "complete"
        assert one["read"] == one["written"] + one["superseded"] + one["dead"] == PLAN.size(one["collection"])
    assert sum(one["dead"] for one in loaded.totals["collections"]) == PLAN.unstorable
    assert loaded.compared["ok"] is True


def test_a_comparison_that_shares_no_code_with_docferry_finds_nothing(loaded: Loaded, standalone: Standalone) -> None:
    unstorable = {name: frozenset(map(judge.id_key, ids)) for name, ids in unstorable_ids().items()}
    verdict = judge.judge_shop(standalone.database, standalone.dynamodb, TABLE, unstorable)
    assert verdict.counts == (0, 0, 0), str(verdict)
    assert verdict.documents == sum(PLAN.size(name) for name in COLLECTIONS)


def test_a_second_run_changes_nothing_and_says_so(loaded: Loaded, standalone: Standalone) -> None:
    run_id, ended = standalone.finished("backfill")
    assert ended == "success"
    assert loaded.api.result(BACKFILL, run_id, "users.finish")["already_complete"] is True
    assert loaded.api.result(BACKFILL, run_id, "report_totals")["collections"] == loaded.totals["collections"]


def links_of(api: AirflowApi, dag_id: str, run_id: str, task: str) -> dict[str, str]:
    run = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
    return dict(api.get(f"{run}/taskInstances/{task}/links")["extra_links"])


def test_a_task_leads_to_its_migration_in_the_control_room_and_back(loaded: Loaded) -> None:
    room = f"{loaded.api.url}/migrations/#{DATABASE}"
    validated = next(run for run in loaded.api.runs(VALIDATE) if run["run_type"] == "manual")
    found = links_of(loaded.api, VALIDATE, validated["dag_run_id"], "compare_every_document")
    assert found == {"Control room": room, "Dead letters": f"{room}/letters", "Last report": f"{room}/report"}
    found = links_of(loaded.api, BACKFILL, loaded.run_id, "orders.finish")
    assert found.pop("Chunk ranges") == f"{room}/collections/orders"
    assert found == {"Control room": room, "Dead letters": f"{room}/letters"}
    with open_watched(loaded.api, f"{PAGE}#{DATABASE}/collections/orders") as opened:
        ranges = opened.page.get_by_role("region", name="Chunk ranges of orders, as a table")
        expect(ranges.get_by_role("cell", name="ids before").first).to_be_visible()
        assert opened.complaints == []
        opened.page.get_by_role("link", name="The tasks that load them").click()
        opened.page.wait_for_url("**/tasks/orders.load/mapped")
        opened.page.get_by_text("ids before").first.wait_for()


def test_grid_names_collections_and_ranges(loaded: Loaded, tmp_path: Path) -> None:
    require_browser()
    picture = pictures_directory(tmp_path) / "grid.png"
    seen = look(loaded.api, BACKFILL, loaded.run_id, "orders.load", picture)
    assert picture.stat().st_size > 20_000
    assert all(name in seen.grid for name in (*COLLECTIONS, "plan_the_load", "prepare", "load", "finish"))
    labels = [task.label for task in loaded.tasks.values() if task.task_id == "orders.load"]
    assert len(set(labels)) == len(labels) > 2
    assert all(label in seen.ranges for label in labels)


@pytest.fixture(scope="module")
def analyzed(standalone: Standalone) -> str:
    """The id of a run of analyze."""
    standalone.api.wait_for_dags([ANALYZE, "analyze"])
    standalone.switch_on("analyze")
    run_id = standalone.api.trigger(ANALYZE, {"calls": 2})
    assert standalone.api.wait_for_run(ANALYZE, run_id, timeout_s=2 * WAIT_S) == "success"
    return run_id


@pytest.mark.timeout(PATIENCE_S)
def test_a_run_of_analyze_leads_to_its_report_which_is_shown_to_those_who_may_see_the_run(
    analyzed: str, standalone: Standalone
) -> None:
    run_id = analyzed
    told = standalone.api.result(ANALYZE, run_id, "read_mongodb")
    assert told["documents_read"] >= PLAN.users
    proved = standalone.api.result(ANALYZE, run_id, "prove_the_model")
    assert (proved["failed"], proved["documents"] > PLAN.users) == (0, True)
    assert [name for name in table_names(standalone.dynamodb) if "scratch" in name] == []
    links = links_of(standalone.api, ANALYZE, run_id, "read_mongodb")
    page = read_page(links["Report"], standalone.api.access_token())
    assert "<h1>Analysis of standalone</h1>" in page
    links = links_of(standalone.api, ANALYZE, run_id, "prove_the_model")
    assert "<h1>Proof of the model standalone</h1>" in read_page(links["Report"], standalone.api.access_token())
    with pytest.raises(urllib.error.HTTPError) as refused:
        read_page(links["Report"], "")
    assert refused.value.code in (401, 403)
    with pytest.raises(urllib.error.HTTPError) as missing:
        read_page(links["Report"].replace("proof.html", "report.exe"), standalone.api.access_token())
    assert missing.value.code == 404


def require_browser() -> None:
    if find_browser() is None:
        pytest.skip("there is no chromium (apt-get install chromium)")


# --- replication and validation while an application writes ------------------------------------------------------------


@pytest.fixture(scope="module")
def traffic(
    loaded: Loaded, stack: SandboxStack, standalone: Standalone, tmp_path_factory: Any
) -> Iterator[TrafficProcess]:
    """Writes from here on. What cannot be stored is deleted first: then all that is there must have its items."""
    for name, ids in unstorable_ids().items():
        standalone.database[name].delete_many({"_id": {"$in": ids}})
    directory = tmp_path_factory.mktemp("traffic")
    with TrafficProcess(stack.mongo.uri("app"), directory, database=DATABASE, rate=10) as opened:
        opened.await_writing()
        yield opened


@pytest.fixture(scope="module")
def live(traffic: TrafficProcess, standalone: Standalone) -> Live:
    """The command line replicates first; then the DAG is switched on, and the command line is ended."""
    cli = standalone.start_cli("replicate")
    try:
        holder = eventually(standalone.holder, "the command line replicates")
        began = time.monotonic()
        standalone.switch_on("replicate")
        run_id = standalone.scheduled_run(REPLICATE, "running")
        tried = standalone.task(REPLICATE, run_id, "follow_changes", ("up_for_retry",))
        log = standalone.api.log(REPLICATE, run_id, tried)
        assert standalone.holder() == holder
        cli.send_signal(signal.SIGINT)
        cli.communicate(timeout=WAIT_S)
    finally:
        cli.kill()
    standalone.lease_of(run_id, "follow_changes try 2")
    return Live(run_id=run_id, began=began, cli_said=holder, cli_code=cli.returncode, first_log=log)


@pytest.mark.timeout(PATIENCE_S)
def test_a_scheduled_run_that_finds_the_lease_held_says_by_whom_and_goes_on_when_it_is_free(
    live: Live, standalone: Standalone
) -> None:
    assert re.fullmatch(r"\S+@\S+ pid \d+", live.cli_said)
    assert f"replicate/stream is being worked on by {live.cli_said}" in live.first_log
    assert live.cli_code == 0  # Ctrl-C is how the command is ended
    standalone.wait_until_followed()


@pytest.mark.timeout(PATIENCE_S)
def test_the_command_line_and_a_second_run_are_told_that_a_dag_run_replicates(
    live: Live, standalone: Standalone
) -> None:
    cli = standalone.start_cli("replicate", "--json")
    second = standalone.api.trigger(REPLICATE, {"until_caught_up": True, "minutes": 5})
    try:
        out, err = cli.communicate(timeout=WAIT_S)
    finally:
        cli.kill()
    holder = standalone.holder()
    assert cli.returncode == 3, err
    assert f"airflow {REPLICATE} {live.run_id} follow_changes try 2" in holder
    assert f"replicate/stream is being worked on by {holder}" in out
    standalone.wait_until_followed()
    assert standalone.api.run_state(REPLICATE, second) == "queued"  # Airflow itself runs one at a time


@pytest.mark.timeout(PATIENCE_S)
def test_a_killed_replicator_is_tried_again_and_goes_on(live: Live, standalone: Standalone) -> None:
    standalone.switch_on("validate")  # the next minute comes while this goes on
    before = standalone.replication()["events"]
    [killed] = standalone.kill(REPLICATE, live.run_id, "follow_changes")
    standalone.lease_of(live.run_id, f"follow_changes try {killed.try_number + 1}")
    standalone.wait_until_followed()
    assert standalone.replication()["events"] > before


@pytest.mark.timeout(PATIENCE_S)
def test_validate_runs_on_its_schedule_while_all_goes_on_and_finds_no_difference(
    live: Live, standalone: Standalone
) -> None:
    run_id = standalone.scheduled_run(VALIDATE, "success")
    compared = standalone.api.result(VALIDATE, run_id, "compare_every_document")
    assert (compared["ok"], compared["pending"], compared["unchecked"]) == (True, 0, 0)
    assert compared["equal_up_to"] is not None


@pytest.mark.timeout(PATIENCE_S)
def test_a_person_starts_validate_by_clicking_and_sees_it_succeed(
    live: Live, traffic: TrafficProcess, standalone: Standalone, tmp_path: Path
) -> None:
    require_browser()
    run_id = trigger_by_clicks(standalone.api, VALIDATE, tmp_path)
    run = next(run for run in standalone.api.runs(VALIDATE) if run["dag_run_id"] == run_id)
    assert (run["state"], run["run_type"], run["triggering_user_name"]) == ("success", "manual", "admin")
    assert standalone.api.result(VALIDATE, run_id, "compare_every_document")["ok"] is True
    assert traffic.process.is_alive()


def test_pages_of_a_report_and_of_replication_are_taken_for_the_docs(
    analyzed: str, live: Live, standalone: Standalone, tmp_path: Path
) -> None:
    require_browser()
    log = f"/dags/{REPLICATE}/runs/{quote(live.run_id, safe='')}/tasks/follow_changes"
    report = f"/docferry/reports/{ANALYZE}/{quote(analyzed, safe='')}/report.html"
    directory = pictures_directory(tmp_path)
    take_pages(
        standalone.api,
        {directory / "replicate.png": (log, "the oplog holds"), directory / "analysis.png": (report, "Analysis of")},
    )


def test_the_log_of_a_task_that_runs_for_ever_tells_lag_and_window_every_few_seconds(
    live: Live, standalone: Standalone
) -> None:
    task = standalone.task(REPLICATE, live.run_id, "follow_changes", ("running",))
    lines = [line for line in standalone.api.log(REPLICATE, live.run_id, task).splitlines() if "replication: " in line]
    assert 0 < len(lines) < (time.monotonic() - live.began) / TELL_S + 3
    assert all(
        re.search(r"lag (unknown|\d+ s), .* events/s, the oplog holds the position for [\d,.]+ h$", one)
        for one in lines
    )


@pytest.mark.timeout(PATIENCE_S)
def test_the_run_that_was_started_by_hand_has_its_turn_and_then_the_schedule_goes_on(
    live: Live, standalone: Standalone
) -> None:
    (by_hand,) = (run["dag_run_id"] for run in standalone.api.runs(REPLICATE) if run["run_type"] == "manual")
    standalone.api.end_run(REPLICATE, live.run_id, "success")
    assert standalone.api.wait_for_run(REPLICATE, by_hand, timeout_s=WAIT_S) == "success"
    report = standalone.api.result(REPLICATE, by_hand, "follow_changes")
    assert report["events"] == sum(report[name] for name in ("written", "superseded", "dead", "passed"))
    following = standalone.scheduled_run(REPLICATE, "running")
    assert following != live.run_id
    standalone.lease_of(following, "follow_changes try 1")


@pytest.mark.timeout(PATIENCE_S)
def test_after_all_of_this_nothing_is_lost(live: Live, traffic: TrafficProcess, standalone: Standalone) -> None:
    report = traffic.stop()
    assert report.documents_changed > 200
    standalone.wait_until_followed()
    assert [letter for name in COLLECTIONS for letter in list_letters(standalone.ledger, name)] == []
    verdict = judge_followed(standalone)
    assert verdict.counts == (0, 0, 0), str(verdict)
    assert verdict.documents > 1_000


def test_load_and_replication_are_events_of_the_table_among_airflows_assets(live: Live, standalone: Standalone) -> None:
    tables = standalone.api.get("/api/v2/assets?uri_pattern=dynamodb://&limit=100")["assets"]
    (table,) = (one for one in tables if one["uri"].endswith(f"/{TABLE}"))
    events = standalone.api.get(f"/api/v2/assets/events?asset_id={table['id']}&limit=100")["asset_events"]
    assert {(one["source_dag_id"], one["source_task_id"]) for one in events} == {
        (BACKFILL, f"{name}.finish") for name in COLLECTIONS
    } | {(REPLICATE, "follow_changes")}


def test_no_secret_is_in_any_log_of_airflow(loaded: Loaded, standalone: Standalone, stack: SandboxStack) -> None:
    password = stack.mongo.uri("docferry").partition("://docferry:")[2].partition("@")[0]
    assert len(password) > 7
    logs = [path for path in standalone.airflow.home.rglob("*.log") if path.is_file()]
    assert len(logs) > 10
    assert [path.name for path in logs if password in path.read_text(errors="replace")] == []
