"""The commands that change where the application reads and writes: the playbook's phases 4 and 5, its stop and its rollback."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from docferry.cli.common import (
    EXIT_DIFFERENT,
    dry_option,
    explained,
    file_argument,
    json_option,
    open_migration,
    opened_job,
    run_counted,
    show,
)
from docferry.config.price_book import load_price_book
from docferry.core.access.shape_costs import shape_costs
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.modes import Mode
from docferry.errors import PreflightFailed, Problem
from docferry.flows.cutover import flip
from docferry.flows.cutover.approving import fresh_evidence, give_approval
from docferry.flows.cutover.flip_evidence import USUAL, FlipBounds
from docferry.flows.cutover.hold import SwitchReport
from docferry.flows.cutover.hold_watch import WATCH_S, end_dead_hold, watch_hold
from docferry.flows.cutover.rollback import finalize, plan_finalize, plan_rollback, plan_ways_back, roll_back
from docferry.flows.cutover.to_dynamodb import require_ready, switch_to_dynamodb
from docferry.flows.fence.ready import LATE_LIFT
from docferry.flows.fence.watch import fence_watched
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import describe_instance, list_instances, list_moves, read_mode
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.mongodb_clients import foreigners
from docferry.flows.reporting.shapes import shapes_report
from docferry.flows.watch.ready import STRAYS, WATCH

DEAREST = 5
"""Shapes of calls, with what they cost, that `mode` shows; with --shapes it shows all."""


def add_to(group: click.Group) -> None:
    """All of them, as commands of `group`."""
    for command in (mode, clients, approve, dual_write, flip_reads, stop_mongo_writes, rollback, finalize_command):
        group.add_command(command)


@click.command()
@file_argument
@click.option(
    "--shapes",
    is_flag=True,
    help="The calls that DynamoDB cannot serve, and what to write instead; and what those cost that it answers.",
)
@json_option
@explained
def mode(file: str, shapes: bool, as_json: bool) -> None:
    """Which database leads, who follows it, and how it came to this."""
    migration, connections = open_migration(file)
    ledger = connections.ledger(migration)
    instances = list_instances(ledger)
    if shapes:
        report = shapes_report(migration, ledger, instances)
        show(report.to_dict(), as_json, report.render())
        return
    costs = shape_costs(instances, migration.mappings, load_price_book())
    now, moves = read_mode(ledger), list_moves(ledger)
    body = {
        "mode": now.to_body() | now.flags(),
        "instances": [describe_instance(one) for one in instances],
        "moves": [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in moves],
        "costs": [one.to_dict() for one in costs],
    }  # fmt: skip
    lines = [f"{migration.name}: {now} (epoch {now.epoch})"]
    if now.mode is Mode.HOLD:
        left_s = (now.deadline_ms - now_ms()) / 1000
        over = f"overdue for {-left_s:.0f} s: docferry rollback puts it back, and so does a running replicator"
        lines.append(f"  writes wait: {over if left_s < 0 else f'for {left_s:.0f} s more at most'}")
    lines += [
        f"  {one.name} ({one.id[:8]}): {'ended' if one.ended else f'epoch {one.epoch}, {one.mode}'}"
        f"{'' if one.ended or one.is_live(now_ms()) else ', gone'}"
        for one in instances
    ]
    lines += _reads_of(instances)
    lines += [f"  DynamoDB answers {one.line()}" for one in costs[:DEAREST]]
    lines += [f"  {one.before} -> {one.after}: {one.why} ({one.by})" for one in moves[-5:]]
    show(body, as_json, "\n".join(lines))


def _reads_of(instances: Sequence[Instance]) -> Iterator[str]:
    """What the reads of all processes, ended ones too, have shown."""
    unserved: Counter[str] = Counter()
    for one in instances:
        unserved.update(one.unserved)
    yield from (
        f"  DynamoDB cannot answer {shape}: called {count:,} time(s)" for shape, count in unserved.most_common()
    )
    equal, differ = (sum(one.counts.get(f"shadow.{name}", 0) for one in instances) for name in ("equal", "mismatch"))
    if equal or differ:
        yield f"  compared reads: {equal:,} equal, {differ:,} different"
    yield from (f"    {example}" for one in instances for example in one.examples)


@click.command()
@file_argument
@click.option("--seconds", type=click.FloatRange(0.5, 3600), default=10.0, show_default=True, help="How long to look.")
@json_option
@explained
def clients(file: str, seconds: float, as_json: bool) -> int:
    """Who uses MongoDB without docferry's client: writers, readers, idle connections; exit 0 only if none of them writes."""
    with opened_job(file) as (job, _):
        found = foreigners(job, seconds)
    show(found.to_dict(), as_json, found.render())
    return EXIT_DIFFERENT if found.writers else 0


@click.command()
@file_argument
@click.argument("phase", type=click.Choice(approvals.PHASES))
@click.option(
    "--as",
    "person",
    required=True,
    metavar="NAME",
    help="The person who approves, as in cutover.approvers.",
)
@click.option("--why", required=True, help="Kept with the approval; the ticket, if there is one.")
@click.option(
    "--evidence",
    default="",
    metavar="DIGEST",
    help="The validation report that you have seen; the last one by default.",
)
@json_option
@explained
def approve(file: str, phase: str, person: str, why: str, evidence: str, as_json: bool) -> None:
    """Allow a phase that changes who serves, on the evidence of a validation report."""
    migration, connections = open_migration(file)
    ledger = connections.ledger(migration)
    report = fresh_evidence(ledger)
    found = give_approval(ledger, phase, evidence or report.digest, person.strip(), why, migration.cutover)
    lacking = approvals.unapproved(ledger, phase, found.evidence, migration.cutover)
    text = f"{phase} is approved by {found.by} on report {found.evidence[:12]}: {report.equal}"
    text += f"\n{lacking}" if lacking else ""
    show(found.to_dict(), as_json, text)


@click.command("dual-write")
@file_argument
@click.option(
    "--compare",
    type=click.IntRange(0, 100),
    default=100,
    show_default=True,
    help="Percent of the reads that are compared.",
)
@dry_option
@json_option
@explained
def dual_write(file: str, compare: int, dry_run: bool, as_json: bool) -> None:
    """The application writes to both databases from now on; MongoDB leads."""
    if dry_run:
        _would(file, as_json, lambda job: flip.plan_dual_write(job, compare))
    else:
        _flip(file, as_json, lambda job: flip.begin_dual_write(job, compare))


@click.command("flip-reads")
@file_argument
@click.option(
    "--percent",
    type=click.IntRange(1, 100),
    required=True,
    help="Of the reads, by key; 1, 10, 50, 100 is the usual ramp.",
)
@click.option(
    "--soak",
    "soak_s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long it is watched; as long again if it has served too few reads by then.",
)
@click.option(
    "--reads",
    type=click.IntRange(0),
    default=USUAL.reads,
    show_default=True,
    help="So many must have been compared before, and the share's part of so many served; 0 waives both.",
)
@click.option(
    "--slower",
    type=click.FloatRange(0),
    default=USUAL.slower,
    show_default=True,
    metavar="TIMES",
    help="DynamoDB's p95 may be so many times MongoDB's, if it is over 50 ms; 0 waives it.",
)
@click.option(
    "--waive",
    multiple=True,
    metavar="SHAPE",
    help="A call that DynamoDB cannot answer and no process makes any more, as `docferry mode` has it. Repeatable, and recorded.",
)
@dry_option
@json_option
@explained
def flip_reads(
    file: str,
    percent: int,
    soak_s: float,
    reads: int,
    slower: float,
    waive: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """A share of the reads comes from DynamoDB from now on; it steps back by itself if what is seen goes past a bound."""
    bounds = FlipBounds(reads=reads, slower=slower)
    if dry_run:
        _would(file, as_json, lambda job: flip.plan_flip(job, percent, bounds, waive))
    else:
        _flip(file, as_json, lambda job: flip.flip_reads(job, percent, soak_s, bounds, waive))


def _would(file: str, as_json: bool, plan: Callable[[Job], str]) -> None:
    with opened_job(file) as (job, _):
        would, mode = plan(job), read_mode(job.ledger)
    show({"mode": str(mode), "would": would}, as_json, f"{would}; nothing was changed")


def _flip(file: str, as_json: bool, change: Any) -> None:
    with opened_job(file) as (job, _):
        report = change(job)
    show(report.to_dict(), as_json, f"{job.migration.name}: {report.mode}")


@click.command("stop-mongo-writes")
@file_argument
@dry_option
@click.option(
    "--waive",
    multiple=True,
    type=click.Choice([LATE_LIFT, WATCH, STRAYS]),
    help="A lift of the fence by a process that is known to be gone; the rest of the watch of DynamoDB; stray writes that "
    "are not settled. Repeatable, and recorded.",
)
@json_option
@explained
def stop_mongo_writes(file: str, dry_run: bool, waive: tuple[str, ...], as_json: bool) -> None:
    """DynamoDB leads: writes wait for a moment, MongoDB is fenced, everything is applied and compared. Or all stays as it was."""
    with opened_job(file) as (job, connections):
        if dry_run:
            require_ready(job, waive)
            show({"ready": True}, as_json, f"{job.migration.name}: DynamoDB can become the leader; nothing was changed")
            return
        report = run_counted(connections, job, "switch", lambda target: switch_to_dynamodb(job, target, waive))
    show(report.to_dict(), as_json, _told(report))


@click.command()
@file_argument
@dry_option
@click.option(
    "--to",
    type=click.Choice(["MONGO_ONLY", "DUAL_WRITE"]),
    help="How far: MongoDB alone, or MongoDB with DynamoDB still written and compared. Asked on a terminal; else MONGO_ONLY.",
)
@click.option(
    "--waive",
    multiple=True,
    metavar="INSTANCE|validation|watch|strays",
    help="An instance that vanished and is known to be gone; or, in an emergency, the validation, the watch of MongoDB, stray "
    "writes that are not settled. Repeatable, and recorded.",
)
@json_option
@explained
def rollback(file: str, dry_run: bool, to: str | None, waive: tuple[str, ...], as_json: bool) -> None:
    """MongoDB leads again, from whatever mode; nothing that was written meanwhile is lost."""
    with opened_job(file) as (job, connections):
        asked = to is None and not dry_run and not as_json and sys.stdin.isatty()
        far = Mode(_ask_how_far(job, waive) if asked else to or Mode.MONGO_ONLY)
        would = plan_rollback(job, far, waive)
        if dry_run:
            show({"mode": str(read_mode(job.ledger)), "would": would}, as_json, would)
            return
        report = run_counted(connections, job, "rollback", lambda target: roll_back(job, target, far, waive))
    show(report.to_dict(), as_json, _told(report))


def _ask_how_far(job: Job, waive: Sequence[str]) -> str:
    if len(read_mode(job.ledger).ways_back) < 2:
        return Mode.MONGO_ONLY
    ways = plan_ways_back(job, waive)
    for to, would in ways.items():
        click.echo(f"{to}: {would}")
    answer: str = click.prompt("How far back", type=click.Choice([str(one) for one in ways]))
    return answer


@click.command("finalize")
@file_argument
@click.option(
    "--confirm",
    default="",
    metavar="MIGRATION",
    help="The migration's name, needed but for a dry run: there is no way back.",
)
@dry_option
@click.option(
    "--waive",
    multiple=True,
    type=click.Choice([WATCH, STRAYS]),
    help="The rest of the watch of MongoDB; stray writes that are not settled. Repeatable, and recorded.",
)
@json_option
@explained
def finalize_command(file: str, confirm: str, dry_run: bool, waive: tuple[str, ...], as_json: bool) -> None:
    """The soak is over: reverse replication stops, and MongoDB is left as it is."""
    if dry_run:
        _would(file, as_json, lambda job: plan_finalize(job, waive))
        return
    with opened_job(file) as (job, _):
        if confirm != (name := job.migration.name):
            what = f"'{confirm}' is not the migration's name"
            raise PreflightFailed("finalize", [Problem(where="--confirm", what=what, suggestion=name)])
        after = finalize(job, waive)
    show({"mode": str(after)}, as_json, f"{name}: {after}; MongoDB is not kept up to date any more")


@contextmanager
def second_guard(job: Job) -> Iterator[None]:
    """Around replication, in either direction: the process that changes the leader may die. A hold that was left behind is
    put back before replication begins; one for which it makes room is watched to its end; and the fence is compared with the
    mode meanwhile."""
    end_dead_hold(job)
    try:
        with fence_watched(job):
            yield
    finally:
        watch_hold(job, WATCH_S, begins_within_s=0.0)


def _told(report: SwitchReport) -> str:
    steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.steps.items())
    return (
        f"{report.before} -> {report.after}: writes waited {report.held_s:.2f} s at most ({steps}); {report.instances} "
        f"instance(s); {report.compared:,} compared" + (f"; {report.evidence}" if report.evidence else "")
    )
