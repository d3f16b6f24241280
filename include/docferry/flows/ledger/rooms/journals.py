"""What is proved of the application's journals: a fact, whichever process found it, kept for the one that proves next."""

from __future__ import annotations

from dataclasses import dataclass, field

from docferry.errors import ConditionFailed
from docferry.ports.flows import Ledger

PROVED = "journals"
"""The ledger's section: a record for each instance."""


@dataclass(slots=True, kw_only=True)
class ProvedLanes:
    """Of one instance. `slots`: by lane, the last slot that is proved; `closed`: there is nothing behind, and never will be."""

    slots: list[int] = field(default_factory=list)
    closed: bool = False

    def of(self, lane: int) -> int:
        return self.slots[lane] if lane < len(self.slots) else 0

    def advance(self, lane: int, slot: int) -> None:
        self.slots += [0] * (lane + 1 - len(self.slots))
        self.slots[lane] = max(slot, self.slots[lane])


def read_proved(ledger: Ledger) -> dict[str, ProvedLanes]:
    """By instance."""
    return {
        one.key: ProvedLanes(slots=[int(slot) for slot in one.body["slots"]], closed=bool(one.body["closed"]))
        for one in ledger.list(PROVED)
    }


def save_proved(ledger: Ledger, instance: str, proved: ProvedLanes) -> None:
    """Of two that prove at once, the further one counts; `proved` is advanced to it."""
    while True:
        record = ledger.read(PROVED, instance)
        for lane, slot in enumerate(record.body["slots"] if record is not None else ()):
            proved.advance(lane, int(slot))
        proved.closed = proved.closed or (record is not None and bool(record.body["closed"]))
        try:
            ledger.write(PROVED, instance, {"slots": list(proved.slots), "closed": proved.closed}, expect=record)
        except ConditionFailed:
            continue
        return
