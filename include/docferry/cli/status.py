"""The commands that only look: status and health."""

from __future__ import annotations

import click

from docferry.cli.common import (
    EXIT_UNHEALTHY,
    explained,
    file_argument,
    json_option,
    opened_job,
    show,
)
from docferry.cli.render import lag_lines, table_text
from docferry.errors import MigrationError
from docferry.flows.cutover.phases import full_health
from docferry.flows.fence.watch import misfit
from docferry.flows.kernel.job import Job
from docferry.flows.reporting.status import status_of
from docferry.flows.validate.first_pass import latest_report


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    for command in (status, health):
        group.add_command(command)


@click.command()
@file_argument
@json_option
@explained
def status(file: str, as_json: bool) -> None:
    """What the ledger knows: who leads, the application's instances, lag both ways, progress, dead letters, last validation."""
    with opened_job(file) as (job, _):
        report = latest_report(job.ledger)
        body = status_of(job.migration, job.ledger) | {"misfit": _misfit(job)}
    body |= {"validation": report.to_dict() if report else None}
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
    told = f"last validation: {report.verdict} ({report.confidence})" if report else "never validated"
    waits = [f"{one['collection']}: {one['waits']}" for one in body["collections"] if one["waits"]]
    names = ("collection", "state", "chunks", "read", "written", "open dead letters", "held by")
    lines = [*body["mapping_changed"], told, f"mode: {body['mode']}", *lag_lines(body), *waits]
    lines += [f"fence and marker: {body['misfit']}"] if body["misfit"] else []
    lines += [
        f"instance {one['name']} ({one['id'][:8]}): {one['mode']}, epoch {one['epoch']}, "
        f"{'seen' if one['live'] else 'gone, seen last'} {one['seen_s_ago']:.0f} s ago"
        for one in body["instances"]
    ]
    show(body, as_json, table_text(names, rows) + "\n".join(lines))


def _misfit(job: Job) -> str:
    """In what fence and marker on MongoDB do not fit the mode, or why that cannot be told."""
    try:
        return misfit(job)
    except MigrationError as error:
        return f"cannot be told: {error}"


@click.command()
@file_argument
@json_option
@explained
def health(file: str, as_json: bool) -> int:
    """Members, tables, lag, the last validation, dead letters, the application's instances; exit 0 only if all are healthy."""
    with opened_job(file) as (job, _):
        report = full_health(job)
    show(report.to_dict(), as_json, report.render())
    return 0 if report.ok else EXIT_UNHEALTHY
