"""What the demo does: the DAG `playbook` while an application writes; validation in motion and at rest; the application moves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from bson.timestamp import Timestamp
from docferry.config import Migration, load_migration
from docferry.errors import StoreError, TimedOut, Unavailable
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.positions import recorded_position
from docferry.flows.ledger.times import encode_time
from docferry.flows.reporting.status import status_of
from docferry.ports.flows import Ledger
from docferry.rehearsal.processes import Application
from docferry.rehearsal.shop import ShopCounts, load_shop
from docferry.sandbox.airflow import (
    SandboxAirflow,
    aws_connection,
    mongo_connection,
    repository,
)
from docferry.sandbox.airflow_api import USER
from docferry.sandbox.stack import SandboxStack
from docferry.wiring import connections_from_environment

from demo import analysis, counts
from demo.cutover import RATE as APPLICATION_RATE
from demo.cutover import SET_ASIDE, DemoCutover, set_aside
from demo.playbook import Clerk, Phases, Playbook, failures
from demo.report import DemoReport, InMotion, Replicated, Row
from demo.teller import Teller
from demo.traffic import TrafficProcess

PHASES = (
    "analyze", "playbook", "provision", "backfill", "validate", "dual_write", "flip_reads", "stop_mongo_writes", "rollback",
    "finalize",
)  # fmt: skip
CONTINUOUS = ("replicate", "reverse")
"""Runs of these begin as soon as they are on."""
CONF = {"soak_minutes": 0.07, "soak_hours": 2.0 / 3600, "reads": 0, "slower": 0}
"""How long each share of the reads soaks, and DynamoDB's lead: days elsewhere. The rehearsed rollback comes before both ends. A
share of 1 % may hold no key of the demo, and an emulator's latency says nothing."""
WATCH_S = 5.0
"""Of the database that led before: 17 minutes elsewhere."""
MARKS = {
    "backfill": "during the backfill",
    "wait_until_followed": "while replication caught up",
    "validate": "while validate compared",
}
"""Task of the playbook -> the name of the phase in which changes are counted."""
CATCH_UP_S = 900.0
STILL_S = 120.0
"""How long nothing may be applied while replication catches up: Airflow takes its time on a busy machine."""
UNSTORABLE = 0.02
"""Share of the traffic that breaks documents, or heals them: their changes become dead letters."""
PAUSED = {"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True"}
"""As in production: a person switches a DAG on."""


class Demo:
    """The open stack and Airflow, the traffic, and what is done with them. close() ends traffic and Airflow."""

    def __init__(
        self,
        teller: Teller,
        stack: SandboxStack,
        build: Path,
        *,
        users: int,
        rate: float,
        keep: bool = False,
        by_hand: bool = False,
    ) -> None:
        self.teller, self.stack, self.build, self.by_hand = teller, stack, build, by_hand
        self.report = DemoReport(users=users, rate=rate)
        os.environ.update(stack.env())  # for what this process counts itself; Airflow gets connections instead
        self.migration = self._write_migration(users)
        self.uri = stack.mongo.uri("docferry")
        self.traffic: TrafficProcess | None = None
        if rate:
            database = self.migration.source.database
            self.traffic = TrafficProcess(
                stack.mongo.uri("app"), stack.directory, database=database, rate=rate, unstorable=UNSTORABLE
            )
        self.application = Application(
            Path(self.migration.path),
            {**stack.env(), "DOCFERRY_MONGO_URI": stack.mongo.uri("app")},
            stack.directory,
            rate=APPLICATION_RATE,
        )
        self._writing = False
        self._began: list[tuple[str, Timestamp]] = []
        self._largest_lag_s = 0
        self.airflow = SandboxAirflow(
            migrations=Path(self.migration.path).parent,
            connections={
                self.migration.source.connection: mongo_connection(self.uri),
                self.migration.target.connection: aws_connection(stack.aws.env()),
            },
            settings=PAUSED | {"DOCFERRY_REPORTS": str(build.resolve() / "analysis")},
            keep=keep,
            say=teller.say,
        )

    def _write_migration(self, users: int) -> Migration:
        """The shop's own file, with chunks so small that there are several ranges a collection."""
        tree = yaml.safe_load((repository() / "include" / "migrations" / "shop.yaml").read_text())
        chunks = {"chunk_documents": max(100, users * 2 // 5), "page_documents": 500}
        tree["backfill"] = {**tree.get("backfill", {}), **chunks}
        tree.setdefault("cutover", {})["watch_s"] = WATCH_S
        path = self.stack.directory / "migrations" / "shop.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        return load_migration(path)

    def close(self) -> None:
        """Idempotent."""
        if self.traffic is not None:
            self.traffic.__exit__(None, None, None)
        self.application.close()
        self.airflow.close()

    def run(self) -> DemoReport:
        """All of it. Raises MigrationError if something fails rather than differs."""
        shop = self._prepare()
        clerk = Clerk(self.teller, self.airflow.api, self.by_hand)
        phases = Phases(self.teller, self.airflow.api, self.migration.name, clerk)
        phases.meanwhile = self._told
        self._analyze(phases)
        self._begin_traffic()
        playbook = Playbook(phases, CONF, lambda task: self._mark(MARKS.get(task, "")))
        self._switch_on(CONTINUOUS)
        self._carry_over(phases, playbook)
        if self.traffic is None:
            for row in self.report.rows:
                self.report.problems += row.problems_at_rest(shop[row.collection])
        self._move(phases, playbook)
        self.report.phases |= playbook.seconds
        return self.report

    def _prepare(self) -> ShopCounts:
        say, name = self.teller.say, self.migration.name
        say("starting Airflow (standalone, LocalExecutor), and loading the shop meanwhile")
        self.airflow.start()
        shop = load_shop(self.uri, database=self.migration.source.database, users=self.report.users)
        say(f"the shop: {shop.documents:,} documents, {shop.unstorable} of them cannot be stored in DynamoDB")
        self.airflow.wait_until_ready()
        self.airflow.api.wait_for_dags([f"{name}.{phase}" for phase in (*PHASES, *CONTINUOUS)])
        self._switch_on(PHASES)
        say(f"the DAGs of {name} are switched on; user {USER}, password {self.airflow.password} at {self.airflow.url}")
        return shop

    def _switch_on(self, phases: Sequence[str]) -> None:
        for phase in phases:
            self.airflow.api.set_paused(f"{self.migration.name}.{phase}", False)

    def _analyze(self, phases: Phases) -> None:
        """What docferry would propose for the shop, had it no file; and why its file differs."""
        began = time.monotonic()
        run = phases.run("analyze", {"documents": analysis.DOCUMENTS, "prove": False})
        found = phases.result("analyze", run, "read_mongodb")
        self._took("analyze", began, f"the shop was analyzed: {analysis.summary(found)};")
        directory = Path(found["directory"])
        self.teller.say(
            f"the report: {directory / 'report.html'}; the proposed file beside it differs from the shop's own:"
        )
        for line in analysis.told((directory / "migration.yaml").read_text(), Path(self.migration.path)):
            self.teller.console.print(line, markup=False, soft_wrap=True)

    def _carry_over(self, phases: Phases, playbook: Playbook) -> None:
        """Load, follow and compare while the application writes to MongoDB; then, at rest, every document once more."""
        playbook.stay_at("validate")
        if self.traffic is not None:
            seen = phases.result("validate", playbook.child_of("validate"), "compare_every_document")
            self.report.in_motion = InMotion.of(seen)
        until = self._end_traffic()
        self._catch_up(until)
        check = phases.run("validate")
        self.teller.say("counting both databases, and MongoDB's change stream, without docferry")
        self._collect(phases, playbook.child_of("backfill"), check)
        self._count_changes(until)
        self.report.judge()

    def _move(self, phases: Phases, playbook: Playbook) -> None:
        """What DynamoDB cannot hold is set aside, and the application moves."""
        aside = set_aside(self.uri, self.migration, self._ledger(), self.build)
        self.teller.say(f"{aside} documents that DynamoDB cannot hold are set aside in {self.build / SET_ASIDE}")
        move = DemoCutover(self.teller, phases, playbook, self.application, self.migration)
        move.start(self.uri)
        move.to_dynamodb()
        move.there_and_back()
        move.finish()
        move.moved.approvals, move.moved.set_aside = phases.clerk.seen, aside
        self.report.judge_the_move(move.moved)

    # --- phases ------------------------------------------------------------------------------------------------------

    def _told(self) -> str:
        """Progress, once a second. Raises Unavailable if the application has ended by itself."""
        self._require_traffic()
        try:
            status = status_of(self.migration, self._ledger())
        except StoreError:
            return ""  # there is no ledger before provision; else told again in a second
        self._largest_lag_s = max(self._largest_lag_s, (status["replication"] or {}).get("lag_s") or 0)
        return _load_progress(status["collections"])

    def _took(self, phase: str, began: float, what: str) -> None:
        self.report.phases[phase] = time.monotonic() - began
        self.teller.say(f"{what} after {self.report.phases[phase]:.0f} s")

    def _mark(self, phase: str) -> None:
        """From here on changes belong to this phase, while there is traffic."""
        if phase and self._writing:
            self._began.append((phase, counts.now_in(self.uri)))

    def _ledger(self) -> Ledger:
        return connections_from_environment(self.migration).ledger(self.migration)

    # --- the application ---------------------------------------------------------------------------------------------

    def _begin_traffic(self) -> None:
        if self.traffic is None:
            self._began.append(("no process wrote", counts.now_in(self.uri)))
            self.teller.say("no application writes (rate 0)")
            return
        self._began.append(("before the backfill", counts.now_in(self.uri)))
        self.traffic.start()
        self.traffic.await_writing()
        self._writing = True
        self.teller.say(
            f"an application writes to MongoDB, {self.report.rate:g} operations a second, in a process of its own"
        )

    def _require_traffic(self) -> None:
        """Raises Unavailable, with the reason, if the application has ended by itself."""
        if self.traffic is not None and self._writing and not self.traffic.process.is_alive():
            self._end_traffic()

    def _end_traffic(self) -> Timestamp:
        """MongoDB's time after the last write."""
        self._writing = False
        if self.traffic is not None:
            self.report.traffic = self.traffic.stop()
            self.teller.say(f"the application has stopped: {self.report.traffic}")
        return counts.now_in(self.uri)

    # --- replication -------------------------------------------------------------------------------------------------

    def _catch_up(self, until: Timestamp) -> None:
        began, end = time.monotonic(), encode_time(until)

        def is_there(found: Mapping[str, Any]) -> bool:
            return bool(found["applied_up_to"] >= end and not found["behind"] and found["lag_s"] == 0)

        self._await_replication(is_there, "everything is applied")
        self._took("catch up", began, f"{self.migration.name}.replicate: lag 0")

    def _await_replication(self, done: Callable[[Mapping[str, Any]], bool], what: str) -> None:
        """Raises: Unavailable if a run of the DAG fails, or the application ends; TimedOut."""
        dag_id, ledger = f"{self.migration.name}.replicate", self._ledger()
        began = moved = time.monotonic()
        applied = ""
        while True:
            found = _replication_in(self.migration, ledger)
            if found.get("applied_up_to", "") != applied:
                applied, moved = found["applied_up_to"], time.monotonic()
            self._largest_lag_s = max(self._largest_lag_s, found.get("lag_s") or 0)
            self.teller.show(f"{dag_id}: {_replication_progress(found)}")
            if found and done(found):
                return
            self._require_traffic()
            self._require_no_failed_run(dag_id)
            if time.monotonic() > min(began + CATCH_UP_S, moved + STILL_S):
                waited = time.monotonic() - began
                raise TimedOut(f"{dag_id}: waited {waited:.0f} s in vain until {what}: {_replication_progress(found)}")
            time.sleep(1)

    def _require_no_failed_run(self, dag_id: str) -> None:
        for run in self.airflow.api.runs(dag_id):
            if run["state"] == "failed":
                failed = failures(self.airflow.api, dag_id, run["dag_run_id"])
                raise Unavailable(f"{dag_id} failed\n{failed}")

    # --- the end -----------------------------------------------------------------------------------------------------

    def _collect(self, phases: Phases, load_run: str, check_run: str) -> None:
        compared = phases.result("validate", check_run, "compare_every_document")
        differences = {one["collection"]: one for one in compared["collections"]}
        documents, items = counts.count_documents(self.uri, self.migration), counts.count_items(self.migration)
        ledger = self._ledger()
        for name in self.migration.mappings:
            loaded, found = phases.result("backfill", load_run, f"{name}.finish"), differences[name]
            row = Row(
                collection=name,
                documents_in_mongodb=documents[name],
                documents_compared=found["documents"],
                items_in_dynamodb=items[name],
                items_expected=found["items"],
                letters=len(list_letters(ledger, name)),
                mismatches=found["missing"] + found["different"] + found["unaccounted"],
                **{key: found[key] for key in ("unstorable", "extra", "pending")},
                **{key: loaded[key] for key in ("read", "written", "superseded", "dead", "items", "rate", "seconds")},
            )
            self.report.rows.append(row)
        if not compared["ok"]:
            self.report.problems.append("validate says that the databases differ")
        if strangers := items[""]:
            self.report.problems.append(f"{strangers} items in DynamoDB belong to no collection")
        self.report.problems += counts.unique_problems(self.uri, self.migration)

    def _count_changes(self, until: Timestamp) -> None:
        ledger = self._ledger()
        recorded, found = recorded_position(ledger), _replication_in(self.migration, ledger)
        if recorded is None or not found:
            raise Unavailable("the ledger holds no stream position")
        self.report.stream = counts.count_events(
            self.uri, self.migration, self._began, until, str(recorded.token["_data"])
        )
        names = ("events", "written", "superseded", "dead", "passed", "rate", "lag_s")
        numbers = {name: int(found[name]) for name in names if found[name] is not None}
        self.report.replicated = Replicated(largest_lag_s=self._largest_lag_s, **{"lag_s": -1, **numbers})


# --- words ------------------------------------------------------------------------------------------------------------


def _load_progress(collections: Sequence[Mapping[str, Any]]) -> str:
    """How far each collection is, by the checkpoints in the ledger, until all are complete."""
    if all(one["state"] == "complete" for one in collections):
        return ""
    parts = [f"{one['collection']} {one['read']:,} of {one['expected']:,}" for one in collections if one["expected"]]
    return f"; documents: {', '.join(parts)}" if parts else ""


def _replication_in(migration: Migration, ledger: Ledger) -> Mapping[str, Any]:
    """What the ledger says of replication; empty before its first checkpoint."""
    return status_of(migration, ledger)["replication"] or {}


def _replication_progress(found: Mapping[str, Any]) -> str:
    if not found:
        return "has not begun"
    lag = "unknown" if found["lag_s"] is None else f"{found['lag_s']} s"
    return f"{found.get('events', 0):,} events, {found.get('rate', 0):,}/s, {found['behind']:,} on their way, lag {lag}"
