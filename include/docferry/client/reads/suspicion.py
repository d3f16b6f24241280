"""When a difference between the two databases is one, and not a change that is still on its way.

MongoDB's value at a path that differs has been the same since a time T. Replication says that it has applied everything before
a later time, then DynamoDB is looked at, and still has another value: that is a mismatch. Until replication is there, it is
late, however long that takes; and a value that changes again is as young as its last change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

NOTHING = Timestamp(0, 0)
LOOKS = 2
"""So often in a row: between reading MongoDB and DynamoDB a change may come that both get."""


@dataclass(slots=True)
class _Value:
    """What MongoDB has at a path, since when at the latest, and at how many looks replication had got there."""

    value: int
    since: Timestamp | None
    looks: int = 0


class Suspicion:
    """One read that differs, since `began` (monotonic seconds)."""

    def __init__(self, began: float, settle_s: float) -> None:
        self._began, self._settle_s = began, settle_s
        self._values: dict[Any, _Value] = {}

    def is_old(self, now: float) -> bool:
        """Whether it has stayed different for so long that it may be decided."""
        return now - self._began > self._settle_s

    def is_proved(self, values: Mapping[Any, int], now: float, at: Timestamp | None, applied: Timestamp | None) -> bool:
        """Whether one more look proves a mismatch. `values` are MongoDB's at the paths that differ, at its time `at`; `applied`
        is how far replication was before DynamoDB was looked at, None if it has never run: then nothing is on its way but
        dual writes, and a difference that stays is one."""
        known = {path: self._values.get(path) for path in values}
        self._values = {
            path: kept if (kept := known[path]) is not None and kept.value == value else _Value(value, at)
            for path, value in values.items()
        }
        if not self.is_old(now):
            return False
        for one in self._values.values():
            one.looks += _is_past(applied, one.since)
        return any(one.looks >= (1 if applied is None else LOOKS) for one in self._values.values())


def _is_past(applied: Timestamp | None, since: Timestamp | None) -> bool:
    return applied is None or since is None or applied > since
