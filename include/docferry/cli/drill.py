"""The command that rehearses the night."""

from __future__ import annotations

import json
from pathlib import Path

import click

from docferry.cli.common import EXIT_DIFFERENT, CliProgress, explained, json_option, show
from docferry.rehearsal.drill import PROCESSES, RAMP, RATE, drill


def add_to(group: click.Group) -> None:
    """These commands, as commands of `group`."""
    for command in (drill_command,):
        group.add_command(command)


@click.command("drill")
@click.option(
    "--processes", type=click.IntRange(2, 64), default=PROCESSES, show_default=True, help="Of the application."
)
@click.option(
    "--rate", type=click.FloatRange(0.5), default=RATE, show_default=True, help="Requests/s of each; 8 of 10 write."
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Also write the report there, as JSON.")
@json_option
@explained
def drill_command(processes: int, rate: float, report: Path | None, as_json: bool) -> int:
    """Rehearse the whole way to DynamoDB, back, and there again: a throw-away stack, a live application, an independent judge."""
    with CliProgress() as progress:
        found = drill(progress.say, processes=processes, rate=rate, ramp=RAMP)
    if report is not None:
        report.write_text(json.dumps(found.to_dict(), indent=1) + "\n")
    show(found.to_dict(), as_json, found.render())
    return 0 if found.ok else EXIT_DIFFERENT
