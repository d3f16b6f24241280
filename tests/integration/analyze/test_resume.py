"""An analysis that is cut short goes on where it was, and what it says that it has read is what MongoDB sent."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from docferry.adapters.local.analysis_files import AnalysisDirectory
from docferry.adapters.local.analysis_state import FILE
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.sketches import sketches
from docferry.config.price_book import load_price_book
from docferry.core.analyze.facts import CollectionFacts
from docferry.core.analyze.report import Report
from docferry.errors import Stopped
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.budget import ReadBudget
from docferry.flows.analyze.job import Analysis
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from pymongo.database import Database
from support.analyze.databases import make_movies


class Recorded(MongoAnalysis):
    """The real source, which remembers what it has sent."""

    def __init__(self, uri: str, database: str) -> None:
        super().__init__(uri, database)
        self.sent: dict[str, int] = {}

    def sample(self, collection: str, documents: int, count: int) -> Iterator[Sequence[bytes]]:
        for page in super().sample(collection, documents, count):
            self.sent[collection] = self.sent.get(collection, 0) + len(page)
            yield page


class StopsAfter:
    """Progress that asks to stop when so many collections are done; 0: never."""

    def __init__(self, collections: int) -> None:
        self.stop, self._after = threading.Event(), collections
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        if subject == "collections" and self._after and done >= self._after:
            self.stop.set()


@pytest.fixture
def database(stack: SandboxStack) -> Iterator[Database[Any]]:
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        found = client[f"resumed_{uuid.uuid4().hex[:8]}"]
        make_movies(found, movies=50)  # so few that quantiles are exact
        yield found
        client.drop_database(found.name)


def run(
    stack: SandboxStack, name: str, out: Path, after: int = 0, **budget: Any
) -> tuple[Report | None, dict[str, int], list[str]]:
    source, progress = Recorded(stack.env()["DOCFERRY_MONGO_URI"], name), StopsAfter(after)
    directory = AnalysisDirectory(out)
    job = Analysis(
        database=name,
        source=source,
        sketches=sketches(),
        progress=progress,
        stop=progress.stop,
        state=directory.state,
        budget=ReadBudget(**budget),
    )
    try:
        report, proposal = analyze(job, load_price_book())
    except Stopped:
        return None, source.sent, progress.said
    finally:
        source.close()
    directory.write(report, proposal)
    return report, source.sent, progress.said


def test_a_run_that_was_stopped_is_gone_on_with_and_finds_the_same(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    whole, _, _ = run(stack, database.name, tmp_path / "whole")
    assert whole is not None
    stopped, first, _ = run(stack, database.name, tmp_path, after=2)
    assert stopped is None
    kept = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()][1:]
    names = {one["facts"]["name"] for one in kept}
    assert len(names) == 2
    assert names <= set(first)

    report, second, said = run(stack, database.name, tmp_path)
    assert report is not None
    assert any("going on: 2 collections" in line for line in said)
    assert report.facts.earlier == 2
    read_again = {name: second.get(name, 0) for name in names}
    assert all(count <= 400 for count in read_again.values())  # a few values to look up: none are kept in a file
    for one, same in zip(documents_of(report), documents_of(whole), strict=True):
        assert asdict(one) == asdict(same)
    assert {(one.collection, one.path, one.target) for one in report.facts.references} == {
        (one.collection, one.path, one.target) for one in whole.facts.references
    }
    assert not (tmp_path / FILE).exists()


def documents_of(report: Report) -> list[CollectionFacts]:
    """What was found in the documents; use, latency and size on disk move on by themselves."""
    moving: dict[str, Any] = {
        "indexes": (),
        "storage_bytes": 0,
        "index_bytes": 0,
        "reads_s": None,
        "writes_s": None,
        "read_ms": None,
        "write_ms": None,
    }
    return [replace(one, **moving) for one in report.facts.collections]


def test_no_value_of_a_document_is_in_the_state_file(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    secrets = [f"secret{number}word" for number in range(50)]
    database["aaa"].insert_many({"name": one, "sku": one} for one in secrets)
    run(stack, database.name, tmp_path, after=3)
    content = (tmp_path / FILE).read_text()
    assert '"aaa"' in content
    assert [one for one in secrets if one in content] == []


def test_what_was_sent_is_what_the_report_says_and_what_the_budget_allows(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    report, sent, _ = run(stack, database.name, tmp_path, documents=60)
    assert report is not None
    assert report.facts.references, "fields were looked up"
    assert report.facts.documents_read == sum(sent.values())
    assert max(sent.values()) <= 60


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    first, _, _ = run(stack, database.name, tmp_path, total_bytes=20_000)
    assert first is not None
    assert "were read" in first.facts.stopped_early
    kept = [json.loads(line)["facts"]["sampled"] for line in (tmp_path / FILE).read_text().splitlines()[1:]]
    second, more, _ = run(stack, database.name, tmp_path)
    assert second is not None
    assert second.facts.earlier > 0
    assert second.facts.stopped_early == ""
    assert second.facts.documents_read == sum(kept) + sum(more.values())
    assert not (tmp_path / FILE).exists()


def test_identifiers_are_counted_within_the_budget_only(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    database["zzz"].insert_many({"sku": f"A{number}", "pad": "x" * 900} for number in range(300))
    report, _, _ = run(stack, database.name, tmp_path / "a")
    assert report is not None
    assert report.facts.server_bytes >= 300 * 900
    assert report.facts.uncounted == ()
    size = report.facts.bytes_read
    short, _, _ = run(stack, database.name, tmp_path / "b", total_bytes=size + 1_000)
    assert short is not None
    assert "zzz.sku" in short.facts.uncounted


def test_when_the_time_is_over_nothing_more_is_asked_and_every_collection_is_named(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    report, sent, _ = run(stack, database.name, tmp_path, seconds=0.0)
    assert report is not None
    assert sent == {}
    assert "minutes were over" in report.facts.stopped_early
    assert {one.name for one in report.facts.collections} == {"movies", "comments", "users", "theaters"}
    assert all(one.indexes == () for one in report.facts.collections)
