"""The command that speaks of money: what a migration costs, what it has cost, and what AWS asks today."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from docferry.cli.common import explained, json_option, show
from docferry.cli.render import table_text
from docferry.config import Migration, load_migration
from docferry.config.price_book import load_bill, load_price_book
from docferry.config.workload import Analyzed, analyzed_sizes, load_analysis, load_workload
from docferry.core.cost.calls import ONLY_COUNTED, CallRates
from docferry.core.cost.forecast import Forecast, Workload, forecast
from docferry.core.cost.report import first_lines, markdown, page, tables_of, to_dict
from docferry.core.cost.sizes import CollectionSizes
from docferry.errors import ConfigError, Problem
from docferry.flows.cost.measured import SAMPLE, count_calls, measure_collections, priced_design
from docferry.wiring import MONGO_URI, call_counter, mongo_source


def add_to(group: click.Group) -> None:
    """This command, as a command of `group`."""
    group.add_command(cost_command)


_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("cost")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--price-book", type=_existing, default=None, help="Prices of your region. [us-east-1, list prices]")
@click.option("--mongodb-bill", type=_existing, default=None, help="What MongoDB costs a month: YAML (docs/cost.md).")
@click.option("--workload", "workload_file", type=_existing, default=None, help="Calls a second, and the plan: YAML.")
@click.option(
    "--analysis", type=_existing, default=None, help="The report.json of docferry analyze, in place of MongoDB."
)
@click.option(
    "--documents", type=click.IntRange(1), default=SAMPLE, show_default=True, help="Measure so many of a collection."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="Also write cost.html, .md, .json."
)
@json_option
@explained
def cost_command(
    file: str,
    price_book: Path | None,
    mongodb_bill: Path | None,
    workload_file: Path | None,
    analysis: Path | None,
    documents: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """What a migration file's design costs a month, and the migration once; beside MongoDB's bill. Changes nothing.

    Measures documents, and counts calls, by DOCFERRY_MONGO_URI; without it takes them from --analysis.
    """
    migration = load_migration(file)
    book = load_price_book(price_book)
    bill = load_bill(mongodb_bill, book)
    analyzed = load_analysis(analysis) if analysis is not None else None
    sizes = _sizes(migration, analyzed, documents)
    workload = _workload(migration, workload_file, analyzed)
    found = forecast(priced_design(migration), sizes, workload, book, bill)
    files = _write(found, out) if out is not None else []
    show(to_dict(found), as_json, "\n".join([_text(found), *(f"written: {path}" for path in files)]))
    return 0


def _sizes(migration: Migration, analyzed: Analyzed | None, documents: int) -> Sequence[CollectionSizes]:
    if os.environ.get(MONGO_URI):
        with closing(mongo_source(os.environ[MONGO_URI], migration)) as source:
            return measure_collections(migration, source, documents)
    if analyzed is None:
        advice = "set it, so that documents can be measured, or give the report of an analysis with --analysis"
        raise ConfigError("environment", [Problem(where=MONGO_URI, what="is not set", suggestion=advice)])
    return [analyzed_sizes(analyzed, one.name, one.table) for one in migration.collections]


def _workload(migration: Migration, file: Path | None, analyzed: Analyzed | None) -> Workload:
    """The file's, and for collections that it does not name what the analysis, or MongoDB, has counted."""
    indexes = {name for table in migration.tables for name in table.indexes}
    given = load_workload(file, migration.mappings, indexes) if file is not None else Workload()
    lacking = [one.name for one in migration.collections if one.name not in given.rates]
    if not lacking:
        return given
    counted, notes = _counted(migration, analyzed)
    more = {name: counted[name] for name in lacking if name in counted}
    notes += (
        [f"{', '.join(sorted(more))}: {ONLY_COUNTED}"] if any(one.reads or one.writes for one in more.values()) else []
    )
    return given.with_rates({**more, **given.rates}, notes)


def _counted(migration: Migration, analyzed: Analyzed | None) -> tuple[dict[str, CallRates], list[str]]:
    if analyzed is not None:
        return dict(analyzed.rates), []
    with closing(call_counter(os.environ[MONGO_URI], migration.source.database)) as counter:
        found = count_calls(migration, counter)
    return found.rates, [found.missing] if found.missing else []


def _text(found: Forecast) -> str:
    parts = first_lines(found)
    for table in tables_of(found):
        parts += ["", table.title, table_text(table.head, table.rows).rstrip()]
        parts += [table.note] if table.note else []
    return "\n".join(parts)


def _write(found: Forecast, out: Path) -> list[Path]:
    """The report's files. Raises ConfigError if the directory cannot be written."""
    made = {
        "cost.html": page(found),
        "cost.md": markdown(found),
        "cost.json": json.dumps(to_dict(found), indent=1, default=str),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in made.items():
            (out / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "docferry cost", [Problem(where=str(out), what=f"cannot be written: {error.strerror}")]
        ) from error
    return [out / name for name in made]
