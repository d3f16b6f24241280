"""Which flow may run in which mode, and what to do instead. Pure; the flows ask `flows.ledger.modes.require_permitted`.

In HOLD the row's entry for HOLD counts, and where it has none that of the mode behind it: a change of leader runs the
replication of the leader that it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import MoveRefused


class Flow(StrEnum):
    """What is refused in some mode, by the words that the refusal begins with."""

    LOAD = "the load"
    REPAIR = "repair"
    REPAIR_GUARDS = "repair of guards"
    REPLAY = "replaying dead letters"
    REPLICATE = "replication"
    REVERSE = "reverse replication"
    VALIDATE = "validation"
    MAKE_POINT = "the rollback point"
    RESTORE_OVER_LIVE = "restoring over live data"
    DUAL_WRITE = "dual writes"
    FLIP_READS = "reads from DynamoDB"
    STOP_MONGO_WRITES = "DynamoDB as the leader"
    ROLL_BACK = "the rollback"
    FINALIZE = "the end of the way back"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a flow may not run now, and what to do instead ('' if there is nothing)."""

    why: str
    instead: str = ""


_BEING_CHANGED = Refusal("the leader is being changed", "wait for it, or for its deadline")
_OVER = Refusal("the migration is at its end (FINAL): nothing is carried from MongoDB any more")
_LEADS = Refusal(
    "DynamoDB leads, and this would write to it what MongoDB holds",
    "docferry reverse corrects MongoDB; docferry health counts its dead letters",
)
_FORWARD = {Mode.HOLD: _BEING_CHANGED, Mode.DYNAMODB_ONLY: _LEADS, Mode.FINAL: _OVER}
"""Whatever writes to DynamoDB what MongoDB holds: by its version it would win over what the application has written since."""
_MENDED = Refusal("MongoDB leads", "docferry repair")
_STOP_FIRST = "go to MONGO_ONLY first (docferry rollback), and stop the application"
_USED = Refusal("the application writes to both databases, and MongoDB leads", _STOP_FIRST)
_TO_REVERSE = Refusal("MongoDB leads", "docferry replicate")

REFUSED: Mapping[Flow, Mapping[Mode, Refusal]] = {
    Flow.LOAD: _FORWARD,
    Flow.REPAIR: _FORWARD,
    Flow.REPAIR_GUARDS: {
        Mode.MONGO_ONLY: _MENDED,
        Mode.DUAL_WRITE: _MENDED,
        Mode.DYNAMODB_READS: _MENDED,
        Mode.HOLD: _BEING_CHANGED,
        Mode.FINAL: _OVER,
    },
    Flow.REPLAY: _FORWARD,
    # What one direction writes shows in the stream that the other one follows.
    Flow.REPLICATE: {
        Mode.DYNAMODB_ONLY: Refusal("DynamoDB leads", "docferry reverse"),
        Mode.FINAL: Refusal("nothing is replicated any more"),
    },
    Flow.REVERSE: {
        Mode.MONGO_ONLY: _TO_REVERSE,
        Mode.DUAL_WRITE: _TO_REVERSE,
        Mode.DYNAMODB_READS: _TO_REVERSE,
        Mode.FINAL: Refusal("nothing is replicated any more"),
    },
    Flow.VALIDATE: {Mode.FINAL: Refusal("MongoDB is not kept up to date any more, so there is nothing to compare")},
    Flow.MAKE_POINT: {Mode.HOLD: Refusal("the leader is being changed", "wait until the leader has been changed")},
    # In MONGO_ONLY the application can be stopped; in FINAL none uses MongoDB.
    Flow.RESTORE_OVER_LIVE: {
        Mode.DUAL_WRITE: _USED,
        Mode.DYNAMODB_READS: _USED,
        Mode.HOLD: Refusal("the leader is being changed", _STOP_FIRST),
        Mode.DYNAMODB_ONLY: Refusal(
            "MongoDB follows DynamoDB, and a rollback counts on its being complete", _STOP_FIRST
        ),
    },
}

_MOVES: Mapping[Flow, Callable[[ModeState], object]] = {
    Flow.DUAL_WRITE: lambda state: state.move(Mode.DUAL_WRITE),
    Flow.FLIP_READS: lambda state: state.move(Mode.DYNAMODB_READS, 100),
    Flow.STOP_MONGO_WRITES: lambda state: state.hold(Mode.DYNAMODB_ONLY, 0),
    Flow.FINALIZE: lambda state: state.move(Mode.FINAL),
    Flow.ROLL_BACK: lambda state: _way_back(state),
}
"""The flows that change the mode: `ModeState` itself says which changes there are."""


def refusal_of(flow: Flow, state: ModeState) -> Refusal | None:
    """Why `flow` may not run in this mode; None if it may."""
    if flow in _MOVES:
        try:
            _MOVES[flow](state)
        except MoveRefused as error:
            return Refusal(str(error))
        return None
    row = REFUSED[flow]
    return row.get(state.mode) or row.get(state.leader)


def _way_back(state: ModeState) -> None:
    if not state.ways_back and state.mode is not Mode.HOLD:
        raise MoveRefused(f"from {state} there is no way back")
