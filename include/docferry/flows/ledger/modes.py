"""The mode in the ledger, and the application's processes that follow it.

Every change is conditional on the state that was read, and is kept in the section `moves`: who, when, why. `core.cutover.modes`
says which changes there are; `flows.cutover` says what must be true before one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.cutover.instances import INSTANCES, Instance, instance_of
from docferry.core.cutover.modes import MODE, MOVES, Mode, ModeState, state_of
from docferry.core.cutover.permitted import Flow, refusal_of
from docferry.errors import ConditionFailed, LeaseHeld, MoveRefused, PreflightFailed, Problem
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Identity, Ledger, Record, StopSignal

CLOCKS_S = 2.0
"""By so much an instance's clock may be ahead of ours: its lease is taken to end so much later."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChange:
    """One change of the mode, as it is remembered."""

    epoch: int
    before: str
    after: str
    by: str
    why: str
    at_ms: int


def mode_record(ledger: Ledger) -> Record:
    """The record of the mode; made, as MONGO_ONLY, where there is none."""
    while True:
        found = ledger.read(*MODE)
        if found is not None:
            return found
        _require_unmoved(ledger)
        try:
            return ledger.write(*MODE, ModeState().to_body(), expect=None)
        except ConditionFailed:
            continue


def begin_in(ledger: Ledger, state: ModeState) -> None:
    """The mode of a ledger that has none, as in a trial of the client. Raises ConditionFailed where there is one."""
    ledger.write(*MODE, state.to_body(), expect=None)


def recorded_mode(ledger: Ledger) -> Record | None:
    """The record of the mode, if any process has made it; reads only."""
    return ledger.read(*MODE)


def read_mode(ledger: Ledger) -> ModeState:
    """The mode of now; reads only."""
    found = recorded_mode(ledger)
    if found is None:
        _require_unmoved(ledger)
    return mode_in(found) if found else ModeState()


def _require_unmoved(ledger: Ledger) -> None:
    """Where there is no record of the mode: it was never changed. Raises PreflightFailed if it was, and the record is gone."""
    if moves := list_moves(ledger):
        what = f"is gone, though the mode was changed {len(moves)} time(s), and is {moves[-1].after} (epoch {moves[-1].epoch})"
        advice = "restore the ledger's table to a time before (point-in-time recovery); until then nothing may change the mode"
        raise PreflightFailed("the ledger", [Problem(where="the record of the mode", what=what, suggestion=advice)])


def mode_in(record: Record) -> ModeState:
    """What the mode's record says."""
    return state_of(record.body)


def change_mode(ledger: Ledger, before: Record, after: ModeState, identity: Identity, why: str) -> Record:
    """Make `after` the mode, if it is still the one that was read; its line in the history is written with it, in one
    transaction: there is never one without the other.

    Raises: MoveRefused, if another process has changed it.
    """
    was = mode_in(before)
    body = {"before": str(was), "after": str(after), "by": identity.name, "why": why, "at": now_ms()}
    move = Record(MOVES, f"{after.epoch:012d}", 0, body)
    try:
        return ledger.write(*MODE, after.to_body(), expect=before, beside=[move])
    except ConditionFailed as error:
        now = read_mode(ledger)
        raise MoveRefused(f"the mode has changed meanwhile: it was {was}, and is {now}") from error


def list_moves(ledger: Ledger) -> list[ModeChange]:
    """All changes of the mode, the first one first."""
    return [
        ModeChange(
            epoch=int(one.key),
            before=one.body["before"],
            after=one.body["after"],
            by=one.body["by"],
            why=one.body["why"],
            at_ms=int(one.body["at"]),
        )
        for one in ledger.list(MOVES)
    ]


def dynamodb_has_led_s(ledger: Ledger) -> float:
    """For how long DynamoDB has led on end, in seconds; 0 if it does not."""
    moves = list_moves(ledger)
    if read_mode(ledger).leader is not Mode.DYNAMODB_ONLY or not moves:
        return 0.0
    return max(0.001, (now_ms() - moves[-1].at_ms) / 1000)


# --- room for a process that changes the leader-----------------------------------------------------------------------

ROOM = ("replication", "room")
"""Where a process asks the replicator, of either direction, to make room for a while."""


def request_replication_yield(ledger: Ledger, by: str, for_s: float) -> None:
    """Ask the replicator to end, and others not to begin, for so many seconds; 0 takes it back."""
    body = {"by": by, "until": now_ms() + int(for_s * 1000)}
    while True:
        try:
            ledger.write(*ROOM, body, expect=ledger.read(*ROOM))
        except ConditionFailed:
            continue
        return


def replication_yield_request(ledger: Ledger) -> LeaseHeld | None:
    """The process that is about to change the leader and replicates meanwhile, as the error for all others; None without one."""
    asked = ledger.read(*ROOM)
    left_s = (int(asked.body["until"]) - now_ms()) / 1000 if asked is not None else 0.0
    return LeaseHeld("replication", str(asked.body["by"]), left_s) if asked is not None and left_s > 0 else None


def require_permitted(ledger: Ledger, flow: Flow, what: str = "") -> None:
    """Raises PreflightFailed, if `core.cutover.permitted` refuses the flow in the mode of now. `what` names it more closely.

    Whatever writes to DynamoDB beside replication says so in the ledger first, and asks here then; what changes the leader says
    so first, and looks then for who writes: one sees the other.
    """
    if (found := not_permitted(read_mode(ledger), flow)) is not None:
        raise PreflightFailed(what or flow, [found])


def not_permitted(mode: ModeState, flow: Flow) -> Problem | None:
    """The refusal, as a problem beside others; None if the flow may run."""
    found = refusal_of(flow, mode)
    return Problem(where="mode", what=f"is {mode}: {found.why}", suggestion=found.instead) if found else None


def require_direction(ledger: Ledger, flow: Flow, *, leading: bool) -> None:
    """Replication of the direction that the leader gives, by the process whose turn it is: `leading` is what changes the leader.

    Raises: PreflightFailed; LeaseHeld while another process changes the leader.
    """
    require_permitted(ledger, flow)
    if not leading and (other := replication_yield_request(ledger)):
        raise other


# --- instances -------------------------------------------------------------------------------------------------------


def instance_in(record: Record) -> Instance:
    """What an instance's record says."""
    return instance_of(record.key, record.body)


def crowd_in(record: Record | None) -> int:
    """How many processes lived when a process counted last; 0 if no process has."""
    return int(record.body["live"]) if record is not None else 0


def list_instances(ledger: Ledger) -> list[Instance]:
    """All processes of the application that have registered and not been cleared away."""
    return [instance_in(one) for one in ledger.list(INSTANCES)]


def is_one_of(record: Record, bodies: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the record says what one of these says: it is that write, whose answer was lost."""
    return any(record.body == body for body in bodies)


def strike_off(ledger: Ledger, id: str, unless: Callable[[Instance], bool] = lambda one: False) -> Instance | None:
    """The instance may write no more: as its record says it then, or as it is if `unless` leaves it. None: it has no record."""
    while (record := ledger.read(INSTANCES, id)) is not None:
        one = instance_in(record)
        if one.struck or unless(one):
            return one
        try:
            ledger.write(INSTANCES, id, {**record.body, "struck": True}, expect=record)
        except ConditionFailed:
            continue  # it has spoken meanwhile
    return None


def live_instances(ledger: Ledger, identity: Identity) -> list[Instance]:
    """Those that may still write: neither ended, nor proved dead, nor with a lease that has run out."""
    now = now_ms() - int(CLOCKS_S * 1000)
    return [one for one in list_instances(ledger) if one.is_live(now) and not identity.ended(one.mark)]


def unacknowledged(instances: Sequence[Instance], epoch: int) -> list[Instance]:
    """Those that may have writes of an earlier epoch in flight."""
    return [one for one in instances if one.epoch < epoch]


def wait_for_acknowledgements(
    ledger: Ledger, identity: Identity, epoch: int, until: float, stop: StopSignal
) -> Sequence[Instance]:
    """Wait until every live instance has acknowledged `epoch`, or monotonic time `until`; those that have not are returned."""
    while True:
        left = unacknowledged(live_instances(ledger, identity), epoch)
        if not left or time.monotonic() > until or stop.is_set():
            return left
        time.sleep(POLL_S)


def describe_instance(one: Instance) -> dict[str, Any]:
    """For people and machines: no key, no value."""
    return {
        "id": one.id,
        "name": one.name,
        "mode": one.mode,
        "epoch": one.epoch,
        "live": one.is_live(now_ms()),
        "seen_s_ago": max(0.0, (now_ms() - one.beat_ms) / 1000),
        "unserved": dict(one.unserved),
        "mismatches": one.counts.get("shadow.mismatch", 0),
    }
