"""The commands that make the estate in AWS, print it for another tool, let it go and remove it: provision, replicas, release,
destroy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from docferry import errors
from docferry.cli.common import (
    EXIT_REFUSED,
    CliProgress,
    answer,
    dry_option,
    explained,
    file_argument,
    json_option,
    open_migration,
    opened_job,
    price_book_option,
    screen,
    show,
    stop_on_signals,
)
from docferry.config import Migration, load_migration
from docferry.config.price_book import load_price_book
from docferry.core.estate.resources import AwsPlace
from docferry.core.estate.templates.cloudformation import cloudformation
from docferry.core.estate.templates.terraform import terraform
from docferry.flows.cost.dry_run import dry_run_of
from docferry.flows.fence.marker import mark_leader
from docferry.flows.ledger.mapping_fingerprint import changed_since
from docferry.flows.preflight.images import render_images, switch_images_on
from docferry.flows.provision.destroy import destroy
from docferry.flows.provision.release import release_tables
from docferry.flows.provision.report import ProvisionReport, render_plan
from docferry.flows.provision.run import add_replicas, ownership, provision
from docferry.flows.provision.streams import streams_are_free
from docferry.wiring import Connections, desired, who


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    for command in (provision_command, release, replicas, destroy_command):
        group.add_command(command)


_TEMPLATES = {"cloudformation": cloudformation, "terraform": terraform}


@click.command("provision")
@file_argument
@dry_option
@click.option("--allow-changes", is_flag=True, help="Change what differs, where DynamoDB can do so in place.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_TEMPLATES)),
    help="Only print the same estate in AWS as a template, for a team whose estate belongs to another tool. Asks no server.",
)
@price_book_option
@json_option
@explained
def provision_command(
    file: str, dry_run: bool, allow_changes: bool, form: str | None, price_book: Path | None, as_json: bool
) -> None:
    """Switch change stream images on; create or verify ledger, tables, indexes, PITR, TTL, tags, the DAX cluster, and what the
    file says under `estate`; make the marker in MongoDB that says who leads."""
    if form is not None:
        _print_template(file, form, {"--dry-run": dry_run, "--allow-changes": allow_changes})
        return
    migration, connections = open_migration(file)
    owned = ownership(migration, connections.ledger(migration), connections.estate(migration))
    if not dry_run:
        owned.require()
    with closing(connections.source(migration)) as source, CliProgress() as progress:
        images = switch_images_on(migration, source, dry_run=dry_run, progress=progress)
        cost = (
            dry_run_of(migration, source, load_price_book(price_book), image_bytes=images.most_bytes)
            if dry_run
            else None
        )
    report = _provisioned(partial(provision, ownership=owned), migration, connections, dry_run, allow_changes)
    if not dry_run:
        with opened_job(file) as (job, _):
            mark_leader(job)
    notes = changed_since(migration, connections.ledger(migration))
    body = report.to_dict() | {"images": images.to_dict(), "mapping_changed": notes}
    money = cost.lines() if cost is not None else []
    body |= {"cost": cost.to_dict()} if cost is not None else {}
    show(body, as_json, "\n".join([render_images(images), render_plan(report), *notes, *money]))


def _print_template(file: str, form: str, others: Mapping[str, bool]) -> None:
    """JSON on standard output; what it leaves out, and what is still to do, on standard error."""
    if beside := [name for name, given in others.items() if given]:
        what = f"prints a template and changes nothing: it takes no {' and no '.join(beside)}"
        raise errors.ConfigError("provision", [errors.Problem(where="--format", what=what)])
    migration = load_migration(file)
    wanted = desired(migration)
    place = AwsPlace(account=migration.target.account or "*", region=migration.target.region)
    template = _TEMPLATES[form](wanted, place)
    answer(json.dumps(template.document, indent=1))
    for one in template.left_out:
        screen.print(f"left out: {one}", markup=False, highlight=False, soft_wrap=True)
    said = (
        "docferry provision, once the template is applied, verifies all of it, claims the tables and switches images on"
    )
    screen.print(said, markup=False, highlight=False, soft_wrap=True)


@click.command()
@file_argument
@click.option("--migration", default="", metavar="NAME", help="Which one is over; the file's own by default.")
@json_option
@explained
def release(file: str, migration: str, as_json: bool) -> None:
    """A migration that is over lets the file's tables go: another one may have them. Their items stay."""
    ours, connections = open_migration(file)
    over = replace(ours, name=migration or ours.name)
    with stop_on_signals() as stop, CliProgress() as progress, connections.job(over, who(), progress, stop) as job:
        released = release_tables(job)
    text = f"{over.name}: {', '.join(released) or 'no table of the file'} let go"
    show({"migration": over.name, "released": released}, as_json, text)


@click.command()
@file_argument
@dry_option
@click.option("--allow-changes", is_flag=True, help="Change what differs, where DynamoDB can do so in place.")
@json_option
@explained
def replicas(file: str, dry_run: bool, allow_changes: bool, as_json: bool) -> None:
    """Add the file's replica regions. After the load: bulk puts refuse global tables."""
    report = _provisioned(add_replicas, *open_migration(file), dry_run, allow_changes)
    show(report.to_dict(), as_json, render_plan(report))


@click.command("destroy")
@file_argument
@click.option(
    "--confirm", default="", metavar="NAME", help="The migration's name, typed: remove it. Without it a dry run."
)
@click.option("--recovery-points", is_flag=True, help="Delete the recovery points in the file's backup vaults, too.")
@json_option
@explained
def destroy_command(file: str, confirm: str, recovery_points: bool, as_json: bool) -> int:
    """Remove a scratch stack (target.scratch): all that provision and replicas have made for the file, with all data in it."""
    with opened_job(file) as (job, _):
        if confirm and confirm != job.migration.name:
            what = f"'{confirm}' is not the migration's name"
            raise errors.PreflightFailed("destroy", [errors.Problem(where="--confirm", what=what)])
        wanted = desired(job.migration, final=True)
        report = destroy(job, wanted, dry_run=not confirm, recovery_points=recovery_points)
    show(report.to_dict(), as_json, report.render())
    return EXIT_REFUSED if report.refusals else 0


def _provisioned(
    flow: Callable[..., ProvisionReport], migration: Migration, connections: Connections, dry_run: bool, allow: bool
) -> ProvisionReport:
    estate = connections.estate(migration)
    with stop_on_signals() as stop, CliProgress() as progress:
        wanted = desired(migration, final=streams_are_free(migration, connections.ledger(migration)))
        return flow(wanted, estate, allow_changes=allow, dry_run=dry_run, progress=progress, stop=stop)
