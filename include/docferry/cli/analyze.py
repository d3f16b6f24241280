"""The command that looks at a MongoDB that no file describes yet: what to build in DynamoDB, why, and what it costs."""

from __future__ import annotations

import gzip
import os
from contextlib import closing
from pathlib import Path

import click

from docferry.cli.common import CliProgress, explained, json_option, show, stop_on_signals
from docferry.config.price_book import load_bill, load_price_book
from docferry.core.analyze.facts import QueryShape
from docferry.core.analyze.query_shapes import shapes_of_log
from docferry.core.analyze.report import Report
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.budget import ReadBudget
from docferry.flows.analyze.collect import Analysis
from docferry.wiring import MONGO_URI, analysis_directory, analysis_source


def add_to(group: click.Group) -> None:
    """This command, as a command of `group`."""
    group.add_command(analyze_command)


_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("analyze")
@click.option("--database", required=True, help="The MongoDB database to look at.")
@click.option("--collections", default="", metavar="A,B", help="Only these collections.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where the report and the file go. [analysis-DATABASE]",
)
@click.option(
    "--documents",
    type=click.IntRange(1),
    default=ReadBudget().documents,
    show_default=True,
    help="Read at most so many documents of a collection.",
)
@click.option(
    "--minutes", type=click.FloatRange(0.01), default=30.0, show_default=True, help="Read for at most so long."
)
@click.option(
    "--log",
    "logs",
    type=_existing,
    multiple=True,
    help="A structured log of mongod with slow queries (also .gz); repeatable.",
)
@click.option("--price-book", type=_existing, default=None, help="Prices of your region. [us-east-1, list prices]")
@click.option("--mongodb-bill", type=_existing, default=None, help="What MongoDB costs a month: YAML, part: USD.")
@json_option
@explained
def analyze_command(
    database: str,
    collections: str,
    out: Path | None,
    documents: int,
    minutes: float,
    logs: tuple[Path, ...],
    price_book: Path | None,
    mongodb_bill: Path | None,
    as_json: bool,
) -> int:
    """Look at a MongoDB database; write a report, and a migration file to begin with. Reads only; no file is needed.

    Connects by DOCFERRY_MONGO_URI. Leaves report.html, report.md, report.json and migration.yaml in the directory.
    """
    book, bill = load_price_book(price_book), load_bill(mongodb_bill)
    out = out or Path(f"analysis-{database}")
    with stop_on_signals() as stop, CliProgress() as progress:
        found = analysis_source(os.environ.get(MONGO_URI, ""), database)
        with closing(found.source):
            job = Analysis(
                database=database,
                source=found.source,
                sketches=found.sketches,
                progress=progress,
                stop=stop,
                collections=tuple(name for name in collections.split(",") if name),
                budget=ReadBudget(documents=documents, seconds=minutes * 60),
                shapes=[shape for log in logs for shape in _shapes(log, database)],
            )
            report, text = analyze(job, book, bill)
    files = analysis_directory(out).write(report, text)
    show({name: str(path) for name, path in files.items()}, as_json, _told(report, files))
    return 0


def _shapes(log: Path, database: str) -> list[QueryShape]:
    if log.suffix == ".gz":
        with gzip.open(log, "rt", errors="replace") as lines:
            return shapes_of_log(lines, database)
    with log.open(errors="replace") as lines:
        return shapes_of_log(lines, database)


def _told(report: Report, files: dict[str, Path]) -> str:
    risks = [
        f"  {one.severity}: {one.collection} {one.subject}: {one.what} ({one.evidence})"
        for one in report.risks
        if one.severity != "know"
    ]
    shown = risks[:20] + ([f"  and {len(risks) - 20} more, see the report"] if len(risks) > 20 else [])
    lines = [
        report.price.comparison.sentence,
        "What does not fit, and what to decide:",
        *(shown or ["  nothing was found in the sample"]),
    ]
    lines += [
        f"report: {files['report.html']}",
        f"migration file: {files['migration.yaml']} (next: docferry check {files['migration.yaml']})",
    ]
    return "\n".join(lines)
