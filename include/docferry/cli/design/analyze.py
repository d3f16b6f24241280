"""The command that looks at a MongoDB that no file describes yet: what to build in DynamoDB, why, and what it costs."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from docferry.cli.common import (
    EXIT_DIFFERENT,
    CliProgress,
    explained,
    json_option,
    open_migration,
    show,
    stop_on_signals,
)
from docferry.cli.design.prove import prove_file
from docferry.config.price_book import load_bill, load_price_book
from docferry.core.analyze.facts import QueryShape
from docferry.core.analyze.query_shapes import shapes_of_log
from docferry.core.analyze.report import Report
from docferry.core.cutover.instances import unserved_by
from docferry.core.namespaces import Namespaces
from docferry.core.source.table import findings_body, findings_text, source_files, summary
from docferry.errors import ConfigError, Problem
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.budget import ReadBudget
from docferry.flows.analyze.job import Analysis
from docferry.flows.analyze.prove import CALLS
from docferry.flows.analyze.source import SourceCalls
from docferry.flows.ledger.modes import list_instances
from docferry.rehearsal.judged import calls_in, is_served, judged, with_counted, with_source
from docferry.wiring import MONGO_URI
from docferry.wiring_design import analysis_directory, analysis_source


def add_to(group: click.Group) -> None:
    """This command, as a command of `group`."""
    group.add_command(analyze_command)


_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("analyze")
@click.option("--database", default="", help="The MongoDB database to look at.")
@click.option("--also", multiple=True, metavar="DATABASE", help="One more, for the same file and cutover. Repeatable.")
@click.option(
    "--source",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="An application's source: say of each driver call in it what becomes of it. Needs no database; runs none of it.",
)
@click.option(
    "--file", "file", type=_existing, default=None, help="The migration file that decides about --source's calls."
)
@click.option(
    "--counted",
    is_flag=True,
    help="Ask the ledger of --file, too: how often the running clients counted each call as what DynamoDB could not do.",
)
@click.option(
    "--prove",
    type=_existing,
    default=None,
    metavar="FILE",
    help="A migration file: load a sample into scratch tables, and ask its access patterns on both sides. Needs AWS.",
)
@click.option(
    "--calls", type=click.IntRange(1), default=CALLS, show_default=True, help="With --prove: of each pattern."
)
@click.option("--clean", is_flag=True, help="With --prove: only remove scratch tables that earlier runs have left.")
@click.option("--collections", default="", metavar="A,B", help="Only these collections.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where the report and the file go. [analysis-DATABASE, analysis-DIRECTORY]",
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
@click.option(
    "--profile-seconds",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="First switch MongoDB's profiler on for so long, and put it back. Changes the server's load: only on request.",
)
@click.option("--price-book", type=_existing, default=None, help="Prices of your region. [us-east-1, list prices]")
@click.option("--mongodb-bill", type=_existing, default=None, help="What MongoDB costs a month: YAML, part: USD.")
@json_option
@explained
def analyze_command(
    database: str,
    also: tuple[str, ...],
    directory: Path | None,
    file: Path | None,
    counted: bool,
    prove: Path | None,
    calls: int,
    clean: bool,
    collections: str,
    out: Path | None,
    documents: int,
    minutes: float,
    logs: tuple[Path, ...],
    profile_seconds: float,
    price_book: Path | None,
    mongodb_bill: Path | None,
    as_json: bool,
) -> int:
    """Look at a MongoDB database; write a report, and a migration file to begin with. Reads only; no file is needed.

    Connects by DOCFERRY_MONGO_URI. Leaves report.html, report.md, report.json and migration.yaml in the directory.

    With --source it also reads an application's source, and leaves source.html, source.md and source.json; exit 1 if one
    of the calls will not be served once DynamoDB leads.

    With --prove it leaves proof.html, proof.md and proof.json instead; exit 1 if a pattern is not answered, or gives other
    documents than MongoDB.
    """
    if prove is not None or clean:
        return prove_file(prove, out, documents, calls, clean, price_book, as_json)
    if not database:
        return _source_alone(directory, file, counted, out, as_json)
    book, bill = load_price_book(price_book), load_bill(mongodb_bill)
    out = out or Path(f"analysis-{database}")
    with stop_on_signals() as stop, CliProgress() as progress:
        found = analysis_source(os.environ.get(MONGO_URI, ""), database, _others(database, also, profile_seconds))
        with closing(found.source):
            where = found.source.where
            job = Analysis(
                database=database,
                elsewhere=where.elsewhere,
                source=found.source,
                sketches=found.sketches,
                progress=progress,
                stop=stop,
                collections=tuple(name for name in collections.split(",") if name),
                budget=ReadBudget(documents=documents, seconds=minutes * 60),
                state=analysis_directory(out).state,
                profiler=analysis_directory(out).profiler,
                profile_s=profile_seconds,
                shapes=[shape for log in logs for shape in _shapes(log, where)],
            )
            report, text = analyze(job, book, bill)
        found_calls = None
        if directory is not None:
            seen = [shape for one in report.facts.collections for shape in one.shapes]
            found_calls = judged(_counted(calls_in(directory, seen, progress, stop), file, counted), file, text)
            report = with_source(report, found_calls)
    files = analysis_directory(out).write(report, text)
    told = _told(report, files)
    if found_calls is not None:
        files |= analysis_directory(out).leave(source_files(found_calls))
        told = f"{findings_text(found_calls.calls)}\n{told}"
    show({name: str(path) for name, path in files.items()}, as_json, told)
    return EXIT_DIFFERENT if found_calls is not None and not is_served(found_calls) else 0


def _counted(calls: SourceCalls, file: Path | None, counted: bool) -> SourceCalls:
    """With what the clients of the file's migration have counted, if that is asked for."""
    if not counted:
        return calls
    if file is None:
        problem = Problem(
            where="--counted", what="asks the ledger of a migration", suggestion="name its file by --file"
        )
        raise ConfigError("docferry analyze", [problem])
    migration, connections = open_migration(str(file))
    return with_counted(calls, unserved_by(list_instances(connections.ledger(migration)), ()))


def _source_alone(directory: Path | None, file: Path | None, counted: bool, out: Path | None, as_json: bool) -> int:
    if directory is None:
        problem = Problem(
            where="docferry analyze", what="has nothing to look at", suggestion="give --database, --source or --prove"
        )
        raise ConfigError("docferry analyze", [problem])
    with stop_on_signals() as stop, CliProgress() as progress:
        found = judged(_counted(calls_in(directory, (), progress, stop), file, counted), file)
    files = analysis_directory(out or Path(f"analysis-{directory.resolve().name}")).leave(source_files(found))
    told = [findings_text(found.calls), *summary(found), f"report: {files['source.html']}"]
    show(
        findings_body(found) | {"reports": {name: str(path) for name, path in files.items()}}, as_json, "\n".join(told)
    )
    return 0 if is_served(found) else EXIT_DIFFERENT


def _others(database: str, also: Sequence[str], profile_seconds: float) -> list[str]:
    others = [one for one in dict.fromkeys(also) if one != database]
    if others and profile_seconds:
        advice = "switch it on by hand in each database (db.setProfilingLevel), or look at one database at a time"
        what = "switches on the profiler of one database, and --also names more"
        raise ConfigError("docferry analyze", [Problem(where="--profile-seconds", what=what, suggestion=advice)])
    return others


def _shapes(log: Path, database: Namespaces) -> list[QueryShape]:
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
