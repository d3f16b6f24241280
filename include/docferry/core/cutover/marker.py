"""The marker in MongoDB: who leads, as MongoDB itself tells a process that cannot ask the ledger. Pure.

It is a consequence of the mode, and is written on condition that what is stored is of an earlier revision: a late writer
changes nothing. Beside it stand the gates, which reverse replication changes with each of its writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from docferry.core.cutover.modes import Mode, ModeState

COLLECTION = "docferry.leader"
"""In the source database: a user who may read the application's collections may read it. It is left out of everything else."""
GATES = 32
"""Reverse replication writes through so many documents, so that its transactions rarely wait for each other."""


class Leads(StrEnum):
    """Who leads, as the marker says it."""

    MONGODB = "mongodb"
    NEITHER = "none"
    """The leader is being changed."""
    DYNAMODB = "dynamodb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """`revision` and `epoch` are those of the mode's record that it follows from. A revision rises through all ledgers: a ledger
    that is made anew begins above an earlier one. `token` is the highest of any reverse replicator's."""

    revision: int
    epoch: int
    leader: Leads
    token: int = 0


def confirms(found: Marker | None, known: int) -> bool:
    """Whether a marker that was read behind a write to MongoDB says that MongoDB led when it was made: `known` is the revision of
    the mode that was known as it began."""
    return found is not None and found.leader is Leads.MONGODB and found.revision <= known


def leader_by(mode: ModeState) -> Leads:
    """Who leads by a mode. In HOLD it is neither once MongoDB, whichever way it goes, holds what it is to hold."""
    if mode.mode is Mode.HOLD:
        return Leads.NEITHER
    return Leads.DYNAMODB if mode.mode.dynamodb_leads else Leads.MONGODB
