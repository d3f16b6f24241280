"""The commands that fill DynamoDB: check, backfill, and replication in both directions."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from docferry import errors
from docferry.cli import cutover as cli_cutover
from docferry.cli.common import (
    EXIT_REFUSED,
    MetricsPage,
    dry_option,
    explained,
    file_argument,
    json_option,
    measured_job,
    metrics_options,
    only_option,
    opened_job,
    price_book_option,
    run_counted,
    show,
)
from docferry.cli.render import load_text, plan_text, reverse_text
from docferry.config import load_migration
from docferry.config.price_book import load_price_book
from docferry.flows.backfill.again import begin_again, plan_again
from docferry.flows.backfill.choice import choice_of
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.importing import Importing, import_collections
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.backfill.plan import plan_backfill, require_window
from docferry.flows.cost.actual import load_cost
from docferry.flows.cost.dry_run import dry_run_of
from docferry.flows.cutover.phases import early_problems
from docferry.flows.fence.ready import describe_kinds, kinds_of_fence
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.mapping_fingerprint import changed_since
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.preflight.check import CheckReport, check_ledger, check_migration, check_permissions, notes_of_file
from docferry.flows.preflight.majority import wait_for_majority
from docferry.flows.provision.run import complete_table
from docferry.flows.replicate.follower import replicate
from docferry.flows.reporting.history import with_history
from docferry.flows.reverse.follower import reverse
from docferry.flows.reverse.report import ReverseReport
from docferry.flows.watch.watching import watched
from docferry.ports.flows import Target
from docferry.wiring import HASTY, MONGO_URI, Connections, connections_from_environment, desired


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    for command in (check, backfill_command, replicate_command, reverse_command):
        group.add_command(command)


@click.command()
@file_argument
@click.option("--offline", is_flag=True, help="The file alone, even if DOCFERRY_MONGO_URI is set.")
@click.option("--permissions", is_flag=True, help="Also what each phase must be allowed to do, and what is lacking.")
@json_option
@explained
def check(file: str, offline: bool, permissions: bool, as_json: bool) -> int:
    """Report every problem of a migration file; with a connection also what only the servers know. Changes nothing."""
    migration = load_migration(file)
    connected = not offline and _has_mongo()
    report = CheckReport()
    if connected:
        connections = connections_from_environment(migration)
        with closing(connections.source(migration)) as source:
            report = check_migration(migration, source)
            if permissions:
                check_permissions(
                    migration, source, connections.estate(migration) if connections.has_aws else None, report
                )
        if connections.has_aws:
            check_ledger(migration, connections.ledger(migration, HASTY), report, connections.estate(migration))
        else:
            report.notes.append("the ledger was not asked: no AWS credentials are configured")
        later, kinds = _later(file)
        report.notes += [*kinds, *(f"before docferry stop-mongo-writes: {one}" for one in later)]
    elif permissions:
        raise errors.ConfigError(
            "environment", [errors.Problem(where=MONGO_URI, what="is not set", suggestion="set it")]
        )
    report.notes += notes_of_file(migration)
    scope = "file and server" if connected else "file only; set DOCFERRY_MONGO_URI to check the server, too"
    verdict = f"{file}: fine ({scope})" if report.ok else f"{file}: {report.found}"
    body = {"file": file, "digest": migration.digest, "checked_server": connected} | report.to_dict()
    show(body, as_json, "\n".join([verdict, *report.lines()]))
    return 0 if report.ok else EXIT_REFUSED


def _later(file: str) -> tuple[list[errors.Problem], list[str]]:
    """What would keep DynamoDB from leading, though nothing keeps the load from beginning; and a line for each kind of fence."""
    with opened_job(file) as (job, _):
        return early_problems(job), describe_kinds(kinds_of_fence(job))


def _has_mongo() -> bool:
    return bool(os.environ.get(MONGO_URI))


@click.command("backfill")
@file_argument
@only_option
@dry_option
@click.option(
    "--waive-oplog-window", is_flag=True, help="Load although it may take longer than half the oplog reaches."
)
@click.option(
    "--again",
    is_flag=True,
    help="Load anew what is complete, under live traffic: after a lost stream position, a drop or a rename.",
)
@price_book_option
@metrics_options
@json_option
@explained
def backfill_command(
    file: str,
    only: tuple[str, ...],
    dry_run: bool,
    waive_oplog_window: bool,
    again: bool,
    price_book: Path | None,
    metrics: MetricsPage,
    as_json: bool,
) -> None:
    """Load the collections. Run again to continue; what is complete stays untouched."""
    with opened_job(file) if dry_run else measured_job(file, metrics) as (job, connections):
        if not dry_run:
            wait_for_majority(job.source, job.progress, job.stop, "the load")
        if again:
            (plan_again if dry_run else begin_again)(job, only)
        plan = plan_backfill(job, only)
        if dry_run:
            notes = changed_since(job.migration, job.ledger, only)
            cost = dry_run_of(job.migration, job.source, load_price_book(price_book), plan=plan)
            choice = choice_of(job, plan, load_price_book(price_book))
            would = {
                "plan": plan.to_dict(),
                "mapping_changed": notes,
                "cost": cost.to_dict(),
                "choice": choice.to_dict(),
            }
            show(would, as_json, "\n".join([plan_text(plan), *notes, *cost.lines(), choice.line()]))
            return
        require_window(plan, waive_oplog_window)
        names = [one.collection for one in plan.collections]
        load = (
            _importing(job, connections, names) if job.migration.backfill.strategy == "import" else _loading(job, names)
        )
        reports = connections.run(job.migration, load)
    spent = load_cost(plan, reports, load_price_book(price_book))
    body = {"plan": plan.to_dict(), "collections": [report.to_dict() for report in reports], "cost": spent.to_dict()}
    show(body, as_json, "\n".join([load_text(reports), *spent.lines()]))


@click.command("replicate")
@file_argument
@click.option("--for", "for_s", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option("--until-caught-up", is_flag=True, help="End when everything up to the time of the start is applied.")
@metrics_options
@json_option
@explained
def replicate_command(
    file: str, for_s: float | None, until_caught_up: bool, metrics: MetricsPage, as_json: bool
) -> None:
    """Follow MongoDB's change stream from where the backfill began, or from where it was left. Ctrl-C ends it."""
    with measured_job(file, metrics) as (job, connections):
        until = job.source.cluster_time() if until_caught_up else None
        with cli_cutover.second_guard(job):
            report = run_counted(
                connections,
                job,
                "replicate",
                lambda target: with_history(
                    job, watched(job, target, replicate(job, target, for_s=for_s, until=until))
                ),
            )
    body = report.to_dict()
    lag = "unknown" if report.lag_s is None else f"{report.lag_s:.0f} s"
    text = (
        f"{report.events:,} events = {report.written:,} written + {report.superseded:,} superseded + {report.dead:,} dead "
        f"letters + {report.passed:,} without images, loaded anew since + {report.outside:,} outside the filters; "
        f"{report.rate:,.0f} events/s; lag {lag}"
    )
    show(body, as_json, text)


@click.command("reverse")
@file_argument
@click.option("--for", "for_s", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option("--until-caught-up", is_flag=True, help="End when what had been written at the start is applied.")
@metrics_options
@json_option
@explained
def reverse_command(file: str, for_s: float | None, until_caught_up: bool, metrics: MetricsPage, as_json: bool) -> None:
    """Make MongoDB follow DynamoDB's streams, while DynamoDB leads, from where it began to. Ctrl-C ends it."""
    with measured_job(file, metrics) as (job, connections):
        with cli_cutover.second_guard(job):
            report: ReverseReport = run_counted(
                connections,
                job,
                "reverse",
                lambda target: with_history(
                    job, watched(job, target, reverse(job, target, for_s=for_s, until_caught_up=until_caught_up))
                ),
            )
        letters = [letter.to_dict() for letter in list_reverse_letters(job.ledger)]
    show(report.to_dict() | {"dead_letters": letters}, as_json, reverse_text(report, letters))


Load = Callable[[Target], Coroutine[Any, Any, list[CollectionReport]]]


def _loading(job: Job, names: Sequence[str]) -> Load:
    async def load(target: Target) -> list[CollectionReport]:
        return [await backfill_collection(job, target, name) for name in names]

    return load


def _importing(job: Job, connections: Connections, names: Sequence[str]) -> Load:
    wanted, estate = desired(job.migration), connections.estate(job.migration)
    keyed = {
        one.name: replace(one, kms_key=estate.resolve_key(one.kms_key)) if one.kms_key else one for one in wanted.tables
    }
    importing = Importing(
        rows=connections.import_rows(job.migration),
        specs=keyed,
        complete=lambda spec: complete_table(wanted, estate, spec, progress=job.progress, stop=job.stop),
    )
    return lambda target: import_collections(job, target, importing, names)
