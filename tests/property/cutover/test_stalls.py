"""Two processes that change who leads, or put something right, each stopped before any of its requests: nothing acknowledged is
lost, nothing late lands, and fence and marker fit the mode in the end. Clients of the library and strangers write all the while,
freeze, and are cut off from the ledger; a request of any kind arrives twice. Each rule is broken once, and that is found."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from docferry.client.membership import Membership
from docferry.client.writes import confirm
from docferry.core.cutover import marker as markers
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.cutover.modes import ModeState
from docferry.errors import LeaseLost
from docferry.flows.cutover import to_dynamodb
from docferry.flows.fence import fence, watch
from docferry.flows.ledger import modes
from docferry.testing.fakes import FakeLeader, FakeLedger, FakeSink
from support.cutover.clients import Connected, Strangers
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

Place = tuple[int, int, int, tuple[int, int]]
EACH = 60
"""Pairs of places at which two processes stand still, of each case; beside all places of the first alone."""
MANY, CLIENTS = 300, 4
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


@pytest.fixture(autouse=True)
def nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "POLL_S", 0.0)


def run(
    case: str,
    first_at: int,
    second_at: int = 0,
    dies_after: int = 0,
    copied: tuple[int, int] = (0, 0),
    *,
    gated: bool = True,
    watched: bool = True,
    clients: bool = True,
) -> tuple[World, Process, Process]:
    begin, first_flows, second_flows = CASES[case]
    made = World(gated=gated)
    made.watched = watched
    mode = begin()
    made.become(mode, fenced=mode is not READS or first_flows[0] in (lifts, watches) or bool(first_at % 2))
    if clients:
        made.connected = [Connected(made, f"{case} {first_at} {second_at} {number}") for number in range(CLIENTS)]
        made.strangers = Strangers()
    first, second = Process(made, "first", first_at, dies_after, copied), Process(made, "second", second_at)
    first.begin(*first_flows)
    second.begin(*second_flows)
    first.end()
    second.end()
    return made, first, second


def places(case: str) -> tuple[int, int]:
    """How many requests each sends, undisturbed by the other."""
    made, first, second = run(case, 1)
    made.end_clients()
    return first.steps, second.steps


def explore(
    case: str, each: int = EACH, until: Callable[[str], bool] = lambda one: False, **world: Any
) -> dict[str, Place]:
    """What is bad, and where both stood still, how many requests later the first died, which of its requests arrived twice.

    It ends with the first that `until` says yes to."""
    undisturbed, alone, _ = run(case, 0)
    undisturbed.end_clients()
    _, second = places(case)
    chosen = random.Random(case)
    most = 2 * second + 10  # a process has more to do where it meets what another has left
    once = (0, 0)
    pairs: list[Place] = [(one, 0, 0, once) for one in range(1, alone.steps + 1)]
    pairs += [(one, 0, 1, once) for one in range(1, alone.steps + 1)]
    if "lift_fence" in alone.requests:  # what comes late here is worst: it has no condition
        lift = alone.requests.index("lift_fence") + 1
        pairs += [(lift, one, 4 * (one % 2), once) for one in range(1, second + 1)]
    for number in range(each):
        twice = (chosen.randint(1, alone.steps), chosen.randint(1, 2 * most)) if number % 2 else once
        pairs.append((chosen.randint(1, alone.steps), chosen.randint(1, most), chosen.choice((0, 0, 1, 2, 4)), twice))
    found: dict[str, Place] = {}
    for pair in pairs:
        made, _, _ = run(case, *pair, **world)
        for one in made.judge():
            found.setdefault(one, pair)
        if any(map(until, found)):
            break
    return found


@pytest.mark.parametrize("case", CASES)
def test_stalls_at_every_step_do_no_harm(case: str) -> None:
    assert explore(case) == {}


def test_cases_reach_what_they_are_about() -> None:
    """The leader is changed in them, by the one or the other."""
    made, _, second = run("a rollback that lifts, and there, back and there", 0, clients=False)
    assert second.error is None
    assert len(made.reigns) == 2
    assert made.judge() == set()


# --- each rule, broken on purpose ------------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


class BlindLeader(FakeLeader):
    def write(self, marker: Marker) -> Marker:
        self.stored = replace(marker, token=self.stored.token if self.stored else 0)
        return self.stored


def lift_is_not_looked_at_behind_it(patch: Patch) -> None:
    patch.setattr(fence, "put_right_behind_a_lift", lambda job: None)


def marker_is_written_without_condition(patch: Patch) -> None:
    patch.setattr(FakeLeader, "write", BlindLeader.write)


def marker_is_changed_behind_the_fence(patch: Patch) -> None:
    patch.setattr(to_dynamodb, "mark_neither", lambda job, record: None)


def cut_off_clients_look_before_the_write_alone(patch: Patch) -> None:
    patch.setattr(markers, "confirms", lambda found, known: True)


def gate_does_not_ask_for_the_token(patch: Patch) -> None:
    def any_token(sink: FakeSink) -> None:
        found = sink.leader.stored if sink.leader is not None else None
        if sink.token and (found is None or found.leader is not Leads.DYNAMODB):
            raise LeaseLost("not DynamoDB")

    patch.setattr(FakeSink, "_require_gate", any_token)


def lease_is_not_looked_at_behind_the_answer(patch: Patch) -> None:
    patch.setattr(Membership, "holds", lambda self, begun: True)


def lease_of_any_term_counts(patch: Patch) -> None:
    patch.setattr(Membership, "holds", lambda self, begun: time.monotonic() <= self._deadline)


def marker_counts_whatever_the_client_knew(patch: Patch) -> None:
    patch.setattr(confirm, "confirms", lambda found, known: found is not None and found.leader is Leads.MONGODB)


def strangers_are_not_looked_for(patch: Patch) -> None:
    patch.setattr(to_dynamodb, "require_quiet", lambda job, time, plan: None)
    patch.setattr(watch, "_raise_again", lambda job: False)


def lift_that_finds_the_fence_down_says_nothing(patch: Patch) -> None:
    patch.setattr(fence, "DOWN_BEFORE", "")


def ledger_takes_what_is_late(patch: Patch) -> None:
    patch.setattr(FakeLedger, "_require", lambda self, place, expect: None)


LIFTS, PUT_BACK = "a rollback that lifts, and the way there", "the way there, put back by another, who goes there"
RETURNS = "reverse replication, and the way back"
UNWATCHED: dict[str, Any] = {"watched": False}
RULES: dict[str, tuple[Callable[[Patch], None], str, str, dict[str, Any]]] = {
    "put_of_reverse_replication_without_a_gate": (lambda patch: None, RETURNS, "clobbered", {"gated": False}),
} | {
    one.__name__: (one, case, bad, world)
    for one, case, bad, world in (
        (lift_is_not_looked_at_behind_it, LIFTS, "unfit", UNWATCHED | {"clients": False}),
        (marker_is_written_without_condition, PUT_BACK, "unfit", UNWATCHED),
        (marker_is_changed_behind_the_fence, LIFTS, "lost", {}),
        (cut_off_clients_look_before_the_write_alone, LIFTS, "lost", {}),
        (gate_does_not_ask_for_the_token, RETURNS, "clobbered", {}),
        (lease_is_not_looked_at_behind_the_answer, LIFTS, "lost", {}),
        (lease_of_any_term_counts, LIFTS, "lost", {}),
        (marker_counts_whatever_the_client_knew, "a rollback that lifts, and there, back and there", "lost", {}),
        (strangers_are_not_looked_for, LIFTS, "unsaid", {}),
        (
            lift_that_finds_the_fence_down_says_nothing,
            "a rollback that lifts, and the way there and back",
            "unsaid",
            {},
        ),
        (ledger_takes_what_is_late, PUT_BACK, "", {}),
    )
}
"""How a rule is broken, in which case, and how what is bad then begins."""


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks, case, bad, world = RULES[rule]
    breaks(monkeypatch)
    found = explore(case, MANY, until=lambda one: one.startswith(bad), **world)
    assert any(one.startswith(bad) for one in found), found
