"""What an analysis keeps of finished collections comes back as it was; what was cut off, or is another analysis', does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from docferry.adapters.local.analysis_state import FILE, AnalysisStateFile
from docferry.core.analyze.facts import (
    CollectionFacts,
    HeavyValue,
    IndexFacts,
    MissingFact,
    PathFacts,
    QueryShape,
    Spread,
)
from docferry.core.analyze.state import AnalysisRun, FinishedCollection

RUN = AnalysisRun(database="shop", server="MongoDB 6", collections=(), documents=9, began="2026-11-29T10:00:00Z")
FACTS = CollectionFacts(
    name="users",
    kind="collection",
    documents=3,
    sampled=3,
    complete=True,
    paths=(
        PathFacts(
            path="tags",
            present=1.0,
            types={"array": 1.0},
            lengths=Spread(count=3, p50=1, p95=2, p99=2, max=2),
            heavy=(HeavyValue(shown="xxx", share=0.5),),
            looks={"date": 0.5},
            examples=("9999-99-99",),
        ),
    ),
    item_bytes=Spread(count=3, p50=100),
    unstorable={"TooDeep": 1},
    indexes=(IndexFacts(name="a_1", keys=(("a", "1"), ("b", "-1")), unique=True, uses=3),),
    reads_s=0.5,
)


def finished(name: str = "users") -> FinishedCollection:
    missing = (MissingFact(source="$indexStats", adds="use", grant="grant"),)
    facts = replace(FACTS, name=name)
    return FinishedCollection(
        facts=facts, missing=missing, documents=3, bytes=300, server_bytes=9, seconds=1.5, yielded_s=0.5
    )


def test_finished_collections_come_back(tmp_path: Path) -> None:
    state = AnalysisStateFile(tmp_path / "new")
    state.begin(RUN, [finished()])
    state.keep(finished("orders"))
    assert state.read() == (RUN, [finished(), finished("orders")])


def test_calls_are_not_kept(tmp_path: Path) -> None:
    state = AnalysisStateFile(tmp_path)
    shape = QueryShape(collection="users", kind="find", equality=("name",))
    state.begin(RUN, [replace(finished(), facts=replace(FACTS, shapes=(shape,)))])
    found = state.read()
    assert found is not None
    assert found[1] == [finished()]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    state = AnalysisStateFile(tmp_path)
    state.begin(RUN, [finished(), finished("orders")])
    file = tmp_path / FILE
    file.write_text(file.read_text()[:-40])
    assert state.read() == (RUN, [finished()])


def test_what_is_no_state_file_is_nothing(tmp_path: Path) -> None:
    state = AnalysisStateFile(tmp_path)
    assert state.read() is None
    for content in ("", "{", "[]\n", '{"form": 99}\n', "\x00\xff"):
        (tmp_path / FILE).write_text(content)
        assert state.read() is None, content


def test_another_sample_or_server_is_another_analysis() -> None:
    assert RUN.same_as(replace(RUN, began="2027-01-01T00:00:00Z"))
    for other in (replace(RUN, documents=8), replace(RUN, server="MongoDB 7"), replace(RUN, collections=("a",))):
        assert not RUN.same_as(other)
