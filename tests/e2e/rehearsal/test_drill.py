"""The promise: a live application is moved and moved back, and loses nothing, by a checker that shares no code with docferry."""

from __future__ import annotations

import os

import pytest
from docferry.rehearsal.drill import PROCESSES, RAMP, drill

pytestmark = pytest.mark.alone

RUNS = int(os.environ.get("DOCFERRY_DRILL_RUNS", "1"))
"""`make soak` asks for 10."""
SHARES = RAMP if RUNS > 1 else RAMP[-1:]
"""Of the reads, one after the other."""
LONGEST_HOLD_S = 3.0
LONGEST_PAUSE_S = 3.0
LEAST_WRITES_PER_S = 50.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(RUNS))
def test_drill_there_and_back_and_there_again_loses_nothing(number: int) -> None:
    report = drill(print, ramp=SHARES)
    told, verdict = f"\n{report.render()}", report.verdict
    print(told)
    assert report.ok, told
    assert len(verdict.killed) == 1
    assert [one["after"] for one in report.switches] == ["DYNAMODB_ONLY", "MONGO_ONLY", "DYNAMODB_ONLY", "MONGO_ONLY"]
    assert all(one["instances"] == PROCESSES for one in report.switches[:-1]), told
    assert all(one["held_s"] < LONGEST_HOLD_S for one in report.switches), told
    assert verdict.held_s, "no write was held"
    assert max(verdict.held_s) < LONGEST_HOLD_S, told
    assert max(verdict.pauses_s) < LONGEST_PAUSE_S, told
    assert report.writes_per_s >= LEAST_WRITES_PER_S, told
