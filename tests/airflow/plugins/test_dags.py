"""DAG files: they parse quickly and without network, a bad migration file breaks only its own DAGs, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.airflow.home import ROOT, SETTINGS, write_migration
from support.pace import Pace

MENDING = ("repair", "dead_letters", "load_again", "purge", "points", "clients", "health")
PHASES = (
    "analyze", "provision", "backfill", "replicate", "validate", "replicas", "dual_write", "flip_reads",
    "stop_mongo_writes",
    "reverse", "rollback", "finalize", "playbook", "drill", *MENDING,
)  # fmt: skip
WITHOUT_FILE = "analyze"
"""The DAG that needs no migration file; all others are called <migration>.<phase>."""
RUNBOOK = ("**Enter when**", "**Steps**", "**Done when**", "**If it fails**", "**Roll back by**")
PARSE_S = 0.5

# In a process of its own: nothing is imported yet, as in Airflow's DAG processor, and no socket can be connected.
PARSE = """
import json, socket, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

def refuse(*_):
    raise AssertionError("a DAG file used the network while it was parsed")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse

def first_dates(dag):
    # The logical dates of the first two runs that the schedule makes.
    dates, interval = [], None
    for _ in range(2):
        info = dag.timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=dag._time_restriction)
        if info is None:
            break
        dates.append(info.logical_date.isoformat())
        interval = info.data_interval
    return dates

folder = Path(sys.argv[1])
bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
serialized = {dag.dag_id: DagSerialization.from_dict(DagSerialization.to_dict(dag)) for dag in bag.dags.values()}
print("RESULT" + json.dumps({
    "errors": bag.import_errors,
    "seconds": {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats},
    "dags": {
        dag.dag_id: {
            "doc": dag.doc_md, "tags": sorted(dag.tags), "tasks": dag.task_ids, "owner": dag.owner,
            "display": dag.dag_display_name,
            "max_active_runs": dag.max_active_runs, "catchup": dag.catchup, "schedule": serialized[dag.dag_id].timetable.summary,
            "dates": first_dates(serialized[dag.dag_id]),
            "run_types": sorted(dag.allowed_run_types or ()), "params": {k: p.schema for k, p in dag.params.items()},
            "defaults": {k: p.value for k, p in dag.params.items()},
            "before": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
            "looks_again": {
                task.task_id: [task.retries, task.retry_exponential_backoff or 0]
                for task in dag.tasks if task.task_type.endswith("Sensor") and task.task_id != "wait_for_approval"
            },
            "unexplained": [k for k, p in dag.params.items() if not p.description],
        }
        for dag in bag.dags.values()
    },
}))
"""


def parse(home: Path, migrations: Path | None = None) -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if name != "DOCFERRY_MIGRATIONS"}
    env |= SETTINGS | {"AIRFLOW_HOME": str(home)}
    if migrations is not None:
        env["DOCFERRY_MIGRATIONS"] = str(migrations)
    command = [sys.executable, "-c", PARSE, str(ROOT / "dags")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2].splitlines()[0])
    return result


@pytest.fixture(scope="module")
def parsed(airflow_home: Path) -> dict[str, Any]:
    """The repository's own migration files."""
    return parse(airflow_home)


def test_dags_of_the_repository_load_without_network(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert {f"shop.{phase}" for phase in PHASES} <= parsed["dags"].keys()


def test_each_dag_file_parses_in_half_a_second(parsed: dict[str, Any], airflow_home: Path) -> None:
    best = dict(parsed["seconds"])
    assert len(best) == len(PHASES) + 1
    for _ in range(4):  # other tests share the machine, and the first parse may have compiled the library
        if max(best.values()) <= PARSE_S:
            break
        with Pace() as pace:
            again = parse(airflow_home)["seconds"]
        best = {file: min(seconds, again[file] / pace.slower) for file, seconds in best.items()}
    assert {file: seconds for file, seconds in best.items() if seconds > PARSE_S} == {}


def test_every_dag_explains_itself_and_runs_once_at_a_time(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        assert dag_id == WITHOUT_FILE or dag_id.count(".") == 1
        assert all(heading in dag["doc"] for heading in RUNBOOK), dag_id
        more = {"mending"} if dag_id.endswith(MENDING) else set()
        assert dag["tags"] == sorted({"docferry", *dag_id.split("."), *more})
        assert (dag["owner"], dag["max_active_runs"], dag["catchup"]) == ("docferry", 1, False)
        assert dag["unexplained"] == []


def test_each_parameter_has_a_title_and_a_section_of_the_form(parsed: dict[str, Any]) -> None:
    schemas = [(dag_id, name, one) for dag_id, dag in parsed["dags"].items() for name, one in dag["params"].items()]
    assert [(dag_id, name) for dag_id, name, one in schemas if not (one.get("title") and one.get("section"))] == []


def test_list_of_dags_reads_in_the_playbooks_order_migration_after_migration(parsed: dict[str, Any]) -> None:
    """Airflow lists DAGs by the names that it displays."""
    shown = sorted((dag["display"], dag_id) for dag_id, dag in parsed["dags"].items() if dag_id.startswith("shop."))
    order = [dag_id.partition(".")[2] for _, dag_id in shown]
    wanted = [
        "playbook",
        "provision",
        "backfill",
        "validate",
        "dual_write",
        "flip_reads",
        "stop_mongo_writes",
        "finalize",
    ]
    assert [phase for phase in order if phase in wanted] == wanted
    assert set(order[-len(MENDING) :]) == set(MENDING)


def test_what_mends_is_a_dry_run_until_a_person_says_otherwise_and_types_what_it_is_about(
    parsed: dict[str, Any],
) -> None:
    typed = {"points": "sentence", "clients": None, "health": None}
    for phase in MENDING:
        dag, word = parsed["dags"][f"shop.{phase}"], typed.get(phase, "confirm")
        if word is not None:
            assert (dag["defaults"]["dry_run"], dag["defaults"][word]) == (True, ""), phase


def test_continuous_runs_have_logical_dates_of_their_own(parsed: dict[str, Any]) -> None:
    """Airflow makes no second run with the date of the first one: replication would end with it."""
    found = [dag["dates"] for dag in parsed["dags"].values() if dag["schedule"] == "@continuous"]
    assert found
    assert all(len(set(dates)) == 2 for dates in found), found


def test_validate_and_both_replications_have_a_schedule_and_the_others_run_on_request(parsed: dict[str, Any]) -> None:
    schedules = {"validate": "0 2 * * *", "replicate": "@continuous", "reverse": "@continuous"}
    for dag_id, dag in parsed["dags"].items():
        phase = dag_id.partition(".")[2]
        if phase in schedules:
            assert (dag["schedule"], dag["run_types"]) == (schedules[phase], [])
        else:
            assert dag["run_types"] == ["manual", "operator_triggered"]


def test_what_waits_for_the_ledger_is_tried_again_often_and_soon(parsed: dict[str, Any]) -> None:
    """A slow scheduler takes a look that is followed by another within seconds for a failure: three of these end no wait."""
    found = {name: dag["looks_again"] for name, dag in parsed["dags"].items() if dag["looks_again"]}
    assert {name.rpartition(".")[2] for name in found} == {"playbook", "replicate", "reverse"}
    assert all(retries == [20, 0] for tasks in found.values() for retries in tasks.values()), found


def test_backfill_has_a_group_of_tasks_for_each_collection(parsed: dict[str, Any]) -> None:
    groups = {
        f"{name}.{task}"
        for name in ("users", "orders", "products", "categories")
        for task in ("prepare", "load", "finish")
    }
    assert set(parsed["dags"]["shop.backfill"]["tasks"]) == groups | {"plan_the_load", "report_totals"}
    assert parsed["dags"]["shop.backfill"]["params"]["dry_run"]["type"] == "boolean"


def test_purge_deletes_only_if_somebody_says_so(parsed: dict[str, Any]) -> None:
    dag = parsed["dags"]["shop.purge"]
    assert dag["tasks"] == ["purge_tombstones"]
    assert (dag["params"]["dry_run"]["type"], dag["defaults"]["dry_run"]) == ("boolean", True)


def test_rollback_point_is_made_before_the_stop_is_approved_and_before_mongodb_is_left_if_the_file_has_them(
    airflow_home: Path, parsed: dict[str, Any], tmp_path: Path
) -> None:
    for phase in ("stop_mongo_writes", "finalize"):
        assert "make_rollback_point" not in parsed["dags"][f"shop.{phase}"]["tasks"]
    write_migration(tmp_path, "kept", rollback_points={"to": "s3://backups/kept"})
    write_migration(tmp_path, "named", rollback_points={"method": "snapshot"})
    dags = parse(airflow_home, tmp_path)["dags"]
    for name, params in (("kept", {"waived"}), ("named", {"waived", "snapshot"})):
        stop, final = dags[f"{name}.stop_mongo_writes"], dags[f"{name}.finalize"]
        assert stop["before"]["wait_for_approval"] == ["make_rollback_point"]
        assert stop["before"]["make_rollback_point"] == ["compare_every_document"]
        assert final["before"]["leave_mongodb"] == ["make_rollback_point"]
        assert (set(stop["params"]), set(final["params"])) == (params | {"dry_run"}, params | {"dry_run", "confirm"})


def test_dry_run_of_a_phase_leaves_out_what_comes_before_it(parsed: dict[str, Any]) -> None:
    first = {"flip_reads": "wait_for_approval"} | dict.fromkeys(
        ("stop_mongo_writes", "finalize"), "compare_every_document"
    )
    before = {phase: parsed["dags"][f"shop.{phase}"]["before"][task] for phase, task in first.items()}
    assert before == {phase: ["unless_dry_run"] for phase in first}


def test_bad_migration_file_breaks_only_its_own_dags_and_all_its_problems_are_shown(
    airflow_home: Path, tmp_path: Path
) -> None:
    write_migration(tmp_path, "good")
    (tmp_path / "typo.yaml").write_text(
        "migration: typo\nsource: {database: x}\ntables: {Shop: {indices: [GSI1]}}\ncollections: {users: {itm: {}}}\n"
    )
    (tmp_path / "broken.yaml").write_text("migration: [")
    write_migration(tmp_path, "other").rename(tmp_path / "zz-second.yaml")
    (tmp_path / "zz-third.yaml").write_text((tmp_path / "zz-second.yaml").read_text())
    result = parse(airflow_home, tmp_path)
    files = {f"{name}.{phase}" for name in ("good", "other") for phase in PHASES}
    assert set(result["dags"]) == files | {WITHOUT_FILE}
    assert list(result["errors"]) == ["checks/migration_files.py"]
    shown = result["errors"]["checks/migration_files.py"]
    for expected in (
        "did you mean indexes?",
        "did you mean item?",
        "typo.yaml: collections.users.itm",
        "broken.yaml: YAML",
        "line ",
        "zz-third.yaml: migration: other is the name of",
    ):
        assert expected in shown, shown


def test_without_a_migration_file_a_database_can_be_analyzed_and_the_lack_is_shown(
    airflow_home: Path, tmp_path: Path
) -> None:
    result = parse(airflow_home, tmp_path)
    assert set(result["dags"]) == {WITHOUT_FILE}
    assert set(result["dags"][WITHOUT_FILE]["params"]) == {
        "mongo_connection",
        "database",
        "collections",
        "documents",
        "minutes",
    }
    assert "holds no migration file" in result["errors"]["checks/migration_files.py"]


def test_collection_names_that_airflow_refuses_get_groups_of_their_own(airflow_home: Path) -> None:
    from airflow.sdk import DAG
    from docferry_airflow.dag_factory import collection_group

    with DAG("groups", schedule=None):
        names = [collection_group(name).group_id for name in ("a.b", "a_b", "a b", "plain", "日本語", "x" * 300)]
    assert len(set(names)) == len(names)
    assert names[1] == "a_b"
    assert names[3] == "plain"


def test_pools_are_made_where_they_are_missing_and_left_alone_where_not(airflow_home: Path) -> None:
    from airflow.models.pool import Pool
    from docferry_airflow.pools import MONGO_READ, POOLS, create_missing_pools

    create_missing_pools()
    Pool.create_or_update_pool(MONGO_READ, 3, "mine", include_deferred=False)
    create_missing_pools()
    pools = {name: Pool.get_pool(name) for name in POOLS}
    assert {name: pool.slots for name, pool in pools.items() if pool} == {"mongo_read": 3, "dynamo_write": 8}
