"""The demo's verdict: every number adds up, and whichever does not is named."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from demo.counts import StreamCounts
from demo.report import DemoReport, InMotion, RampStep, Replicated, Row
from demo.traffic import TrafficReport
from docferry.flows.cutover.flip import FlipReport
from docferry.flows.cutover.flip_evidence import ReadCounts
from docferry.rehearsal.shop import CollectionCounts

ROW = Row(
    collection="users", read=100, written=97, superseded=1, dead=2, items=240, rate=50.0, seconds=2.0,
    documents_in_mongodb=103, documents_compared=103, items_in_dynamodb=250, items_expected=250, letters=1, unstorable=1,
    mismatches=0, extra=0, pending=0,
)  # fmt: skip
REPLICATED = Replicated(
    events=40, written=36, superseded=3, dead=1, passed=0, rate=12.0, largest_lag_s=20, lag_s=0
)  # fmt: skip
STREAM = StreamCounts(events=52, after_position=40, by_phase={"before": 12, "during": 40})
TRAFFIC = TrafficReport(
    operations={"insert_one": 50}, documents_changed=52, failures={}, unknown=0, seconds=5.0, rate_reached=10.0
)
SEEN = InMotion(documents=100, items=240, mismatches=0, pending=0, rechecked=7, generations=3)


def problems_of(**changes: Any) -> list[str]:
    parts: dict[str, Any] = {
        "rows": [ROW],
        "replicated": REPLICATED,
        "stream": STREAM,
        "traffic": TRAFFIC,
        "in_motion": SEEN,
    }
    report = DemoReport(users=100, rate=10.0, **(parts | changes))
    report.judge()
    assert report.to_dict()["ok"] is not bool(report.problems)
    assert len(report.tables()) == 2
    return report.problems


def test_nothing_is_wrong_if_all_adds_up() -> None:
    assert problems_of() == []


@pytest.mark.parametrize(
    "name", [one.name for one in fields(Row) if one.name not in ("collection", "rate", "seconds", "items")]
)
def test_each_number_of_a_collection_counts(name: str) -> None:
    (problem,) = problems_of(rows=[replace(ROW, **{name: getattr(ROW, name) + 1})])
    assert problem.startswith("users: ")


@pytest.mark.parametrize("name", ["events", "written", "superseded", "dead", "passed", "lag_s"])
def test_each_number_of_replication_counts(name: str) -> None:
    assert problems_of(replicated=replace(REPLICATED, **{name: getattr(REPLICATED, name) + 1}))


def test_each_change_in_mongodb_must_be_known_to_replication_and_to_the_application() -> None:
    assert problems_of(stream=replace(STREAM, after_position=41)) == ["replicate: 40 events, expected 41"]
    assert problems_of(stream=replace(STREAM, events=53)) == ["traffic: 52 documents changed, expected 53"]
    assert problems_of(traffic=None)
    cut_off = replace(TRAFFIC, unknown=1)
    assert problems_of(stream=replace(STREAM, events=53), traffic=cut_off) == []


def test_a_phase_in_which_nothing_was_written_proves_nothing() -> None:
    stream = replace(STREAM, by_phase={"before": 52, "during": 0})
    assert problems_of(stream=stream) == ["nothing was written during: during"]


@pytest.mark.parametrize("name", ["mismatches", "pending"])
def test_validate_in_motion_must_find_nothing(name: str) -> None:
    assert problems_of(in_motion=replace(SEEN, **{name: 1})) == [f"validate in motion: 1 {name}, expected 0"]


def test_at_rest_the_load_must_be_all_of_the_shop() -> None:
    row = replace(ROW, documents_in_mongodb=100)
    shop = CollectionCounts(documents=100, items=240, unstorable=2)
    assert list(row.problems_at_rest(shop)) == []
    for name in ("documents", "items", "unstorable"):
        assert list(row.problems_at_rest(replace(shop, **{name: getattr(shop, name) + 1})))


def test_a_step_of_the_ramp_is_read_from_what_the_flip_returned() -> None:
    flipped = FlipReport(mode="DYNAMODB_READS (10 %)", epoch=3, soaked_s=4.0, seen=ReadCounts(served=7, compared=5))
    step = RampStep.of(10, flipped.to_dict())
    assert (step.percent, step.soaked_s, step.served, step.compared) == (10, 4.0, 7, 5)
