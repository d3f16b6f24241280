"""Application processes, as the ledger knows them. Pure.

An instance holds a lease and says which epoch it has acknowledged: that no write which it began under an earlier one is in
flight any more. It also says where the lanes of its journal end: reverse replication must have applied what they name before the
leader changes, because a DynamoDB stream has no watermark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.cutover.spent_shapes import SpentBy, spent_in

INSTANCES = "instances"
EXPIRES = "expires"
"""A record of the ledger that has this field goes by the table's TTL, from that second since 1970 on."""
KEPT_S = 7 * 24 * 3600
"""So long a record is kept behind its last word in FINAL, where no process replicates that could clear records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One process. Times are milliseconds since 1970 on its own clock.

    `epoch` is the last that it has acknowledged; `until_ms` when its lease ends; `counts` what its client has counted;
    `unserved` the calls that DynamoDB could not have answered, by shape; `spent` what those that it did answer have consumed,
    from `spent_since_ms` on.

    `lanes` is how many lanes of the journal it may use (0: it knows of no journal), `at` the last slot of each that it knows to
    be taken: with the acknowledgement of a hold, and at its end, the last that ever will be. `struck`: it was silent while the
    leader changed, or has a copy; its lanes are sealed, and it may not write any more. `indexes` is a digest of the unique
    indexes that its migration file names, "" if it names none.

    `expires_s`: in FINAL, from which second since 1970 on the record may go; 0: it does not go by itself.
    """

    id: str
    name: str
    mark: str
    epoch: int
    registered_ms: int
    beat_ms: int
    until_ms: int
    ended: bool = False
    mode: str = ""
    region: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    unserved: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, SpentBy] = field(default_factory=dict)
    spent_since_ms: int = 0
    examples: Sequence[str] = ()
    lanes: int = 0
    at: Sequence[int] = ()
    struck: bool = False
    expires_s: int = 0
    indexes: str = ""

    def is_live(self, now_ms: int) -> bool:
        """It may still write by what it knows: it has not ended, was not struck off, and its lease has not ended."""
        return not (self.ended or self.struck) and self.until_ms >= now_ms

    def to_body(self) -> dict[str, Any]:
        """For the ledger."""
        return {
            "name": self.name,
            "mark": self.mark,
            "epoch": self.epoch,
            "registered": self.registered_ms,
            "beat": self.beat_ms,
            "until": self.until_ms,
            "ended": self.ended,
            "mode": self.mode,
            "region": self.region,
            "counts": dict(self.counts),
            "unserved": dict(self.unserved),
            "spent": {shape: one.to_body() for shape, one in self.spent.items()},
            "spent_since": self.spent_since_ms,
            "examples": list(self.examples),
            "lanes": self.lanes,
            "at": list(self.at),
            "struck": self.struck,
            "indexes": self.indexes,
        } | ({EXPIRES: self.expires_s} if self.expires_s else {})


def instance_of(key: str, body: Mapping[str, Any]) -> Instance:
    """The inverse of `to_body`."""
    return Instance(
        id=key,
        name=str(body["name"]),
        mark=str(body["mark"]),
        epoch=int(body["epoch"]),
        registered_ms=int(body["registered"]),
        beat_ms=int(body["beat"]),
        until_ms=int(body["until"]),
        ended=bool(body["ended"]),
        mode=str(body["mode"]),
        region=str(body["region"]),
        counts={name: int(number) for name, number in body["counts"].items()},
        unserved={name: int(number) for name, number in body["unserved"].items()},
        spent={shape: spent_in(one) for shape, one in body.get("spent", {}).items()},
        spent_since_ms=int(body.get("spent_since", 0)),
        examples=tuple(body["examples"]),
        lanes=int(body.get("lanes", 0)),
        at=tuple(int(one) for one in body.get("at", ())),
        struck=bool(body.get("struck", False)),
        indexes=str(body.get("indexes", "")),
        expires_s=int(body.get(EXPIRES, 0)),
    )


def unserved_by(instances: Sequence[Instance], waived: Sequence[str]) -> Counter[str]:
    """The shapes of calls that DynamoDB could not have answered, of ended processes, too: what they called is called again."""
    shapes: Counter[str] = Counter()
    for one in instances:
        shapes.update({shape: count for shape, count in one.unserved.items() if shape not in waived})
    return shapes
