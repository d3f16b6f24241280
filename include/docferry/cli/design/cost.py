"""The command that speaks of money: what a migration costs, what it has cost, and what AWS asks today."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from docferry.cli.common import explained, json_option, opened_job, price_book_option, show
from docferry.cli.render import table_text
from docferry.config import Migration, load_migration
from docferry.config.price_book import load_bill, load_price_book, price_book_text
from docferry.config.workload import Analyzed, analyzed_sizes, load_analysis, load_workload
from docferry.core.cost.actual import actual
from docferry.core.cost.forecast import Forecast, Workload, forecast
from docferry.core.cost.price_list import refreshed
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.report import first_lines, report_files, tables_of, to_dict
from docferry.core.cost.sizes import CollectionSizes
from docferry.errors import ConfigError, Problem
from docferry.flows.cost.actual import consumed
from docferry.flows.cost.forecasting import is_complete, priced_design, with_counted
from docferry.flows.cost.measured import SAMPLE, CallCounts, count_calls, measure_collections
from docferry.wiring import MONGO_URI
from docferry.wiring_design import PRICE_LIST, analysis_directory, call_counter, listed_prices, mongo_source


def add_to(group: click.Group) -> None:
    """This command, as a command of `group`."""
    group.add_command(cost_command)


_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("cost")
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@price_book_option
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
@click.option(
    "--actual", "as_counted", is_flag=True, help="Instead: what it has consumed so far, beside the forecast for it."
)
@click.option("--refresh-prices", is_flag=True, help="Instead: write a price book from AWS's public price list.")
@click.option("--region", default="", help="Of --refresh-prices. [the file's; else the book's]")
@click.option("--price-list", default=PRICE_LIST, show_default=True, metavar="URL", help="Where the list is.")
@json_option
@explained
def cost_command(
    file: str | None,
    price_book: Path | None,
    mongodb_bill: Path | None,
    workload_file: Path | None,
    analysis: Path | None,
    documents: int,
    out: Path | None,
    as_counted: bool,
    refresh_prices: bool,
    region: str,
    price_list: str,
    as_json: bool,
) -> int:
    """What a migration file's design costs a month, and the migration once; beside MongoDB's bill. Changes nothing.

    Measures documents, and counts calls, by DOCFERRY_MONGO_URI; without it takes them from --analysis.
    """
    migration = load_migration(file) if file is not None else None
    book = load_price_book(price_book)
    if refresh_prices:
        region = region or (migration.target.region if migration is not None else book.region)
        return _refresh(book, region, price_list, out, as_json)
    if migration is None:
        raise click.UsageError("Missing argument 'FILE'.")
    bill = load_bill(mongodb_bill, book)
    analyzed = load_analysis(analysis) if analysis is not None else None
    sizes = _sizes(migration, analyzed, documents)
    workload = _workload(migration, workload_file, analyzed)
    if as_counted:
        return _actual(file or "", sizes, workload, book, as_json)
    found = forecast(priced_design(migration), sizes, workload, book, bill)
    files = [*analysis_directory(out).leave(report_files(found)).values()] if out is not None else []
    show(to_dict(found), as_json, "\n".join([_text(found), *(f"written: {path}" for path in files)]))
    return 0


def _actual(file: str, sizes: Sequence[CollectionSizes], workload: Workload, book: PriceBook, as_json: bool) -> int:
    """The ledger's counts. Asks AWS for the ledger."""
    with opened_job(file) as (job, _):
        found = actual(book, consumed(job, sizes, workload.rates))
    head, rows = found.table()
    told = [table_text(head, rows).rstrip(), f"Prices: {book.title}, on demand. Forecast: for the work that was done."]
    told += [f"Guessed: {one}." for one in workload.notes]
    untold = sum(one.untold for one in found.rows)
    told += [f"{untold:,} requests are in no row: DynamoDB did not say what they consumed."] if untold else []
    show(found.to_dict(), as_json, "\n".join(told))
    return 0


def _refresh(book: PriceBook, region: str, address: str, out: Path | None, as_json: bool) -> int:
    """A book of that region beside the old one, which stays as it is."""
    new = refreshed(book, region, listed_prices(region, address), time.strftime("%Y-%m-%d", time.gmtime()))
    path = (out or Path()) / f"prices-{region}.yaml"
    analysis_directory(path.parent).leave({path.name: price_book_text(new)})
    old, now = asdict(book), asdict(new)
    changed = {name: [old[name], now[name]] for name in now if old[name] != now[name]}
    told = [f"{name}: {before} -> {after}" for name, (before, after) in changed.items()]
    show(
        {"book": str(path), "changed": changed},
        as_json,
        "\n".join([*told, f"written: {path}; give it with --price-book"]),
    )
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
    if analyzed is not None:
        return with_counted(migration, given, CallCounts(rates=dict(analyzed.rates)))
    if is_complete(migration, given):
        return given
    with closing(call_counter(os.environ[MONGO_URI], migration.namespaces)) as counter:
        return with_counted(migration, given, count_calls(migration, counter))


def _text(found: Forecast) -> str:
    parts = first_lines(found)
    for table in tables_of(found):
        parts += ["", table.title, table_text(table.head, table.rows).rstrip()]
        parts += [table.note] if table.note else []
    return "\n".join(parts)
