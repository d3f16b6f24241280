"""What `make demo` runs: a shop in a real MongoDB, through a real Airflow, into DynamoDB, proved equal.

    python -m docferry.embedded.demo [--users 5000] [--keep] | --stop

Exit code 0 only if every number adds up; 1 if one does not or a DAG run fails; 130 after Ctrl-C. Nothing is left behind,
unless `--keep`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import boto3
import click
import yaml
from pymongo import MongoClient
from rich.console import Console
from rich.status import Status
from rich.table import Table

from docferry.config import Migration, load_migration
from docferry.embedded.airflow import (
    USER,
    AirflowApi,
    EmbeddedAirflow,
    TaskState,
    aws_connection,
    mongo_connection,
    repository,
)
from docferry.embedded.processes import ProcessIdentity
from docferry.embedded.shop import CollectionCounts, ShopCounts, load_shop
from docferry.embedded.stack import EmbeddedStack, read_stack
from docferry.errors import MigrationError, Unavailable
from docferry.flows.status import status_of
from docferry.ports import Ledger
from docferry.wiring import connections_from_environment

AIRFLOW_FILE = "airflow.json"
REPORT_FILE = "demo-report.json"
DAG_FILES = ("provision", "backfill", "validate")
SAY_EVERY_S = 3.0
STOP_GRACE_S = 15.0
TABLE_COLUMNS = 120


class Teller:
    """Says what is going on: on a terminal the last line moves, elsewhere a line comes every few seconds."""

    def __init__(self) -> None:
        # Without a terminal rich assumes 80 columns, and would cut the table's words.
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_COLUMNS)
        self._began = time.monotonic()
        self._told = 0.0
        self._status: Status | None = self.console.status("") if self.console.is_terminal else None

    def __enter__(self) -> Teller:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """A line that stays."""
        self._told = time.monotonic()
        self.console.print(f"[{self.seconds:5.0f} s] {text}", markup=False, soft_wrap=True)
        if self._status is not None:
            self._status.update(text)

    def show(self, text: str) -> None:
        """What is going on right now."""
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._told > SAY_EVERY_S:
            self.say(text)


@dataclass(slots=True, kw_only=True)
class Row:
    """One collection in the final table. `documents_in_mongodb` and `items_in_dynamodb` are plain counts."""

    collection: str
    documents_in_mongodb: int
    read: int
    written: int
    superseded: int
    dead: int
    items: int
    items_in_dynamodb: int
    rate: float
    mismatches: int
    extra: int
    seconds: float

    def problems(self, shop: CollectionCounts) -> Iterator[str]:
        """Every sum that is wrong, in words. `shop` says what was put into MongoDB."""
        sums = {
            "documents in MongoDB": (self.documents_in_mongodb, shop.documents),
            "documents read": (self.read, self.documents_in_mongodb),
            "written + superseded + dead letters": (self.written + self.superseded + self.dead, self.read),
            "dead letters": (self.dead, shop.unstorable),
            "items written": (self.items, shop.items),
            "items in DynamoDB": (self.items_in_dynamodb, self.items),
            "mismatches": (self.mismatches, 0),
            "extra items": (self.extra, 0),
        }
        for name, (found, expected) in sums.items():
            if found != expected:
                yield f"{self.collection}: {found} {name}, expected {expected}"


@dataclass(slots=True, kw_only=True)
class Report:
    """How the demo ended; written to build/demo-report.json."""

    users: int
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    hints: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "users": self.users,
            "collections": [asdict(row) for row in self.rows],
            "seconds": {name: round(value, 1) for name, value in self.phases.items()},
        }

    def table(self) -> Table:
        table = Table(title="From MongoDB to DynamoDB")
        names = ("collection", "documents read", "items written", "superseded", "dead letters", "documents/s")
        for name in (*names, "mismatches", "extra", "seconds"):
            table.add_column(name, justify="left" if name == "collection" else "right")
        for row in self.rows:
            loaded = (f"{row.read:,}", f"{row.items:,}", f"{row.superseded:,}", f"{row.dead:,}", f"{row.rate:,.0f}")
            table.add_row(row.collection, *loaded, f"{row.mismatches}", f"{row.extra}", f"{row.seconds:.1f}")
        return table


class Demo:
    """The open stack and Airflow, and what is done with them."""

    def __init__(self, teller: Teller, stack: EmbeddedStack, users: int, keep: bool) -> None:
        self.teller, self.stack = teller, stack
        self.report = Report(users=users)
        os.environ.update(stack.env())  # for what this process counts itself; Airflow gets connections instead
        self.migration = self._write_migration(users)
        self.airflow = EmbeddedAirflow(
            migrations=Path(self.migration.path).parent,
            connections={
                self.migration.source.connection: mongo_connection(stack.mongo.uri("docferry")),
                self.migration.target.connection: aws_connection(stack.aws.env()),
            },
            keep=keep,
            say=teller.say,
        )

    def _write_migration(self, users: int) -> Migration:
        """The shop's own file, with chunks so small that there are several ranges a collection."""
        tree = yaml.safe_load((repository() / "include" / "migrations" / "shop.yaml").read_text())
        chunks = {"chunk_documents": max(100, users * 2 // 5), "page_documents": 500}
        tree["backfill"] = {**tree.get("backfill", {}), **chunks}
        path = self.stack.directory / "migrations" / "shop.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        return load_migration(path)

    def run(self) -> Report:
        """All of it. Raises MigrationError if something fails rather than differs."""
        say, name = self.teller.say, self.migration.name
        say("starting Airflow (standalone, LocalExecutor), and loading the shop meanwhile")
        self.airflow.start()
        shop = load_shop(
            self.stack.mongo.uri("docferry"), database=self.migration.source.database, users=self.report.users
        )
        say(f"the shop: {shop.documents:,} documents, {shop.unstorable} of them cannot be stored in DynamoDB")
        self.airflow.wait_until_ready()
        self.airflow.api.wait_for_dags([f"{name}.{phase}" for phase in DAG_FILES])
        self._phase("provision")
        load = self._phase("backfill")
        check = self._phase("validate")
        say("counting both databases, without docferry")
        self._collect(shop, load, check)
        return self.report

    def _phase(self, phase: str) -> str:
        """Run one DAG to its end; returns the run's id."""
        dag_id, api, began = f"{self.migration.name}.{phase}", self.airflow.api, time.monotonic()
        ledger = connections_from_environment(self.migration).ledger(self.migration)
        run_id = api.trigger(dag_id)
        self.teller.say(f"{dag_id}: started, see {self.airflow.url}/dags/{dag_id}")

        def watch(tasks: Sequence[TaskState]) -> None:
            progress = _load_progress(self.migration, ledger) if phase == "backfill" else ""
            self.teller.show(f"{dag_id}: {_task_progress(tasks)}{progress}")

        state = api.wait_for_run(dag_id, run_id, watch=watch)
        self.report.phases[phase] = time.monotonic() - began
        self.teller.say(f"{dag_id}: {state} after {self.report.phases[phase]:.0f} s")
        if state != "success":
            raise Unavailable(f"{dag_id} failed\n{_failures(api, dag_id, run_id)}")
        return run_id

    def _collect(self, shop: ShopCounts, load_run: str, check_run: str) -> None:
        name, api = self.migration.name, self.airflow.api
        compared = api.result(f"{name}.validate", check_run, "compare_every_document")
        differences = {one["collection"]: one for one in compared["collections"]}
        documents, items = self._count_documents(), self._count_items()
        for collection in self.migration.mappings:
            loaded = api.result(f"{name}.backfill", load_run, f"{collection}.finish")
            found = differences[collection]
            row = Row(
                collection=collection,
                documents_in_mongodb=documents[collection],
                items_in_dynamodb=items[collection],
                mismatches=found["missing"] + found["different"],
                extra=found["extra"],
                **{key: loaded[key] for key in ("read", "written", "superseded", "dead", "items", "rate", "seconds")},
            )
            self.report.rows.append(row)
            self.report.problems += row.problems(shop[collection])
        if not compared["ok"]:
            self.report.problems.append("validate says that the databases differ")
        if strangers := items[""]:
            self.report.problems.append(f"{strangers} items in DynamoDB belong to no collection")

    def _count_documents(self) -> dict[str, int]:
        with MongoClient[dict[str, Any]](self.stack.mongo.uri("docferry")) as client:
            database = client[self.migration.source.database]
            return {name: database[name].count_documents({}) for name in self.migration.mappings}

    def _count_items(self) -> Counter[str]:
        """Items by collection; '' for those whose entity type no collection has."""
        client = boto3.Session(region_name=self.migration.target.region).client("dynamodb")
        found: Counter[str] = Counter()
        for table in self.migration.tables:
            owners = {entity: one.collection for entity, one in self.migration.entities(table.name).items()}
            for page in client.get_paginator("scan").paginate(
                TableName=table.name, ProjectionExpression="entityType", ConsistentRead=True
            ):
                found.update(owners.get(item.get("entityType", {}).get("S", ""), "") for item in page["Items"])
        return found


def _task_progress(tasks: Sequence[TaskState]) -> str:
    done = sum(task.state in ("success", "skipped") for task in tasks)
    running = [task.name for task in tasks if task.state == "running"]
    failed = [task.name for task in tasks if task.state in ("failed", "up_for_retry")]
    text = f"{done} of {len(tasks)} tasks done"
    text += f"; running {', '.join(running)}" if running else ""
    return text + (f"; failed {', '.join(failed)}" if failed else "")


def _load_progress(migration: Migration, ledger: Ledger) -> str:
    """How far each collection is, by the checkpoints in the ledger."""
    try:
        collections = status_of(migration, ledger)["collections"]
    except MigrationError:
        return ""  # shown again in a second
    parts = [f"{one['collection']} {one['read']:,} of {one['expected']:,}" for one in collections if one["expected"]]
    return f"; documents: {', '.join(parts)}" if parts else ""


def _failures(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """The ends of the failed tasks' logs."""
    failed = [task for task in api.tasks(dag_id, run_id) if task.state == "failed"]
    return "\n".join(f"--- {task.name}\n{api.log(dag_id, run_id, task)[-3000:]}" for task in failed)


# --- keeping, stopping ------------------------------------------------------------------------------------------------


def _announce(build: Path, airflow: EmbeddedAirflow) -> None:
    content = {"url": airflow.url, "process": asdict(airflow.process.identity)}
    (build / AIRFLOW_FILE).write_text(json.dumps(content))


def _kept_airflow(build: Path) -> ProcessIdentity | None:
    try:
        return ProcessIdentity(**json.loads((build / AIRFLOW_FILE).read_text())["process"])
    except FileNotFoundError:
        return None


def stop_kept(build: Path) -> bool:
    """Stop what `--keep` left running. True if there was anything."""
    airflow = _kept_airflow(build)
    if airflow is not None:
        airflow.stop(grace_s=STOP_GRACE_S)
        (build / AIRFLOW_FILE).unlink(missing_ok=True)
    try:
        read_stack(build).stop()
    except Unavailable:
        return airflow is not None
    return True


def _is_kept(build: Path) -> bool:
    airflow = _kept_airflow(build)
    return airflow is not None and airflow.is_alive()


def _how_to_use(demo: Demo, build: Path) -> tuple[str, ...]:
    return (
        f"Airflow:        {demo.airflow.url}   user {USER}, password {demo.airflow.password}",
        f"migration file: {demo.migration.path}",
        f"environment:    {build / 'stack.json'} (for the docferry command line)",
        "stop it with:   make stop",
    )


# --- the program ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not end the cleaning up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _demonstrate(teller: Teller, users: int, keep: bool, build: Path) -> Report:
    teller.say("fetching what is missing, starting MongoDB and the AWS emulator")
    with EmbeddedStack(keep=keep, announce_in=build if keep else None, say=teller.say) as stack:
        demo = Demo(teller, stack, users, keep)
        try:
            report = demo.run()
            if keep:
                _announce(build, demo.airflow)
                demo.airflow.leave_running()
        except BaseException:
            teller.say("stopping everything")
            with _undisturbed():
                demo.airflow.close()
                stack.close()
            raise
        if keep:
            report.hints = _how_to_use(demo, build)
            return report
        teller.say("stopping everything")
        with _undisturbed():
            demo.airflow.close()
            stack.close()
        return report


def _finish(teller: Teller, report: Report, build: Path) -> int:
    path = build / REPORT_FILE
    path.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    teller.console.print(report.table())
    for problem in report.problems:
        teller.console.print(f"WRONG: {problem}", markup=False)
    verdict = "not everything adds up" if report.problems else "every number adds up"
    teller.say(f"{verdict}; the same as JSON: {path}")
    teller.console.print("\n".join(report.hints), markup=False)
    return 1 if report.problems else 0


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option("--users", default=5_000, show_default=True, type=click.IntRange(min=100), help="Users of the shop.")
@click.option("--keep", is_flag=True, help="Leave Airflow, MongoDB and the emulator running.")
@click.option("--stop", is_flag=True, help="Stop what --keep left running.")
def main(users: int, keep: bool, stop: bool) -> None:
    build = Path.cwd() / "build"
    build.mkdir(exist_ok=True)
    if stop:
        print("stopped" if stop_kept(build) else "nothing was running")
        return
    if _is_kept(build):
        print("a demo that was kept is still running; stop it first: make stop", file=sys.stderr)
        sys.exit(1)
    sys.exit(_run(users, keep, build))


def _run(users: int, keep: bool, build: Path) -> int:
    with Teller() as teller:
        try:
            report = _demonstrate(teller, users, keep, build)
            return _finish(teller, report, build)
        except KeyboardInterrupt:
            teller.say("interrupted; nothing is left behind")
            return 130
        except MigrationError as error:
            teller.say(f"failed: {error}")
            return 1


if __name__ == "__main__":
    main()
