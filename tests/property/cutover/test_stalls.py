"""Two processes that change who leads, or put something right, each stopped before any of its requests: nothing acknowledged is
lost, nothing late lands, and fence and marker fit the mode in the end. Each rule is broken once, and that is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from docferry.core.cutover import marker as markers
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.cutover.modes import ModeState
from docferry.errors import LeaseLost
from docferry.flows.cutover import to_dynamodb
from docferry.flows.fence import fence
from docferry.testing.fakes import FakeLeader, FakeSink
from support.cutover.stalls import (
    LEADS,
    READS,
    Flow,
    Process,
    World,
    back,
    backs_out,
    flips,
    held,
    lifts,
    replicates_back,
    there,
    watches,
    writes,
)

EACH = 100
"""Pairs of places at which two processes stand still, of each case; beside all places of the first alone."""
MANY = 300
CASES: dict[str, tuple[Callable[[], ModeState], Sequence[Flow], Sequence[Flow]]] = {
    "a rollback that lifts, and the way there": (lambda: READS, [lifts], [there]),
    "a rollback that lifts, and the way there and back": (lambda: READS, [lifts], [there, writes, back]),
    "a rollback that lifts, and there, back and there": (lambda: READS, [lifts], [there, writes, back, flips, there]),
    "two on the way there": (lambda: READS, [there], [there]),
    "the way there, put back by another, who goes there": (lambda: READS, [there], [backs_out, there]),
    "a watcher, and the way there": (lambda: READS, [watches], [there]),
    "two on the way back": (lambda: LEADS, [writes, back], [writes, back]),
    "the way back, put back by another, who goes back": (lambda: LEADS, [writes, back], [backs_out, writes, back]),
    "the way back, and back and there": (lambda: LEADS, [writes, back], [back, flips, there]),
    "a watcher, and the way back": (lambda: LEADS, [watches], [back]),
    "reverse replication, and the way back": (lambda: LEADS, [replicates_back], [writes, back]),
    "a dead hold put back, and put back and there": (held, [backs_out], [backs_out, there]),
}


def run(
    case: str, first_at: int, second_at: int = 0, dies_after: int = 0, **world: Any
) -> tuple[World, Process, Process]:
    begin, first_flows, second_flows = CASES[case]
    made = World(gated=world.pop("gated", True))
    made.watched = world.pop("watched", True)
    mode = begin()
    made.become(mode, fenced=True)
    first, second = Process(made, "first", first_at, dies_after), Process(made, "second", second_at)
    first.begin(*first_flows)
    second.begin(*second_flows)
    first.end()
    second.end()
    return made, first, second


def places(case: str) -> tuple[int, int]:
    """How many requests each sends, undisturbed by the other."""
    _, first, second = run(case, 1)
    return first.steps, second.steps


def explore(case: str, each: int = EACH, **world: Any) -> dict[str, tuple[int, int, int]]:
    """What is bad, and where both stood still, and how many requests later the first died."""
    _, alone, _ = run(case, 0)
    _, second = places(case)
    chosen = random.Random(case)
    most = 2 * second + 10  # a process has more to do where it meets what another has left
    pairs = [(one, 0, 0) for one in range(1, alone.steps + 1)]
    pairs += [(one, 0, 1) for one in range(1, alone.steps + 1)]
    for _ in range(each):
        pairs.append((chosen.randint(1, alone.steps), chosen.randint(1, most), chosen.choice((0, 0, 1, 2, 4))))
    found: dict[str, tuple[int, int, int]] = {}
    for pair in pairs:
        made, _, _ = run(case, *pair, **world)
        for one in made.judge():
            found.setdefault(one, pair)
    return found


@pytest.mark.parametrize("case", CASES)
def test_stalls_at_every_step_do_no_harm(case: str) -> None:
    assert explore(case) == {}


def test_cases_reach_what_they_are_about() -> None:
    """The leader is changed in them, by the one or the other."""
    made, _, second = run("a rollback that lifts, and there, back and there", 0)
    assert second.error is None
    assert len(made.reigns) == 2
    assert made.judge() == set()


# --- each rule, broken on purpose ------------------------------------------------------------------------------------


class BlindLeader(FakeLeader):
    def write(self, marker: Marker) -> Marker:
        self.stored = replace(marker, token=self.stored.token if self.stored else 0)
        return self.stored


def test_lift_that_is_not_looked_at_behind_it_and_nobody_watching_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "put_right_behind_a_lift", lambda job: None)
    found = explore("a rollback that lifts, and the way there", watched=False)
    assert any("others may write to MongoDB" in one for one in found)


def test_marker_that_is_written_without_condition_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLeader, "write", BlindLeader.write)
    found = explore("the way there, put back by another, who goes there", watched=False)
    assert any("the marker in docferry.leader says" in one for one in found)


def test_marker_that_is_changed_behind_the_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_dynamodb, "mark_neither", lambda job, record: None)
    assert any(one.startswith("lost") for one in explore("a rollback that lifts, and the way there", MANY))


def test_look_before_the_write_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markers, "confirms", lambda found, known: True)
    assert any(one.startswith("lost") for one in explore("a rollback that lifts, and the way there", MANY))


def test_put_of_reverse_replication_without_a_gate_is_found() -> None:
    found = explore("reverse replication, and the way back", gated=False)
    assert any(one.startswith("clobbered") for one in found)


def test_gate_that_does_not_ask_for_the_token_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_token(sink: FakeSink) -> None:
        found = sink.leader.stored if sink.leader is not None else None
        if sink.token and (found is None or found.leader is not Leads.DYNAMODB):
            raise LeaseLost("not DynamoDB")

    monkeypatch.setattr(FakeSink, "_require_gate", any_token)
    assert any(one.startswith("clobbered") for one in explore("reverse replication, and the way back", MANY))
