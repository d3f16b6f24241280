"""The journal in memory."""

from __future__ import annotations

from collections.abc import Sequence

from docferry.core.cutover.journal import Entry, LaneName
from docferry.testing.fakes.faults import Faults


class FakeJournal:
    """Journal in memory: lane -> slot -> entry. Transactions of a fake client put into `entries` themselves."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.entries: dict[LaneName, dict[int, Entry]] = {}

    def __repr__(self) -> str:
        return f"FakeJournal({sum(map(len, self.entries.values()))} entries)"

    def put(self, lane: LaneName, slot: int, entry: Entry) -> Entry | None:
        self.faults.before()
        there = self.entries.setdefault(lane, {}).setdefault(slot, entry)
        self.faults.after()
        return None if there == entry else there

    def read(self, lane: LaneName, after: int, limit: int) -> Sequence[tuple[int, Entry]]:
        self.faults.before()
        found = sorted((slot, entry) for slot, entry in self.entries.get(lane, {}).items() if slot > after)
        return found[:limit]
