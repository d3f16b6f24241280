"""The whole analysis: collect, relate, judge, design, price; and what it leaves behind in a directory."""

from __future__ import annotations

from dataclasses import replace

from docferry.config import parse_migration
from docferry.core.analyze.design import design_of
from docferry.core.analyze.migration_text import migration_text
from docferry.core.analyze.price import price_of
from docferry.core.analyze.report import Report
from docferry.core.analyze.risks import risks_of
from docferry.core.cost.prices import PriceBook
from docferry.core.cost.roi import MongoBill
from docferry.errors import ConfigError, Problem
from docferry.flows.analyze.collect import collect
from docferry.flows.analyze.job import Analysis
from docferry.flows.analyze.relate import count_repeats, relate


def analyze(job: Analysis, book: PriceBook, bill: MongoBill | None = None) -> tuple[Report, str]:
    """(the report, the proposed migration file). Reads only.

    The file has been read as a migration file before it is handed out.

    Raises: Stopped; ConfigError if the database has no collection that can be migrated.
    """
    collected = collect(job)
    facts, spent = collected.facts, collected.spent
    if not any(one.kind == "collection" for one in facts.collections):
        what = "has no collections" if not facts.collections else "has nothing but views and time series"
        problem = Problem(where=job.database, what=what, suggestion="check the name of the database")
        raise ConfigError("docferry analyze", [problem])
    counted = [count_repeats(job, spent, one) for one in facts.collections]
    collected.facts = replace(facts, collections=tuple(one for one, _ in counted))
    facts = replace(
        collected.facts,
        references=tuple(relate(job, collected)),
        uncounted=tuple(name for _, names in counted for name in names),
        seconds=spent.seconds,
        documents_read=spent.documents,
        bytes_read=spent.bytes,
        server_bytes=spent.server_bytes,
        yielded_s=spent.yielded_s,
        stopped_early=spent.ended,
    )
    design = design_of(facts)
    text = migration_text(design)
    parse_migration(text.encode(), "the proposed migration file")
    report = Report(facts=facts, risks=risks_of(facts), design=design, price=price_of(facts, design, book, bill))
    return report, text
