"""The command for rollback points: made, listed, verified, restored beside the live data, and over it."""

from __future__ import annotations

from typing import Any

import click

from docferry.cli.common import (
    EXIT_DIFFERENT,
    dry_option,
    explained,
    file_argument,
    json_option,
    opened_job,
    show,
)
from docferry.errors import ConfigError, Problem
from docferry.flows.kernel.job import Job
from docferry.flows.rollback_points.job import described, list_points, point_line
from docferry.flows.rollback_points.make import make_point, plan_point
from docferry.flows.rollback_points.restore import plan_restore, restore_beside
from docferry.flows.rollback_points.restore_over_live import plan_over_live, restore_over_live
from docferry.flows.rollback_points.verify import verify_point


def add_to(group: click.Group) -> None:
    """The command, as one of `group`."""
    group.add_command(points)


@click.command()
@file_argument
@click.option("--make", is_flag=True, help="Make a point, and read it again.")
@click.option("--name", default="", help="The name of the new point. [the time]")
@click.option(
    "--snapshot",
    default="",
    metavar="NAME",
    help="With method: snapshot, the one that you made: snap-…, s3://bucket/prefix, or a path. It must exist.",
)
@click.option(
    "--verify", metavar="POINT", help="Read all of a point again; exit 1 if anything is not as it was recorded."
)
@click.option("--restore", metavar="POINT", help="Restore a point beside the live data, and compare.")
@click.option(
    "--into",
    default="",
    metavar="DATABASE",
    help="Restore into (or take from) this database. [<database>_restored_<point>]",
)
@click.option(
    "--over-live",
    is_flag=True,
    help="With --restore: over the live data of MongoDB, from what was restored beside. --dry-run says what would be lost.",
)
@click.option(
    "--confirm", default="", metavar="SENTENCE", help="The sentence that --over-live --dry-run prints, typed."
)
@dry_option
@json_option
@explained
def points(
    file: str,
    make: bool,
    name: str,
    snapshot: str,
    verify: str | None,
    restore: str | None,
    into: str,
    over_live: bool,
    confirm: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Rollback points: list them (without an option), make, verify, restore.

    Nothing is restored over live data unless the sentence that says what is lost has been typed.
    """
    _refuse_odd(make, name or snapshot, verify, restore, into, over_live, confirm)
    with opened_job(file) as (job, _):
        if make:
            return _make(job, name, snapshot, dry_run, as_json)
        if verify is not None:
            report = verify_point(job, verify)
            show(report.to_dict(), as_json, report.render())
            return 0 if report.ok else EXIT_DIFFERENT
        if restore is not None:
            return _restore(job, restore, into, over_live, confirm, dry_run, as_json)
        found = list_points(job.ledger)
    show(found.to_dict(), as_json, found.render(job.migration.name))
    return 0


def _refuse_odd(
    make: bool, named: str, verify: str | None, restore: str | None, into: str, over_live: bool, confirm: str
) -> None:
    """Options that do not go together: guessing what was meant would be dangerous here."""
    problems = []
    if make + (verify is not None) + (restore is not None) > 1:
        problems.append(
            Problem(where="--make, --verify, --restore", what="are one thing each", suggestion="choose one")
        )
    if named and not make:
        problems.append(Problem(where="--name, --snapshot", what="need --make", suggestion="--make"))
    if (into or over_live) and restore is None:
        problems.append(Problem(where="--into, --over-live", what="are for restoring", suggestion="--restore POINT"))
    if confirm and not over_live:
        problems.append(Problem(where="--confirm", what="is for live data", suggestion="--restore POINT --over-live"))
    if problems:
        raise ConfigError("options", problems)


def _make(job: Job, name: str, snapshot: str, dry_run: bool, as_json: bool) -> int:
    if dry_run:
        would = plan_point(job, name, snapshot)
        show({"would": would}, as_json, f"{would}. Nothing was made.")
        return 0
    point = make_point(job, name, snapshot)
    show(described(point), as_json, point_line(point))
    return 0


def _restore(job: Job, name: str, into: str, over_live: bool, confirm: str, dry_run: bool, as_json: bool) -> int:
    report: Any
    if over_live:
        report = plan_over_live(job, name, into) if dry_run else restore_over_live(job, name, confirm, into)
        text = report.render() if dry_run else f"{report.database} is what {name} was"
    else:
        report = plan_restore(job, name, into) if dry_run else restore_beside(job, name, into)
        into = ", ".join(filter(None, (report.database, *report.tables.values())))
        text = f"{name} would be restored into {into}. Nothing was made." if dry_run else report.render()
    show(report.to_dict(), as_json, text)
    return 0
