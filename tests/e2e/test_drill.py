"""The promise: a live application is moved and moved back, and loses nothing, by a checker that shares no code with docferry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.embedded import EmbeddedStack
from replicating.rig import end
from serving.drill import KILLED, PROCESSES, drill, shop_for_drill

RUNS = int(os.environ.get("DOCFERRY_DRILL_RUNS", "1"))
"""`make soak` asks for 10."""
LONGEST_HOLD_S = 3.0
LONGEST_PAUSE_S = 3.0
LEAST_WRITES_PER_S = 50.0


@pytest.fixture
def own_stack() -> Iterator[EmbeddedStack]:
    """The write block is for a cluster that holds nothing else."""
    with EmbeddedStack() as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RUNS))
def test_drill_there_and_back_and_there_again_loses_nothing(
    own_stack: EmbeddedStack, tmp_path: Path, number: int
) -> None:
    rig = shop_for_drill(own_stack, tmp_path)
    try:
        drilled = drill(rig, own_stack, tmp_path)
    finally:
        end(rig)
    told, verdict = f"\n{drilled}", drilled.verdict
    print(told)
    assert verdict.counts == (0, 0, 0, 0), told
    assert verdict.killed == [KILLED]
    assert all(one.held_s < LONGEST_HOLD_S for one in drilled.switches), told
    assert all(one.instances == PROCESSES for one in drilled.switches[:-1]), told
    assert verdict.held_s, "no write was held"
    assert max(verdict.held_s) < LONGEST_HOLD_S, told
    assert max(verdict.pauses_s) < LONGEST_PAUSE_S, told
    assert verdict.requests["write"] / verdict.seconds >= LEAST_WRITES_PER_S, told
