"""Whether replication is there, as a phase sees it."""

from __future__ import annotations

from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.flows.cutover.reasons import lacking_replication
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import FLIP_LAG_S, SEEN_S
from docferry.ports.flows import StreamPosition
from docferry.testing.fakes import FakeLedger


def lacking(age_s: float = 0.0, **changes: Any) -> list[str]:
    ledger = FakeLedger()
    position = StreamPosition(time=Timestamp(1, 1), token={"_data": "00"}, scope="")
    body = position_body(position) | {"owner": "one", "at": now_ms() - int(age_s * 1000), "lag_s": 0, "ended": ""}
    ledger.write(*REPLICATION, body | changes, expect=None)
    return [one.what for one in lacking_replication(ledger)]


@pytest.mark.parametrize(
    "gap", [{"owner": ""}, {"owner": "one"}, {"owner": "one", "ended": "an end that was mended since"}]
)
def test_a_replicator_that_has_just_noted_its_position_is_there_between_two_runs_too(gap: dict[str, Any]) -> None:
    assert lacking(1.0, **gap) == []


def test_one_that_has_ended_by_an_error_is_not_there_from_then_on() -> None:
    assert lacking(1.0, owner="", ended="the stream came to a drop") == [
        "does not run; its last run ended with: the stream came to a drop"
    ]


def test_one_that_has_not_noted_its_position_for_long_is_not_there() -> None:
    assert lacking(SEEN_S + 1) == ["does not run"]


def test_lag_past_the_bound_is_told() -> None:
    assert lacking(0.0, lag_s=int(FLIP_LAG_S)) == []
    assert lacking(0.0, lag_s=int(FLIP_LAG_S) + 1) == ["lags 61 s"]
    assert lacking(0.0, lag_s=-1) == ["does not know how far it is behind"]
