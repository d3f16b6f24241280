"""`docferry <flow> FILE`: every flow without Airflow, for debugging, tests and scripts.

Results go to standard output (one JSON document with --json), progress and messages to standard error.
Connections: DOCFERRY_MONGO_URI, and for AWS the standard variables (AWS_ENDPOINT_URL_DYNAMODB, AWS_PROFILE, ...).

Exit codes:
  0  done
  1  the databases differ, repair left something, dead letters stay dead, a rollback point is not what was recorded, or
     not everything is healthy
  2  wrong usage, migration file or environment
  3  refused: a preflight check, a difference in the estate, a lease that somebody holds, too many dead letters,
     a purge that is not proved safe (the dry run's, too), a rollback point that cannot be made, live data without --confirm
  4  a server could not be reached or said no
  5  stopped on request, run again to continue
  70 a bug of ours
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import bson
import click
import uvloop
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from rich.console import Console
from rich.table import Table

from docferry import errors
from docferry.cli import cutover as cli_cutover
from docferry.cli import drill as cli_drill
from docferry.cli import points as cli_points
from docferry.cli.common import (
    EXIT_DIFFERENT,
    EXIT_REFUSED,
    EXIT_UNHEALTHY,
    CliProgress,
    dry_option,
    explained,
    file_argument,
    json_option,
    only_option,
    open_migration,
    screen,
    show,
    stop_on_signals,
    with_target,
)
from docferry.config import Migration, load_migration
from docferry.core.bson_codec.codec import BSON_OPTIONS
from docferry.flows.backfill import backfill as load
from docferry.flows.backfill.load import Backfill
from docferry.flows.ledger import state
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.preflight.images import render_images, switch_images_on
from docferry.flows.preflight.majority import wait_for_majority
from docferry.flows.preflight.mongodb import check_source
from docferry.flows.provision import ProvisionReport, add_replicas, provision, render_plan
from docferry.flows.purge import PurgeReport, purge
from docferry.flows.replicate.follower import Replication, replicate
from docferry.flows.reporting.health import Health, health_of
from docferry.flows.reporting.status import status_of
from docferry.flows.reverse.follower import Reverse, ReverseReport, reverse
from docferry.flows.validate.first_pass import Validation, latest_report, validate
from docferry.flows.validate.repair import ReplayReport, repair, replay_letters
from docferry.rehearsal.shop import load_shop
from docferry.sandbox.stack import SandboxStack, render_exports
from docferry.wiring import MONGO_URI, Connections, connections_from_environment, desired, who


def _epilog() -> str:
    """This module's docstring, but for its first line; \\b keeps click from wrapping it."""
    return "\n\n".join("\b\n" + part for part in (__doc__ or "").split("\n\n")[1:])


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_epilog())
def main() -> None:
    """Carry a live application from MongoDB to DynamoDB, and back if need be."""


cli_cutover.add_to(main)
main.add_command(cli_drill.drill_command)
cli_points.add_to(main)


@main.command()
@click.option(
    "--keep-in",
    type=click.Path(file_okay=False, path_type=Path),
    default="build/stack",
    show_default=True,
    help="Where stack.json tells other shells how to reach it.",
)
@click.option("--shop", type=int, default=0, metavar="USERS", help="Also load the example shop with this many users.")
@json_option
@explained
def up(keep_in: Path, shop: int, as_json: bool) -> None:
    """Start a throw-away MongoDB replica set and AWS emulator; print their variables; run until interrupted."""
    with stop_on_signals() as stop, _made(keep_in), SandboxStack(announce_in=keep_in, say=CliProgress().say) as stack:
        if shop:
            load_shop(stack.env()["DOCFERRY_MONGO_URI"], users=shop)
        show(stack.env(), as_json, render_exports(stack.env()))
        screen.print("up; Ctrl-C ends it and removes everything")
        while not stop.wait(1.0):
            pass


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """The directory; what had to be made for it is removed again, unless somebody has put something there."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the directory {directory} cannot be made: {error.strerror}"
        raise errors.ConfigError("--keep-in", [errors.Problem(where="--keep-in", what=what)]) from error
    try:
        yield
    finally:
        with suppress(OSError):
            for one in missing:
                one.rmdir()


@main.command()
@file_argument
@click.option("--offline", is_flag=True, help="The file alone, even if DOCFERRY_MONGO_URI is set.")
@json_option
@explained
def check(file: str, offline: bool, as_json: bool) -> int:
    """Report every problem of a migration file; with a connection also what only the server knows."""
    migration = load_migration(file)
    connected = False
    problems: list[errors.Problem] = []
    if not offline and _has_mongo():
        connected = True
        problems = check_source(migration, connections_from_environment(migration).source(migration))
    body = {
        "ok": not problems,
        "file": file,
        "digest": migration.digest,
        "checked_server": connected,
        "problems": [{"where": one.where, "what": one.what, "suggestion": one.suggestion} for one in problems],
    }
    scope = "file and server" if connected else "file only; set DOCFERRY_MONGO_URI to check the server, too"
    lines = [f"  - {one}" for one in problems] or [f"{file}: fine ({scope})"]
    show(body, as_json, "\n".join(lines))
    return EXIT_REFUSED if problems else 0


def _has_mongo() -> bool:
    return bool(os.environ.get(MONGO_URI))


@main.command("provision")
@file_argument
@dry_option
@click.option("--allow-changes", is_flag=True, help="Change what differs, where DynamoDB can do so in place.")
@json_option
@explained
def provision_command(file: str, dry_run: bool, allow_changes: bool, as_json: bool) -> None:
    """Switch change stream images on; create or verify ledger, tables, indexes, PITR, TTL, tags, and the DAX cluster."""
    migration, connections = open_migration(file)
    with closing(connections.source(migration)) as source, CliProgress() as progress:
        images = switch_images_on(migration, source, dry_run=dry_run, progress=progress)
    report = _provisioned(provision, migration, connections, dry_run, allow_changes)
    show(report.to_dict() | {"images": images.to_dict()}, as_json, f"{render_images(images)}\n{render_plan(report)}")


@main.command()
@file_argument
@dry_option
@click.option("--allow-changes", is_flag=True, help="Change what differs, where DynamoDB can do so in place.")
@json_option
@explained
def replicas(file: str, dry_run: bool, allow_changes: bool, as_json: bool) -> None:
    """Add the file's replica regions. After the load: bulk puts refuse global tables."""
    report = _provisioned(add_replicas, *open_migration(file), dry_run, allow_changes)
    show(report.to_dict(), as_json, render_plan(report))


def _provisioned(
    flow: Callable[..., ProvisionReport], migration: Migration, connections: Connections, dry_run: bool, allow: bool
) -> ProvisionReport:
    estate = connections.estate(migration)
    with stop_on_signals() as stop, CliProgress() as progress:
        return flow(desired(migration), estate, allow_changes=allow, dry_run=dry_run, progress=progress, stop=stop)


@main.command("backfill")
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
@json_option
@explained
def backfill_command(
    file: str, only: tuple[str, ...], dry_run: bool, waive_oplog_window: bool, again: bool, as_json: bool
) -> None:
    """Load the collections. Run again to continue; what is complete stays untouched."""
    migration, connections = open_migration(file)
    with stop_on_signals() as stop, CliProgress() as progress:
        identity = who()
        job = Backfill(
            migration=migration,
            source=connections.source(migration),
            ledger=connections.ledger(migration),
            identity=identity,
            progress=progress,
            stop=stop,
            run=f"cli {uuid.uuid4()}",
            run_mark=identity.mark,
        )
        if not dry_run:
            wait_for_majority(job.source, progress, stop, "the load")
        if again and not dry_run:
            load.begin_again(job, only)
        plan = load.plan_backfill(job, only)
        if dry_run:
            show({"plan": plan.to_dict()}, as_json, _plan_text(plan))
            return
        load.require_window(plan, waive_oplog_window)
        reports = uvloop.run(_load_all(job, connections, [one.collection for one in plan.collections]))
    body = {"plan": plan.to_dict(), "collections": [report.to_dict() for report in reports]}
    show(body, as_json, _load_text(reports))


@main.command("replicate")
@file_argument
@click.option("--for", "for_s", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option("--until-caught-up", is_flag=True, help="End when everything up to the time of the start is applied.")
@json_option
@explained
def replicate_command(file: str, for_s: float | None, until_caught_up: bool, as_json: bool) -> None:
    """Follow MongoDB's change stream from where the backfill began, or from where it was left. Ctrl-C ends it."""
    with stop_on_signals() as stop, CliProgress() as progress:
        migration, connections = open_migration(file)
        source = connections.source(migration)
        job = Replication(
            migration=migration,
            source=source,
            ledger=connections.ledger(migration),
            identity=who(),
            progress=progress,
            stop=stop,
        )
        until = source.cluster_time() if until_caught_up else None
        with cli_cutover.second_guard(migration, connections, progress, stop):
            report = with_target(
                job.migration, connections, lambda target: replicate(job, target, for_s=for_s, until=until)
            )
    body = report.to_dict()
    lag = "unknown" if report.lag_s is None else f"{report.lag_s:.0f} s"
    text = (
        f"{report.events:,} events = {report.written:,} written + {report.superseded:,} superseded + {report.dead:,} dead "
        f"letters + {report.passed:,} without images, loaded anew since; {report.rate:,.0f} events/s; lag {lag}"
    )
    show(body, as_json, text)


@main.command("reverse")
@file_argument
@click.option("--for", "for_s", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option("--until-caught-up", is_flag=True, help="End when what had been written at the start is applied.")
@json_option
@explained
def reverse_command(file: str, for_s: float | None, until_caught_up: bool, as_json: bool) -> None:
    """Make MongoDB follow DynamoDB's streams, while DynamoDB leads, from where it began to. Ctrl-C ends it."""
    with stop_on_signals() as stop, CliProgress() as progress:
        migration, connections = open_migration(file)
        streams, ledger = connections.streams(migration), connections.ledger(migration)
        with closing(connections.sink(migration)) as sink:
            job = Reverse(
                migration=migration,
                streams=streams,
                sink=sink,
                ledger=ledger,
                identity=who(),
                progress=progress,
                stop=stop,
            )
            with cli_cutover.second_guard(migration, connections, progress, stop):
                report: ReverseReport = with_target(
                    job.migration,
                    connections,
                    lambda target: reverse(job, target, for_s=for_s, until_caught_up=until_caught_up),
                )
        letters = [letter.to_dict() for letter in list_reverse_letters(ledger)]
    show(report.to_dict() | {"dead_letters": letters}, as_json, _reverse_text(report, letters))


def _reverse_text(report: ReverseReport, letters: Sequence[dict[str, Any]]) -> str:
    lag = "unknown" if report.lag_s is None else f"{report.lag_s:,.0f} s"
    ignored = "".join(f"; ignored, {name}: {count:,}" for name, count in report.ignored_by.items())
    rows = [(one["collection"], one["id"], one["reason"], one["message"][:70]) for one in letters]
    found = _table(("collection", "document", "reason", "what"), rows) if rows else ""
    return (
        f"{report.records:,} records = {report.applied:,} applied + {report.same:,} the same already + {report.removed:,} "
        f"removed + {report.ignored:,} ignored + {report.dead:,} dead letters ({report.letters:,} open); "
        f"{report.rate:,.0f} records/s; lag {lag}{ignored}\n{found}"
    ).rstrip()


async def _load_all(job: Backfill, connections: Connections, names: Sequence[str]) -> list[load.CollectionReport]:
    target = connections.target(job.migration)
    try:
        return [await load.backfill_collection(job, target, name) for name in names]
    finally:
        await target.close()


def _plan_text(plan: load.BackfillPlan) -> str:
    rows = [
        (one.collection, one.state, one.documents, one.items, one.write_units, one.chunks, one.unstorable_in_sample)
        for one in plan.collections
    ]
    names = ("collection", "state", "documents", "items", "WRU with indexes", "chunks", "unstorable in sample")
    end = (
        f"{plan.write_units} write units, {plan.hours:.2f} h at {plan.budget_wcu:.0f} WCU/s; the oplog reaches back about "
        f"{plan.oplog_window_hours:.1f} h: {'fits' if plan.fits else 'DOES NOT FIT into half of it'}. Nothing was written."
    )
    return _table(names, rows) + end


def _load_text(reports: Sequence[load.CollectionReport]) -> str:
    rows = [
        (
            one.collection,
            one.counts.read,
            one.counts.written,
            one.counts.superseded,
            one.counts.dead,
            one.counts.items,
            one.counts.units,
            f"{one.rate:.0f}/s",
            "was complete: nothing changed" if one.already_complete else "loaded",
        )
        for one in reports
    ]
    names = ("collection", "read", "written", "superseded", "dead letters", "items", "WCU", "rate", "")
    return _table(names, rows) + "read = written + superseded + dead letters, for each collection"


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    table = Table(*names)
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _validation(file: str, stop: threading.Event, progress: CliProgress) -> tuple[Validation, Connections]:
    migration, connections = open_migration(file)
    job = Validation(
        migration=migration,
        source=connections.source(migration),
        ledger=connections.ledger(migration),
        identity=who(),
        progress=progress,
        stop=stop,
    )
    return job, connections


@main.command("validate")
@file_argument
@only_option
@click.option("--sample", type=click.IntRange(1), help="Compare this many random documents of each collection.")
@json_option
@explained
def validate_command(file: str, only: tuple[str, ...], sample: int | None, as_json: bool) -> int:
    """Compare both databases, in both directions, field by field."""
    with stop_on_signals() as stop, CliProgress() as progress:
        job, connections = _validation(file, stop, progress)
        report = with_target(job.migration, connections, lambda target: validate(job, target, only, sample))
    show(report.to_dict(), as_json, report.render())
    return 0 if report.ok else EXIT_DIFFERENT


@main.command("repair")
@file_argument
@only_option
@dry_option
@json_option
@explained
def repair_command(file: str, only: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Mend what validation finds, by the version rules. Validate again afterwards."""
    with stop_on_signals() as stop, CliProgress() as progress:
        job, connections = _validation(file, stop, progress)
        report = with_target(job.migration, connections, lambda target: repair(job, target, only, dry_run))
    body = report.to_dict()
    counts = ", ".join(f"{name} {value}" for name, value in body.items() if name != "found")
    found = report.before.render() if report.before else ""
    show(body, as_json, f"{found}\nrepair: {counts}")
    return 0 if report.complete else EXIT_DIFFERENT


@main.command("purge")
@file_argument
@dry_option
@json_option
@explained
def purge_command(file: str, dry_run: bool, as_json: bool) -> int:
    """Delete tombstones that nothing older can follow any more, with the proof. The first run ever notes when that begins.

    The proof needs two runs: one that notes what has been applied, and one, half an hour later, that purges.
    """
    with stop_on_signals() as stop, CliProgress() as progress:
        job, connections = _validation(file, stop, progress)
        report: PurgeReport = with_target(job.migration, connections, lambda target: purge(job, target, dry_run))
    show(report.to_dict(), as_json, report.render())
    return 0 if report.proof.holds else EXIT_REFUSED


@main.command("dead-letters")
@file_argument
@only_option
@click.option("--show", "shown", metavar="ID", help="Print this document (Extended JSON) to standard output.")
@click.option("--replay", is_flag=True, help="Try them again, as MongoDB has them now.")
@json_option
@explained
def dead_letters(file: str, only: tuple[str, ...], shown: str | None, replay: bool, as_json: bool) -> int:
    """List documents that could not be stored; show one; try them again once they are fixed."""
    with stop_on_signals() as stop, CliProgress() as progress:
        job, connections = _validation(file, stop, progress)
        names = [job.migration.mapping(name).collection for name in only] or list(job.migration.mappings)
        if shown is not None:
            return _show_letter(job, names, shown)
        if replay:
            ran = {name: _replay(job, connections, name) for name in names}
            body = {name: report.to_dict() for name, report in ran.items()}
            show(body, as_json, "\n".join(f"{name}: {counts}" for name, counts in body.items()))
            return EXIT_DIFFERENT if any(report.still_dead for report in ran.values()) else 0
        letters = [letter for name in names for letter in state.list_letters(job.ledger, name)]
    rows = [(one.collection, one.id, one.reason, one.path, one.message[:70]) for one in letters]
    text = _table(("collection", "document", "reason", "path", "what"), rows) + f"{len(letters)} dead letters"
    show([letter.to_dict() for letter in letters], as_json, text)
    return 0


def _replay(job: Validation, connections: Connections, collection: str) -> ReplayReport:
    report: ReplayReport = with_target(
        job.migration, connections, lambda target: replay_letters(job, target, collection)
    )
    return report


def _show_letter(job: Validation, names: Sequence[str], id_text: str) -> int:
    for name in names:
        record = state.letter_record(job.ledger, name, id_text)
        if record is not None:
            document = bson.decode(state.letter_document(job.ledger, record), BSON_OPTIONS)
            print(dumps(document, json_options=CANONICAL_JSON_OPTIONS, indent=2))
            return 0
    raise errors.ConfigError(
        "dead letters", [errors.Problem(where=id_text, what="there is no dead letter of this document")]
    )


@main.command()
@file_argument
@json_option
@explained
def status(file: str, as_json: bool) -> None:
    """What the ledger knows: who leads, the application's instances, lag both ways, progress, dead letters, last validation."""
    migration, connections = open_migration(file)
    body = status_of(migration, connections.ledger(migration)) | {
        "validation": latest_report(connections.ledger(migration))
    }
    rows = [
        (
            one["collection"],
            one["state"],
            f"{one['chunks_done']}/{one['chunks']}",
            one["read"],
            one["written"],
            one["dead_letters_open"],
            one["owner"],
        )
        for one in body["collections"]
    ]
    last = body["validation"]
    told = f"last validation: {last['verdict']} ({last['confidence']})" if last else "never validated"
    names = ("collection", "state", "chunks", "read", "written", "open dead letters", "held by")
    lines = [told, f"mode: {body['mode']}", *_lags(body)]
    lines += [
        f"instance {one['name']} ({one['id'][:8]}): {one['mode']}, epoch {one['epoch']}, "
        f"{'seen' if one['live'] else 'gone, seen last'} {one['seen_s_ago']:.0f} s ago"
        for one in body["instances"]
    ]
    show(body, as_json, _table(names, rows) + "\n".join(lines))


def _lags(body: Mapping[str, Any]) -> Iterator[str]:
    """How far both replications are, where they have begun."""
    for name in ("replication", "reverse"):
        found = body[name]
        if found is not None:
            lag = "unknown" if found.get("lag_s") is None else f"{float(found['lag_s']):.0f} s"
            seen = f"{(state.now_ms() - int(found['at_ms'])) / 1000:.0f} s ago" if found.get("at_ms") else "once"
            owner = f"by {found['owner']}" if found.get("owner") else "nobody does it now"
            yield f"{name}: lag {lag} when it was seen last, {seen}; {owner}"
    counts = ((body["replication"] or {}).get("first") or {}).get("counts", {})
    if any(mode in body["mode"] for mode in ("DUAL_WRITE", "DYNAMODB_READS")):
        most = sorted(counts.items(), key=lambda one: -int(one[1]))[:10]
        listing = "; ".join(f"{what} {int(count):,}" for what, count in most)
        yield f"written to MongoDB alone, by whoever does not use the client, or by puts that failed: {listing or 'nothing'}"


@main.command()
@file_argument
@json_option
@explained
def health(file: str, as_json: bool) -> int:
    """Members, tables, lag, the last validation, dead letters, the application's instances; exit 0 only if all are healthy."""
    migration, connections = open_migration(file)
    with closing(connections.source(migration)) as source:
        job = Health(
            migration=migration,
            source=source,
            ledger=connections.ledger(migration),
            estate=connections.estate(migration),
            identity=who(),
        )
        report = health_of(job)
    show(report.to_dict(), as_json, report.render())
    return 0 if report.ok else EXIT_UNHEALTHY


if __name__ == "__main__":
    main()
