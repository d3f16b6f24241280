"""Which database leads, and who writes and reads where (docs/architecture.md, "Modes"). Pure; the ledger keeps one `ModeState`.

| mode | application writes | application reads | replication |
| --- | --- | --- | --- |
| MONGO_ONLY | MongoDB | MongoDB | forward, once loaded |
| DUAL_WRITE | MongoDB, then DynamoDB | MongoDB; a share also from DynamoDB, and compared | forward |
| DYNAMODB_READS | MongoDB, then DynamoDB | a share from DynamoDB, falling back to MongoDB | forward |
| HOLD | wait | as before | draining |
| DYNAMODB_ONLY | DynamoDB | DynamoDB | reverse |
| FINAL | DynamoDB | DynamoDB | none |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from docferry.core.cutover.journal import JOURNAL
from docferry.errors import MoveRefused

MODE = ("mode", "all")
"""The ledger's section and key of the state: one cutover group."""
CROWD = ("mode", "crowd")
"""Where replication notes how many processes follow the mode."""
REQUIRES = "requires"
"""What a reader of the record must be able to do; the record is of schema 2 then, which older docferrys do not read."""
MOVES = "moves"
"""The ledger's section of all changes of the mode."""


class Mode(StrEnum):
    """Who leads, and where reads and writes go."""

    MONGO_ONLY = "MONGO_ONLY"
    DUAL_WRITE = "DUAL_WRITE"
    DYNAMODB_READS = "DYNAMODB_READS"
    HOLD = "HOLD"
    DYNAMODB_ONLY = "DYNAMODB_ONLY"
    FINAL = "FINAL"

    dynamodb_leads: bool
    """A plain attribute, as those of `ModeState` are: each call of the application asks for it."""


for _mode in Mode:
    _mode.dynamodb_leads = _mode in (Mode.DYNAMODB_ONLY, Mode.FINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """The mode at one moment. Every change raises `epoch` by one.

    `percent`: in DUAL_WRITE the share of reads that are compared, in DYNAMODB_READS that of reads from DynamoDB.
    In HOLD `behind` is where everything goes back to at `deadline_ms` (milliseconds since 1970), `ahead` where it is going.
    `floor`: no write of a leading DynamoDB has a version below it; it is the time of the fence.
    `journal`: each write of a leading DynamoDB has an entry in its process's journal (`core.cutover.journal`).
    """

    mode: Mode = Mode.MONGO_ONLY
    epoch: int = 0
    percent: int = 0
    behind: Mode | None = None
    ahead: Mode | None = None
    deadline_ms: int = 0
    floor: int = 0
    journal: bool = False

    leader: Mode = field(init=False, repr=False, compare=False)
    """The mode by which reads go: in HOLD they stay where they were."""
    write_to_dynamodb: bool = field(init=False, repr=False, compare=False)
    """The playbook's flag."""

    def __post_init__(self) -> None:
        behind = self.behind if self.mode is Mode.HOLD and self.behind is not None else self.mode
        beside = self.mode in (Mode.DUAL_WRITE, Mode.DYNAMODB_READS)
        object.__setattr__(self, "leader", behind)
        object.__setattr__(self, "write_to_dynamodb", beside or self.mode.dynamodb_leads)

    def __str__(self) -> str:
        if self.mode is Mode.DYNAMODB_READS:
            return f"{self.mode} ({self.percent} %)"
        if self.mode is Mode.HOLD:
            return f"HOLD ({self.behind} -> {self.ahead})"
        return str(self.mode)

    @property
    def read_from_dynamodb(self) -> bool:
        """The playbook's flag."""
        return self.leader.dynamodb_leads or (self.leader is Mode.DYNAMODB_READS and self.percent > 0)

    @property
    def write_to_mongo(self) -> bool:
        """The playbook's flag."""
        return self.mode in (Mode.MONGO_ONLY, Mode.DUAL_WRITE, Mode.DYNAMODB_READS)

    @property
    def validate_writes(self) -> bool:
        """The playbook's flag: reads are compared."""
        return self.leader is Mode.DUAL_WRITE and self.percent > 0

    def chosen(self, key: str) -> bool:
        """Whether a read of this key belongs to the `percent`: stable per key, and a key once chosen stays so as it grows."""
        return self.percent >= 100 or (self.percent > 0 and _bucket(key) < self.percent)

    @property
    def ways_back(self) -> tuple[Mode, ...]:
        """How far a rollback may go: nearest first. Where it goes on from a HOLD is for the mode behind it to say."""
        return _WAYS_BACK.get(self.leader, ())

    # --- moves -------------------------------------------------------------------------------------------------------

    def move(self, to: Mode, percent: int = 0) -> ModeState:
        """The state behind a move that does not change the leader. Raises MoveRefused."""
        if to not in _MOVES.get(self.mode, ()):
            raise MoveRefused(f"{self} cannot become {to}: {_instead(self)}")
        if not 0 <= percent <= 100:
            raise MoveRefused(f"{percent} is no share of reads in percent")
        if to is Mode.DYNAMODB_READS and percent == 0:
            raise MoveRefused("DYNAMODB_READS with 0 % of the reads is DUAL_WRITE")
        kept = percent if to in (Mode.DUAL_WRITE, Mode.DYNAMODB_READS) else 0
        return replace(self, mode=to, epoch=self.epoch + 1, percent=kept, journal=False)

    def hold(self, ahead: Mode, deadline_ms: int) -> ModeState:
        """Writes wait from now on. Raises MoveRefused."""
        if ahead is not _AHEAD.get(self.mode):
            raise MoveRefused(f"{self} cannot be held on the way to {ahead}: {_instead(self)}")
        if self.mode is Mode.DYNAMODB_READS and self.percent != 100:
            raise MoveRefused(f"only {self.percent} % of the reads go to DynamoDB: flip all of them first")
        return replace(
            self, mode=Mode.HOLD, epoch=self.epoch + 1, behind=self.mode, ahead=ahead, deadline_ms=deadline_ms
        )

    def go_back(self) -> ModeState:
        """From HOLD to where it was. Raises MoveRefused."""
        if self.mode is not Mode.HOLD or self.behind is None:
            raise MoveRefused(f"{self} holds nothing")
        return replace(self, mode=self.behind, epoch=self.epoch + 1, behind=None, ahead=None, deadline_ms=0)

    def go_ahead(self, floor: int, *, journal: bool = False) -> ModeState:
        """From HOLD to where it was going; `floor` is the version of the fence, `journal` says whether a leading DynamoDB's
        writes have entries. Raises MoveRefused."""
        if self.mode is not Mode.HOLD or self.ahead is None:
            raise MoveRefused(f"{self} holds nothing")
        journal = journal and self.ahead.dynamodb_leads
        return ModeState(mode=self.ahead, epoch=self.epoch + 1, floor=max(floor, self.floor), journal=journal)

    def flags(self) -> dict[str, Any]:
        """The mode and the playbook's flags, for people and machines."""
        return {
            "mode": str(self.mode),
            "write_to_mongo": self.write_to_mongo,
            "write_to_dynamodb": self.write_to_dynamodb,
            "read_from_dynamodb": self.read_from_dynamodb,
            "validate_writes": self.validate_writes,
        }

    # --- as a ledger record ------------------------------------------------------------------------------------------

    def to_body(self) -> dict[str, Any]:
        """For the ledger. `floor` is text: it has more digits than a number there keeps."""
        return {
            "mode": self.mode.value,
            "epoch": self.epoch,
            "percent": self.percent,
            "behind": self.behind.value if self.behind else "",
            "ahead": self.ahead.value if self.ahead else "",
            "deadline": self.deadline_ms,
            "floor": format(self.floor, "x"),
        } | ({REQUIRES: [JOURNAL]} if self.journal else {})


def state_of(body: Mapping[str, Any]) -> ModeState:
    """The inverse of `to_body`."""
    return ModeState(
        mode=Mode(body["mode"]),
        epoch=int(body["epoch"]),
        percent=int(body["percent"]),
        behind=Mode(body["behind"]) if body["behind"] else None,
        ahead=Mode(body["ahead"]) if body["ahead"] else None,
        deadline_ms=int(body["deadline"]),
        floor=int(body["floor"], 16),
        journal=JOURNAL in body.get(REQUIRES, ()),
    )


_MOVES: dict[Mode, tuple[Mode, ...]] = {
    Mode.MONGO_ONLY: (Mode.DUAL_WRITE,),
    Mode.DUAL_WRITE: (Mode.MONGO_ONLY, Mode.DUAL_WRITE, Mode.DYNAMODB_READS),
    Mode.DYNAMODB_READS: (Mode.MONGO_ONLY, Mode.DUAL_WRITE, Mode.DYNAMODB_READS),
    Mode.DYNAMODB_ONLY: (Mode.FINAL,),
}
_WAYS_BACK: dict[Mode, tuple[Mode, ...]] = {
    Mode.DUAL_WRITE: (Mode.MONGO_ONLY,),
    Mode.DYNAMODB_READS: (Mode.DUAL_WRITE, Mode.MONGO_ONLY),
    Mode.DYNAMODB_ONLY: (Mode.DUAL_WRITE, Mode.MONGO_ONLY),
}
_AHEAD = {Mode.DYNAMODB_READS: Mode.DYNAMODB_ONLY, Mode.DYNAMODB_ONLY: Mode.MONGO_ONLY}


def _instead(state: ModeState) -> str:
    mode = state.mode
    if mode is Mode.HOLD:
        deadline = datetime.fromtimestamp(state.deadline_ms / 1000, UTC).isoformat(timespec="seconds")
        return (
            f"a change of the leader is on its way, until {deadline} at most; if that has passed, docferry rollback puts it "
            "back, and so does a running replicator"
        )
    ways = [str(one) for one in _MOVES.get(mode, ()) if one is not mode]
    ways += [f"{_AHEAD[mode]} (through HOLD)"] if mode in _AHEAD else []
    return f"from {mode} the ways are {', '.join(ways)}" if ways else f"{mode} is the end"


def _bucket(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big") % 100
