"""Who may lead after whom, and which reads belong to a share."""

from __future__ import annotations

import pytest
from docferry.core.cutover.modes import Mode, ModeState, state_of
from docferry.errors import MoveRefused
from hypothesis import given
from hypothesis import strategies as st

READS_100 = ModeState(mode=Mode.DYNAMODB_READS, epoch=4, percent=100)


def test_way_there_and_back() -> None:
    state = ModeState()
    state = state.move(Mode.DUAL_WRITE, 10)
    assert (state.epoch, state.write_to_mongo, state.write_to_dynamodb, state.read_from_dynamodb) == (
        1,
        True,
        True,
        False,
    )
    assert state.validate_writes
    for percent in (1, 10, 50, 100):
        state = state.move(Mode.DYNAMODB_READS, percent)
        assert state.read_from_dynamodb
    held = state.hold(Mode.DYNAMODB_ONLY, deadline_ms=5)
    assert (held.write_to_mongo, held.write_to_dynamodb, held.leader, held.percent) == (
        False,
        False,
        Mode.DYNAMODB_READS,
        100,
    )
    leads = held.go_ahead(floor=7)
    assert (leads.mode, leads.floor, leads.write_to_mongo, leads.write_to_dynamodb) == (
        Mode.DYNAMODB_ONLY,
        7,
        False,
        True,
    )
    back = leads.hold(Mode.MONGO_ONLY, deadline_ms=9)
    assert back.leader is Mode.DYNAMODB_ONLY
    assert back.go_ahead(floor=0).mode is Mode.MONGO_ONLY
    assert back.go_ahead(floor=0).floor == 7  # versions never fall, whichever database leads
    assert leads.move(Mode.FINAL).mode is Mode.FINAL


def test_hold_goes_back_to_where_it_was() -> None:
    held = READS_100.hold(Mode.DYNAMODB_ONLY, deadline_ms=5)
    back = held.go_back()
    assert (back.mode, back.percent, back.epoch, back.behind, back.deadline_ms) == (
        Mode.DYNAMODB_READS,
        100,
        6,
        None,
        0,
    )


REFUSED = {
    "reads before dual writes": lambda: ModeState().move(Mode.DYNAMODB_READS, 10),
    "from DUAL_WRITE to DynamoDB's lead": lambda: ModeState(mode=Mode.DUAL_WRITE).hold(Mode.DYNAMODB_ONLY, 1),
    "with a part of the reads": lambda: ModeState(mode=Mode.DYNAMODB_READS, percent=50).hold(Mode.DYNAMODB_ONLY, 1),
    "no reads at all": lambda: READS_100.move(Mode.DYNAMODB_READS, 0),
    "more than all reads": lambda: READS_100.move(Mode.DYNAMODB_READS, 101),
    "around HOLD": lambda: READS_100.move(Mode.DYNAMODB_ONLY),
    "back without HOLD": lambda: ModeState(mode=Mode.DYNAMODB_ONLY).move(Mode.MONGO_ONLY),
    "out of HOLD by a move": lambda: READS_100.hold(Mode.DYNAMODB_ONLY, 1).move(Mode.DUAL_WRITE),
    "back where nothing is held": lambda: READS_100.go_back(),
    "ahead where nothing is held": lambda: READS_100.go_ahead(0),
    "anywhere from FINAL": lambda: ModeState(mode=Mode.FINAL).move(Mode.DUAL_WRITE),
    "HOLD from FINAL": lambda: ModeState(mode=Mode.FINAL).hold(Mode.MONGO_ONLY, 1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_move_that_is_none_is_refused_with_the_ways_there_are(what: str) -> None:
    with pytest.raises(MoveRefused):
        REFUSED[what]()


def test_refusal_names_the_ways() -> None:
    with pytest.raises(MoveRefused, match=r"from DYNAMODB_ONLY the ways are FINAL, MONGO_ONLY \(through HOLD\)"):
        ModeState(mode=Mode.DYNAMODB_ONLY).move(Mode.DUAL_WRITE)


@given(
    st.sampled_from(Mode),
    st.integers(0, 2**40),
    st.integers(0, 100),
    st.none() | st.sampled_from(Mode),
    st.integers(0, 2**88),
)
def test_state_survives_the_ledger(mode: Mode, epoch: int, percent: int, other: Mode | None, floor: int) -> None:
    state = ModeState(
        mode=mode, epoch=epoch, percent=percent, behind=other, ahead=other, deadline_ms=epoch, floor=floor
    )
    assert state_of(state.to_body()) == state


@given(st.text(min_size=1), st.integers(0, 100), st.integers(0, 100))
def test_key_once_chosen_stays_so_as_the_share_grows(key: str, one: int, other: int) -> None:
    less, more = sorted((one, other))
    if ModeState(percent=less).chosen(key):
        assert ModeState(percent=more).chosen(key)
    assert not ModeState(percent=0).chosen(key)
    assert ModeState(percent=100).chosen(key)


def test_share_of_keys_is_about_what_was_asked() -> None:
    chosen = sum(ModeState(percent=10).chosen(f"USER#{number}") for number in range(5_000))
    assert 400 < chosen < 600


@pytest.mark.parametrize(
    ("mode", "ways"),
    [
        (Mode.MONGO_ONLY, ()),
        (Mode.DUAL_WRITE, (Mode.MONGO_ONLY,)),
        (Mode.DYNAMODB_READS, (Mode.DUAL_WRITE, Mode.MONGO_ONLY)),
        (Mode.DYNAMODB_ONLY, (Mode.DUAL_WRITE, Mode.MONGO_ONLY)),
        (Mode.FINAL, ()),
    ],
)
def test_ways_back_end_where_mongodb_leads(mode: Mode, ways: tuple[Mode, ...]) -> None:
    assert ModeState(mode=mode).ways_back == ways
