"""What the watch keeps from going on: a change of leader, and the end, come behind it, or with a recorded waiver."""

from __future__ import annotations

from collections.abc import Sequence

from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import Problem
from docferry.flows.ledger.rooms.strays import list_strays
from docferry.flows.ledger.rooms.watch import Old, Watch, read_watch
from docferry.ports.flows import Ledger

WATCH = "watch"
"""Waived: the rest of the watch, by a person who knows that nothing writes to the database that led before."""
STRAYS = "strays"
"""Waived, in an emergency: stray writes that are not settled."""


def watch_in_mode(ledger: Ledger, mode: ModeState) -> tuple[Old, Watch | None]:
    """Which database is to be watched in this mode, and its watch; None if there is none of this time."""
    if mode.leader.dynamodb_leads:
        watch = read_watch(ledger, Old.MONGODB)
        return Old.MONGODB, watch if watch is not None and watch.floor == mode.floor else None
    return Old.DYNAMODB, read_watch(ledger, Old.DYNAMODB)


def lacking_watch(ledger: Ledger, mode: ModeState, waived: Sequence[str] = ()) -> list[Problem]:
    """Why the watch of the database that led before is not over in this mode. Raises StoreError."""
    if WATCH in waived:
        return []
    old, watch = watch_in_mode(ledger, mode)
    if watch is None and mode.leader is not Mode.DYNAMODB_ONLY:
        return []  # DynamoDB has never led
    replicator = "docferry reverse" if old is Old.MONGODB else "docferry replicate"
    advice = f"keep `{replicator}` running; or, if nothing writes there for sure, --waive {WATCH}, which is recorded"
    if watch is None:
        what = f"{old.label} has not been watched since it stopped leading"
        return [Problem(where="watch", what=what, suggestion=advice)]
    if not watch.is_open:
        return []
    what = f"{old.label} is to be watched for {watch.left_s / 60:.1f} min more: a late write may still reach it"
    return [Problem(where="watch", what=what, suggestion=advice)]


def unsettled_strays(ledger: Ledger, waived: Sequence[str] = ()) -> list[Problem]:
    """The stray writes that are not settled. Raises StoreError."""
    if STRAYS in waived:
        return []
    found = list_strays(ledger)
    if not found:
        return []
    what = f"{len(found)} write(s) reached a database after it stopped leading, such as the {found[0]}"
    advice = "docferry strays: look at both copies, then settle each"
    return [Problem(where="strays", what=what, suggestion=advice)]
