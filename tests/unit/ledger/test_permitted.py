"""Every flow in every mode: it runs, or is refused with why and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.cutover.permitted import Flow, refusal_of
from docferry.errors import LeaseHeld, PreflightFailed
from docferry.flows.ledger.modes import request_replication_yield, require_direction, require_permitted
from docferry.testing.fakes import FakeLedger

READS = ModeState(mode=Mode.DYNAMODB_READS, percent=100, epoch=3)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5)
STATES: Mapping[str, ModeState] = {
    "MONGO_ONLY": ModeState(),
    "DUAL_WRITE": ModeState(mode=Mode.DUAL_WRITE, percent=100, epoch=1),
    "DYNAMODB_READS": READS,
    "HOLD, there": READS.hold(Mode.DYNAMODB_ONLY, 2 * 10**12),
    "DYNAMODB_ONLY": LEADS,
    "HOLD, back": LEADS.hold(Mode.MONGO_ONLY, 2 * 10**12),
    "FINAL": ModeState(mode=Mode.FINAL, epoch=6),
}
MONGODB_LEADS = {"MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_READS"}
PERMITTED: Mapping[Flow, set[str]] = {
    Flow.LOAD: MONGODB_LEADS,
    Flow.REPAIR: MONGODB_LEADS,
    Flow.REPAIR_GUARDS: {"DYNAMODB_ONLY"},
    Flow.REPLAY: MONGODB_LEADS,
    Flow.REPLICATE: MONGODB_LEADS | {"HOLD, there"},
    Flow.REVERSE: {"DYNAMODB_ONLY", "HOLD, back"},
    Flow.VALIDATE: set(STATES) - {"FINAL"},
    Flow.MAKE_POINT: set(STATES) - {"HOLD, there", "HOLD, back"},
    Flow.RESTORE_OVER_LIVE: {"MONGO_ONLY", "FINAL"},
    Flow.DUAL_WRITE: MONGODB_LEADS,
    Flow.FLIP_READS: {"DUAL_WRITE", "DYNAMODB_READS"},
    Flow.STOP_MONGO_WRITES: {"DYNAMODB_READS"},
    Flow.ROLL_BACK: set(STATES) - {"MONGO_ONLY", "FINAL"},
    Flow.FINALIZE: {"DYNAMODB_ONLY"},
}


def ledger_in(state: ModeState) -> FakeLedger:
    ledger = FakeLedger()
    ledger.write(*MODE, state.to_body(), expect=None)
    return ledger


def test_the_table_has_every_flow() -> None:
    assert set(PERMITTED) == set(Flow)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("flow", Flow)
def test_each_flow_runs_in_each_mode_or_says_why_not(flow: Flow, name: str) -> None:
    state = STATES[name]
    found = refusal_of(flow, state)
    assert (found is None) is (name in PERMITTED[flow]), f"{flow} in {name}: {found}"
    if found is None:
        require_permitted(ledger_in(state), flow)
        return
    assert found.why
    with pytest.raises(PreflightFailed) as raised:
        require_permitted(ledger_in(state), flow)
    assert str(state) in str(raised.value)
    assert found.instead in str(raised.value)


@pytest.mark.parametrize("flow", [Flow.REPLICATE, Flow.REVERSE, Flow.LOAD, Flow.REPAIR])
def test_a_refusal_before_the_end_says_what_to_do_instead(flow: Flow) -> None:
    for name in set(STATES) - PERMITTED[flow] - {"FINAL"}:
        found: Any = refusal_of(flow, STATES[name])
        assert found.instead, f"{flow} in {name}"


def test_replication_makes_room_for_the_process_that_changes_the_leader() -> None:
    ledger = ledger_in(READS)
    request_replication_yield(ledger, "the switch", 60.0)
    with pytest.raises(LeaseHeld, match="the switch"):
        require_direction(ledger, Flow.REPLICATE, leading=False)
    require_direction(ledger, Flow.REPLICATE, leading=True)
