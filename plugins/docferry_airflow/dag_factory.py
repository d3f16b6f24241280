"""From migration files to DAGs: which files there are, and what all phases have in common.

Parsing reads the migration files and nothing else: no connection, no Variable, no network. A file that is refused gets
no DAGs; `dags/checks/migration_files.py` says so in the UI, because an import error hides every DAG of the .py it is raised in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import DAG, Asset, BaseOperator, CronTriggerTimetable, Param, TaskGroup
from docferry.config import Migration, load_migration, migration_files
from docferry.errors import ConfigError, MigrationError, Problem

from docferry_airflow.notifying import missing_providers, on_failure

DIRECTORIES = "DOCFERRY_MIGRATIONS"
DEFAULT_DIRECTORY = Path(__file__).resolve().parents[2] / "include" / "migrations"
"""plugins/ and include/ lie beside each other, in the repository as in AIRFLOW_HOME."""

CONTINUOUS = "@continuous"
"""A schedule: the next run begins when the last one has ended."""

CONTINUOUS_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
"""Without a start, the first run's interval begins and ends at one moment; the second run then begins there, too, and Airflow
takes it for the first and never makes it."""

ORDER = (
    "playbook", "analyze", "drill", "provision", "backfill", "replicate", "validate", "replicas", "dual_write", "flip_reads",
    "stop_mongo_writes", "reverse", "rollback", "finalize",
    "health", "clients", "dead_letters", "repair", "load_again", "points", "purge",
)  # fmt: skip
"""In which the list of DAGs names them, migration after migration: the playbook's, then what looks and mends."""

MENDING = "mending"
"""The tag of DAGs that are no phase: they look, or mend."""

ON_REQUEST = ("manual", "operator_triggered")
"""Kinds of run that a person asked for. Never Airflow's own backfill or a schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the directories hold: good files, and the errors of the others."""

    migrations: tuple[Migration, ...]
    errors: tuple[MigrationError, ...]


def directories() -> list[Path]:
    """Where migration files lie: DOCFERRY_MIGRATIONS (several, separated like PATH), else include/migrations."""
    named = [Path(entry) for entry in os.environ.get(DIRECTORIES, "").split(os.pathsep) if entry]
    return named or [DEFAULT_DIRECTORY]


def find_migrations() -> Found:
    """Read every migration file. One that is refused does not keep the others from being read."""
    good: dict[str, Migration] = {}
    errors: list[MigrationError] = []
    for path in migration_files(directories()):
        try:
            migration = load_migration(path)
            _refuse_second(migration, good.get(migration.name))
            if missing := list(missing_providers(migration)):
                raise ConfigError(migration.path, missing)
        except MigrationError as error:
            errors.append(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one file must not hide the others
            problem = Problem(where="file", what=f"{type(error).__name__}: {error}")
            errors.append(ConfigError(str(path), [problem]))
        else:
            good[migration.name] = migration
    return Found(migrations=tuple(good.values()), errors=tuple(errors))


def _refuse_second(migration: Migration, first: Migration | None) -> None:
    if first is not None:
        what = f"{migration.name} is the name of {first.path}, too"
        raise ConfigError(migration.path, [Problem(where="migration", what=what, suggestion="choose another")])


def migrations() -> tuple[Migration, ...]:
    """The migrations whose files are good."""
    return find_migrations().migrations


def report_refused_files() -> None:
    """Raises one ConfigError with every problem of every refused file, for the UI. Nothing if all is well."""
    found = find_migrations()
    if found.errors:
        problems = [problem for error in found.errors for problem in _problems(error)]
        raise ConfigError("migration files", problems)
    if not found.migrations:
        where = ", ".join(map(str, directories()))
        missing = Problem(where=where, what="holds no migration file", suggestion=f"write one, or set {DIRECTORIES}")
        raise ConfigError("migration files", [missing])


def _problems(error: MigrationError) -> Iterator[Problem]:
    if not isinstance(error, ConfigError):
        yield Problem(where="file", what=str(error))
        return
    for one in error.problems:
        where = f"{Path(error.source).name}: {one.where}"
        yield Problem(where=where, what=one.what, suggestion=one.suggestion, line=one.line)


def phase_dag(
    migration: Migration,
    phase: str,
    *,
    doc: str | None,
    params: Mapping[str, Param],
    schedule: str | None = None,
    retries: int = 3,
    tags: Sequence[str] = (),
) -> DAG:
    """The DAG `<migration>.<phase>`, for a `with` statement.

    :param doc: The DAG file's docstring: the runbook, shown in the UI.
    :param params: What the person who starts a run may choose.
    :param schedule: Cron, or CONTINUOUS: one run after the other; None means only on request.
    :param retries: How often a task is tried again; which errors are worth it is for their type to say.
    :param tags: Besides `docferry`, the migration and the phase.
    """
    told = any("failure" in one.when for one in migration.notify)
    defaults = {"on_failure_callback": on_failure(migration.path)} if told else {}
    return _dag(
        f"{migration.name}.{phase}",
        {"docferry", migration.name, phase, *tags},
        {"migration_file": migration.path, "retries": retries, **defaults},
        doc=doc,
        params=params,
        schedule=schedule,
        dag_display_name=f"{migration.name} {ORDER.index(phase):02d} {phase}",
    )


def dag_without_file(phase: str, *, doc: str | None, params: Mapping[str, Param], retries: int = 3) -> DAG:
    """The DAG `<phase>`, which needs no migration file. Parameters as of `phase_dag`."""
    return _dag(phase, {"docferry", phase}, {"retries": retries}, doc=doc, params=params)


def _dag(
    dag_id: str,
    tags: set[str],
    defaults: Mapping[str, Any],
    *,
    doc: str | None,
    params: Mapping[str, Param],
    schedule: str | None = None,
    **more: Any,
) -> DAG:
    return DAG(
        dag_id=dag_id,
        description=(doc or "").strip().partition("\n")[0],
        doc_md=doc,
        schedule=schedule if schedule == CONTINUOUS else _at_the_next_time(schedule),
        # A run that fails at once would be followed by the next at once: after three, a person should look.
        max_consecutive_failed_dag_runs=3 if schedule == CONTINUOUS else 0,
        start_date=CONTINUOUS_SINCE if schedule == CONTINUOUS else None,
        catchup=False,
        max_active_runs=1,
        allowed_run_types=None if schedule else _run_types(),
        render_template_as_native_obj=True,
        params=dict(params),
        tags=tags,
        default_args={
            "owner": "docferry",
            **defaults,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=5),
        },
        **more,
    )


def _at_the_next_time(cron: str | None) -> CronTriggerTimetable | None:
    """A schedule that begins with the next time, not with the last one, when the DAG is new."""
    # run_immediately=False would still run the last time, if a tenth of the interval has not passed since.
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0)) if cron else None


def _run_types() -> list[Any]:
    from airflow.sdk.api.datamodels._generated import DagRunType

    return [DagRunType(kind) for kind in ON_REQUEST]


def collection_asset(migration: Migration, collection: str) -> Asset:
    """A collection, on Airflow's page of assets."""
    database, name = migration.namespaces.place_of(collection)
    return Asset(
        name=f"MongoDB {migration.source.connection} {database}.{name}",
        uri=f"mongodb://{migration.source.connection}/{database}/{quote(name, safe='')}",
        group="docferry",
    )


def table_asset(migration: Migration, table: str) -> Asset:
    """A table of DynamoDB, which has an event each time that a load or replication has written to it."""
    region = migration.target.region
    return Asset(name=f"DynamoDB {region} {table}", uri=f"dynamodb://{region}/{table}", group="docferry")


def collection_group(collection: str) -> TaskGroup:
    """The task group of a collection."""
    return TaskGroup(group_id=_group_id(collection), group_display_name=collection)


def load_task(collection: str) -> str:
    """The id of the task of the DAG `backfill` that is mapped over the collection's ranges."""
    return f"{_group_id(collection)}.load"


def _group_id(collection: str) -> str:
    """The collection's name, and where Airflow refuses that, something like it."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", collection)
    # Two names may become one by the replacement: the digest keeps them apart.
    suffix = "" if plain == collection else "_" + blake2b(collection.encode(), digest_size=3).hexdigest()
    return plain[:180] + suffix


def chosen_task(chosen: str, tasks: Sequence[BaseOperator]) -> BaseOperator:
    """A first task, for a DAG whose tasks are one thing each: it leaves out all but the one of this name."""
    from airflow.providers.standard.operators.python import BranchPythonOperator

    first = BranchPythonOperator(task_id="choose", python_callable=lambda name: name, op_args=[chosen])
    first >> list(tasks)
    return first


def unless_dry_run() -> BaseOperator:
    """A first task, for a DAG with the parameter `dry_run`: in a dry run it leaves out what comes behind it, but for the tasks
    that then only say what they would do. Those have the trigger rule `none_failed`."""
    from airflow.providers.standard.operators.python import ShortCircuitOperator

    return ShortCircuitOperator(
        task_id="unless_dry_run",
        python_callable=lambda dry_run: not dry_run,
        op_args=["{{ params.dry_run }}"],
        ignore_downstream_trigger_rules=False,
    )
