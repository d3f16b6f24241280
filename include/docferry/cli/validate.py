"""The commands that compare and mend: validate, repair, purge, dead-letters, strays."""

from __future__ import annotations

from collections.abc import Sequence

import click
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

from docferry import errors
from docferry.cli.common import (
    EXIT_DIFFERENT,
    EXIT_REFUSED,
    MetricsPage,
    answer,
    dry_option,
    explained,
    file_argument,
    json_option,
    measured_job,
    metrics_options,
    only_option,
    opened_job,
    run_counted,
    screen,
    show,
)
from docferry.cli.render import table_text
from docferry.core.bson_codec.shown import show_document
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.dead_letters import letter_document, list_letters, read_letter
from docferry.flows.ledger.rooms.strays import StrayLetter, list_strays, read_stray, settle_stray, stray_copies
from docferry.flows.purge import PurgeReport, purge
from docferry.flows.validate.first_pass import validate
from docferry.flows.validate.repair import repair
from docferry.flows.validate.replay import ReplayReport, replay_letters
from docferry.wiring import Connections


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    for command in (validate_command, repair_command, purge_command, dead_letters, strays):
        group.add_command(command)


@click.command("validate")
@file_argument
@only_option
@click.option("--sample", type=click.IntRange(1), help="Compare this many random documents of each collection.")
@metrics_options
@json_option
@explained
def validate_command(file: str, only: tuple[str, ...], sample: int | None, metrics: MetricsPage, as_json: bool) -> int:
    """Compare both databases, in both directions, field by field."""
    with measured_job(file, metrics) as (job, connections):
        report = run_counted(connections, job, "validate", lambda target: validate(job, target, only, sample))
    show(report.to_dict(), as_json, report.render())
    return 0 if report.ok else EXIT_DIFFERENT


@click.command("repair")
@file_argument
@only_option
@dry_option
@json_option
@explained
def repair_command(file: str, only: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Mend what validation finds, by the version rules. Validate again afterwards."""
    with opened_job(file) as (job, connections):
        report = run_counted(connections, job, "repair", lambda target: repair(job, target, only, dry_run), dry=dry_run)
    body = report.to_dict()
    counts = ", ".join(f"{name} {value}" for name, value in body.items() if name != "found")
    found = report.before.render() if report.before else ""
    show(body, as_json, f"{found}\nrepair: {counts}")
    return 0 if report.complete else EXIT_DIFFERENT


@click.command("purge")
@file_argument
@dry_option
@json_option
@explained
def purge_command(file: str, dry_run: bool, as_json: bool) -> int:
    """Delete tombstones that nothing older can follow any more, with the proof. The first run ever notes when that begins.

    The proof needs two runs: one that notes what has been applied, and one, half an hour later, that purges.
    """
    with opened_job(file) as (job, connections):
        report: PurgeReport = run_counted(
            connections, job, "purge", lambda target: purge(job, target, dry_run), dry=dry_run
        )
    show(report.to_dict(), as_json, report.render())
    return 0 if report.proof.holds else EXIT_REFUSED


@click.command("dead-letters")
@file_argument
@only_option
@click.option("--show", "shown", metavar="ID", help="Print this document (Extended JSON) to standard output.")
@click.option("--replay", is_flag=True, help="Try them again, as MongoDB has them now.")
@json_option
@explained
def dead_letters(file: str, only: tuple[str, ...], shown: str | None, replay: bool, as_json: bool) -> int:
    """List documents that could not be stored; show one; try them again once they are fixed."""
    with opened_job(file) as (job, connections):
        names = [job.migration.mapping(name).collection for name in only] or list(job.migration.mappings)
        if shown is not None:
            return _show_letter(job, names, shown)
        if replay:
            ran = {name: _replay(job, connections, name) for name in names}
            body = {name: report.to_dict() for name, report in ran.items()}
            show(body, as_json, "\n".join(f"{name}: {counts}" for name, counts in body.items()))
            return EXIT_DIFFERENT if any(report.still_dead for report in ran.values()) else 0
        letters = [letter for name in names for letter in list_letters(job.ledger, name)]
    rows = [(one.collection, one.id, one.reason, one.path, one.message[:70]) for one in letters]
    text = table_text(("collection", "document", "reason", "path", "what"), rows) + f"{len(letters)} dead letters"
    show([letter.to_dict() for letter in letters], as_json, text)
    return 0


@click.command("strays")
@file_argument
@click.option(
    "--show", "shown", metavar="KEY", help="Print both copies of this one (Extended JSON) to standard output."
)
@click.option("--settle", multiple=True, metavar="KEY", help="It has been dealt with: its copies go. Repeatable.")
@click.option("--why", default="", help="Kept with what is settled; needed.")
@json_option
@explained
def strays(file: str, shown: str | None, settle: tuple[str, ...], why: str, as_json: bool) -> None:
    """Writes that reached a database after it had stopped leading, each with what both held. They are in neither by themselves:
    make the write again through the application if it is worth that, then settle it."""
    with opened_job(file) as (job, _):
        if shown is not None:
            _show_stray(_stray(job, shown), job)
            return
        if settle and not why.strip():
            raise errors.ConfigError("strays", [errors.Problem(where="--why", what="is missing", suggestion="say why")])
        for letter in [_stray(job, key) for key in settle]:
            settle_stray(job.ledger, letter, job.identity.name, why)
        found = list_strays(job.ledger)
    rows = [(one.key, one.old.label, one.operation, one.collection, one.id[:60], one.at) for one in found]
    text = (
        table_text(("key", "reached", "operation", "collection", "document", "time"), rows)
        + f"{len(found)} stray writes"
    )
    show([one.to_dict() for one in found], as_json, text)


def _stray(job: Job, key: str) -> StrayLetter:
    found = read_stray(job.ledger, key)
    if found is None:
        raise errors.ConfigError("strays", [errors.Problem(where=key, what="there is no such stray write")])
    return found


def _show_stray(letter: StrayLetter, job: Job) -> None:
    copies = zip((letter.old.value, letter.old.other.value), stray_copies(job.ledger, letter), strict=True)
    held = {name: show_document(copy).document if copy is not None else None for name, copy in copies}
    answer(dumps(letter.to_dict() | {"copies": held}, json_options=CANONICAL_JSON_OPTIONS, indent=2))


def _replay(job: Job, connections: Connections, collection: str) -> ReplayReport:
    report: ReplayReport = run_counted(
        connections, job, "replay", lambda target: replay_letters(job, target, collection)
    )
    return report


def _show_letter(job: Job, names: Sequence[str], id_text: str) -> int:
    for name in names:
        record = read_letter(job.ledger, name, id_text)
        if record is not None:
            shown = show_document(letter_document(job.ledger, record))
            for path in shown.invalid_text:
                screen.print(
                    f"{path}: not valid UTF-8; bytes that are not are shown as \\xNN", markup=False, highlight=False
                )
            answer(dumps(shown.document, json_options=CANONICAL_JSON_OPTIONS, indent=2))
            return 0
    raise errors.ConfigError(
        "dead letters", [errors.Problem(where=id_text, what="there is no dead letter of this document")]
    )
