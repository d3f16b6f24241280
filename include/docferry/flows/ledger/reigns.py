"""When DynamoDB has led. What it was given then is the truth, for validation, repair and purge, also after MongoDB leads again.

While DynamoDB leads the mode itself says since when (its `floor`). The way back records the end before MongoDB leads, so a
reign is never without one. A way back that fails afterwards leaves an end that the next way back replaces: until then the
mode says that this reign goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from docferry.core.mapping.items import Item
from docferry.core.versions import parse_version, version_in, version_text
from docferry.errors import ConditionFailed
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

REIGNS = "reigns"
"""The ledger's section: one record for each time that DynamoDB led, by its floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """One time that DynamoDB led: the application's versions of then are above `floor`, and not above `end`.

    `end` is the version of MongoDB's time when MongoDB was to lead again; None while DynamoDB leads.
    """

    floor: int
    end: int | None = None

    def __contains__(self, version: int) -> bool:
        return version > self.floor and (self.end is None or version <= self.end)


@dataclass(frozen=True, slots=True)
class Reigns:
    """All of them. `version in reigns`: an item of this version was written, or deleted, while DynamoDB led."""

    all: tuple[Reign, ...] = field(default=())

    def __contains__(self, version: int) -> bool:
        return any(version in one for one in self.all)

    def goes_on(self, version: int) -> bool:
        """Whether a version is of the time that DynamoDB leads, which is now."""
        return any(one.end is None and version in one for one in self.all)

    def bore(self, item: Item) -> bool:
        """Whether an item, or a tombstone, is what DynamoDB was given while it led."""
        return bool(self.all) and version_in(item) in self


def read_reigns(ledger: Ledger) -> Reigns:
    """Every reign of DynamoDB, the present one too."""
    mode = read_mode(ledger)
    floors = {one.floor: one for one in _recorded(ledger.list(REIGNS))}
    if mode.leader.dynamodb_leads:
        floors[mode.floor] = Reign(floor=mode.floor)
    return Reigns(tuple(floors[floor] for floor in sorted(floors)))


def record_reign(ledger: Ledger, floor: int, end: int) -> None:
    """DynamoDB leads no longer from version `end` on; asked before MongoDB leads, and again if that failed."""
    key = version_text(floor)
    while True:
        try:
            ledger.write(REIGNS, key, {"end": version_text(end), "at": now_ms()}, expect=ledger.read(REIGNS, key))
        except ConditionFailed:
            continue
        return


def _recorded(records: Iterable[Record]) -> Iterable[Reign]:
    return (Reign(floor=parse_version(one.key), end=parse_version(one.body["end"])) for one in records)
