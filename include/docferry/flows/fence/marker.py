"""The marker in MongoDB follows the mode (core/cutover/marker.py says what it is)."""

from __future__ import annotations

from docferry.core.cutover.marker import COLLECTION, Leads, Marker, leader_by
from docferry.core.cutover.modes import Mode
from docferry.errors import MoveRefused
from docferry.flows.fence.raising import Never
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger.modes import mode_in, mode_record, recorded_mode
from docferry.ports.flows import Record

MARK_S = 10.0
"""How long writing the marker is tried again while MongoDB does not answer."""


def mark_leader(job: Job, for_s: float = MARK_S) -> bool:
    """Make the marker say what the mode says, and make it if there is none; whether it had to be changed. Idempotent.

    In HOLD the change of leader writes it itself, and nothing is done. Raises: StoreError, RetryExhausted.
    """
    record = mode_record(job.ledger)
    wanted = marker_by(record)
    if wanted.leader is Leads.NEITHER:
        return False
    found = retrying("read the marker of the leader", job.leader.read, Never(), for_s)
    if found is not None and (found.leader is wanted.leader or found.revision > wanted.revision):
        return False
    retrying("write the marker of the leader", lambda: job.leader.write(wanted), Never(), for_s)
    return True


def mark_neither(job: Job, held: Record) -> None:
    """In HOLD: neither leads, by the record of this hold.

    Raises: MoveRefused if the marker follows from a later change of mode; StoreError, RetryExhausted.
    """
    wanted = marker_by(held)
    found = retrying("write the marker of the leader", lambda: job.leader.write(wanted), job.stop, MARK_S)
    if (found.revision, found.leader) != (wanted.revision, Leads.NEITHER):
        raise MoveRefused(
            f"the mode has changed meanwhile: {COLLECTION} says {found.leader} by epoch {found.epoch}, and this hold is of epoch "
            f"{wanted.epoch}"
        )


def marker_by(record: Record) -> Marker:
    """The marker that follows from a record of the mode."""
    mode = mode_in(record)
    return Marker(revision=record.revision, epoch=mode.epoch, leader=leader_by(mode))


def marker_misfit(job: Job) -> str:
    """In what the marker does not fit the mode, in words; '' if it does. Reads only. In HOLD nothing is said, nor before a mode
    was ever recorded."""
    record = recorded_mode(job.ledger)
    if record is None or (mode := mode_in(record)).mode is Mode.HOLD:
        return ""
    found, leads = job.leader.read(), leader_by(mode)
    if found is None:
        return f"there is no marker in {COLLECTION}: a process that is cut off from the ledger refuses to write"
    if found.revision > record.revision:
        return (
            f"the marker in {COLLECTION} is of a later mode (epoch {found.epoch}, {found.leader}) than the ledger's (epoch "
            f"{mode.epoch}): was the ledger restored to an earlier time? If so, remove the migration's documents there"
        )
    if found.leader is not leads:
        return f"the marker in {COLLECTION} says {found.leader}, and by the mode it is {leads}"
    return ""
