"""What a validation found: for people, for machines, and in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.compare.diff import Difference, DifferenceKind
from docferry.core.mapping.items import ItemKey
from docferry.errors import ConditionFailed
from docferry.flows.ledger.dead_letters import bounded, letter_id
from docferry.flows.ledger.times import decode_time, encode_time
from docferry.ports.flows import Ledger, Record

SHOWN_ALIKE = 5
"""Differences of one kind in one collection that are shown to a person; all of them are in the record."""
RECORD_BYTES = 300_000
"""A record of the ledger is one item, at most 400 KB; the differences that do not fit stay out of it."""
SECTION, FULL, PARTIAL, LATEST = "reports", "validate", "validate-part", "latest-validate"
"""Where reports are kept: full ones, those of some collections or a sample, and the last full one once more."""


class Direction(StrEnum):
    """Which database is right, and which is judged: they change with the leader."""

    FORWARD = "forward"
    """MongoDB leads: DynamoDB must hold what it does."""
    REVERSE = "reverse"
    """DynamoDB leads: MongoDB must hold what it does."""


JUDGED = {
    Direction.FORWARD: "MongoDB leads: DynamoDB must hold what it does",
    Direction.REVERSE: "DynamoDB leads: MongoDB must hold what it does",
}


@dataclass(slots=True, kw_only=True)
class CollectionResult:
    """What validating one collection found. `unstorable` documents have a dead letter and rightly no items; those `outside` the
    collection's filter have none either, and are not among the `documents`.

    In reverse, `documents` are those of DynamoDB (of a sample: the sampled ones), and mismatches count documents: `extra` ones
    are in MongoDB alone, of `unaccounted` ones the items make no document.

    `pending` are documents and items that looked different and could not be judged; they are no mismatches.
    """

    collection: str
    documents: int = 0
    items: int = 0
    unstorable: int = 0
    outside: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    unaccounted: int = 0
    pending: int = 0
    seconds: float = 0.0

    def count(self, kinds: Iterable[DifferenceKind]) -> None:
        """Items, not fields: an item in which three fields differ is one different item."""
        for kind in kinds:
            setattr(self, kind.value, getattr(self, kind.value) + 1)

    @property
    def mismatches(self) -> int:
        return self.missing + self.different + self.extra + self.unaccounted

    def to_dict(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return found | {"seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """The outcome. `differences` are the first ones only; the counts are of all.

    `suspects`, `extra_keys` and `foreign_keys` are what repair works on: documents by collection, keys by table, and
    `versions` are those that their items have now; `guards` (while DynamoDB leads) the wrong ones by collection, each with the
    id of the document that lacks it, or that it names. They are no part of what is shown.

    `led` of the mismatches are documents and items that DynamoDB was given while it led, and MongoDB does not hold so: that may
    be the only copy, so repair leaves it.

    `pending_keys` are pending items of no collection. `read_from` is the earliest snapshot of what was compared; ages are
    those of mismatches and of what is pending; `rechecked` counts documents and items, once for each look.

    `looked_ms`: in reverse, from when to when looks were made. DynamoDB shows no past, and its streams have no watermark: there
    is no time up to which all is equal.
    """

    migration: str
    at_ms: int
    sample: int | None
    collections: tuple[CollectionResult, ...]
    unchecked: int
    differences: tuple[Difference, ...]
    suspects: Mapping[str, frozenset[bytes]] = field(repr=False)
    extra_keys: Mapping[str, tuple[ItemKey, ...]] = field(repr=False)
    foreign_keys: Mapping[str, tuple[ItemKey, ...]] = field(repr=False)
    versions: frozenset[str] = field(repr=False)
    guards: Mapping[str, Sequence[tuple[bytes, ItemKey]]] = field(default_factory=dict, repr=False)
    only: tuple[str, ...] = ()
    led: int = 0
    pending_keys: int = 0
    why_pending: str = ""
    read_from: Timestamp | None = None
    largest_age_s: float = 0.0
    generations: int = 1
    rechecked: int = 0
    direction: Direction = Direction.FORWARD
    looked_ms: tuple[int, int] = (0, 0)

    @property
    def foreign(self) -> int:
        """Items that no collection of this migration can have written."""
        return sum(map(len, self.foreign_keys.values()))

    @property
    def ok(self) -> bool:
        """Everything that was compared is equal. A sample says how much that means (`confidence`)."""
        return not (self.foreign or self.unchecked or self.pending or any(one.mismatches for one in self.collections))

    @property
    def pending(self) -> int:
        """What looked different and could not be judged: neither equal nor a mismatch."""
        return self.pending_keys + sum(one.pending for one in self.collections)

    @property
    def full(self) -> bool:
        """Of all collections, and of all documents: what a flip may rely on."""
        return not self.only and self.sample is None

    @property
    def equal_up_to(self) -> Timestamp | None:
        """What has not changed in MongoDB since this cluster time is equal. None if anything is not, or was not compared."""
        return self.read_from if self.ok and self.sample is None else None

    @property
    def equal(self) -> str:
        """What is equal, and as of when, in a sentence; "" if not all is, or not all was compared."""
        if not self.ok or self.sample is not None:
            return ""
        if self.direction is Direction.REVERSE:
            began, ended = map(shown_ms, self.looked_ms)
            return f"MongoDB held what DynamoDB does, as of looks made from {began} to {ended}"
        equal = self.equal_up_to
        return f"all that has not changed since {_shown_date(equal)} is equal" if equal else ""

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.ok:
            return "EQUAL"
        wrong = self.foreign or self.unchecked or any(one.mismatches for one in self.collections)
        return "DIFFERENT" if wrong else "UNDECIDED"

    @property
    def confidence(self) -> str:
        """What a sample proves: by the rule of three, 0 of n bounds the share of wrong documents at 3/n (95 %)."""
        compared = sum(one.documents for one in self.collections)
        if self.sample is None:
            return f"every document and every item {'was' if not self.pending else 'but those pending was'} compared"
        if not self.ok or not compared:
            return f"a sample of {compared} documents"
        return (
            f"0 of {compared} sampled documents differ: with 95 % confidence fewer than {min(1.0, 3 / compared):.2%} do"
        )

    def to_dict(self) -> dict[str, Any]:
        equal = self.equal_up_to
        return {
            "migration": self.migration,
            "at_ms": self.at_ms,
            "direction": self.direction.value,
            "ok": self.ok,
            "verdict": self.verdict,
            "sample": self.sample,
            "confidence": self.confidence,
            "collections": [one.to_dict() for one in self.collections],
            "foreign": self.foreign,
            "led": self.led,
            "unchecked": self.unchecked,
            "only": list(self.only),
            "pending": self.pending,
            "why_pending": self.why_pending,
            "equal_up_to": encode_time(equal) if equal else None,
            "equal_up_to_date": _shown_date(equal) if equal else None,
            "equal": self.equal,
            "looked_from": shown_ms(self.looked_ms[0]) if self.looked_ms[1] else None,
            "looked_to": shown_ms(self.looked_ms[1]) if self.looked_ms[1] else None,
            "largest_age_s": self.largest_age_s,
            "generations": self.generations,
            "rechecked": self.rechecked,
            "differences": [one.to_dict() for one in self.differences],
        }

    def _shown_differences(self) -> Iterator[str]:
        """The first of each kind in each collection: a hundred lines of one kind say no more."""
        groups: dict[tuple[str, str], list[Difference]] = {}
        for found in self.differences:
            groups.setdefault((found.collection, found.kind.value), []).append(found)
        results = {one.collection: one for one in self.collections}
        for (collection, kind), alike in groups.items():
            for found in alike[:SHOWN_ALIKE]:
                where = f"{found.collection} {found.id} {found.path}".rstrip()
                told = f"expected {found.expected or '-'}, found {found.actual or '-'} (for {found.age_s:.0f} s)"
                yield f"  {found.kind.value:<11} {where}: {told}  [{found.pk} / {found.sk}]"
            counted = getattr(results[collection], kind, 0) if collection in results else 0
            if len(alike) > SHOWN_ALIKE:
                yield f"  {kind:<11} {collection}: and {max(counted, len(alike)) - SHOWN_ALIKE:,} more like these"
            if kind == DifferenceKind.EXTRA.value and counted > SHOWN_ALIKE and self.direction is Direction.FORWARD:
                yield (
                    f"{'':<14}after a change of {collection}'s mapping these are items that the former mapping made: "
                    "docferry repair buries them"
                )

    def render(self) -> str:
        """The report for a person."""
        names = ("documents", "items", "unstorable", "missing", "different", "extra", "unaccounted", "outside")
        lines = [JUDGED[self.direction], f"{'collection':<20}" + "".join(f"{name:>13}" for name in names)]
        for one in self.collections:
            lines.append(f"{one.collection:<20}" + "".join(f"{getattr(one, name):>13}" for name in names))
        if self.foreign:
            lines.append(f"{self.foreign} items belong to no collection of this migration")
        if self.led:
            lines.append(
                f"{self.led} of these were written, or deleted, while DynamoDB led, and MongoDB does not have that: DynamoDB may "
                "hold the only copy, so repair leaves it. Write the right value to MongoDB; replication copies it"
            )
        if self.unchecked:
            lines.append(
                f"{self.unchecked} more suspects were not looked at again: repair these first, then validate again"
            )
        if self.pending:
            lines.append(f"{self.pending} could not be judged: {self.why_pending}")
        lines += self._shown_differences()
        if self.equal:
            lines.append(self.equal)
        lines.append(f"{self.verdict}: {self.confidence}")
        return "\n".join(lines)


def _shown_date(at: Timestamp) -> str:
    return datetime.fromtimestamp(at.time, UTC).isoformat()


def shown_ms(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def record_report(ledger: Ledger, report: ValidationReport) -> None:
    """Keep the report; with fewer differences where all of them would not fit into one record.

    A full one becomes the latest, unless a newer one has.
    """
    body = report.to_dict()
    for one in body["differences"]:
        one |= {"id": letter_id(one["id"]), "path": bounded(one["path"])}
    text = json.dumps(body).encode()
    while len(text) > RECORD_BYTES and body["differences"]:
        keep = len(body["differences"]) * RECORD_BYTES // len(text)
        body |= {"differences": body["differences"][:keep], "not_recorded": len(report.differences) - keep}
        text = json.dumps(body).encode()
    summary = {"at": report.at_ms, "ok": report.ok, "report": text, "digest": hashlib.sha256(text).hexdigest()}
    key = f"{FULL if report.full else PARTIAL}#{report.at_ms:015d}"
    ledger.write(SECTION, key, summary, expect=ledger.read(SECTION, key))
    if report.full:
        _set_latest(ledger, summary)


def _set_latest(ledger: Ledger, summary: Mapping[str, Any]) -> None:
    while True:
        latest = ledger.read(SECTION, LATEST)
        if latest is not None and int(latest.body["at"]) > summary["at"]:
            return
        try:
            ledger.write(SECTION, LATEST, summary, expect=latest)
        except ConditionFailed:
            continue  # another report came first: it may be the newer one
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReport:
    """A full validation as the ledger has it; `digest` names it. `equal` says in a sentence what is equal, "" if not all is;
    `equal_up_to`: what has not changed in MongoDB since is equal."""

    digest: str
    ok: bool
    verdict: str
    confidence: str
    at_ms: int
    direction: Direction
    equal: str
    equal_up_to: Timestamp | None
    equal_up_to_date: str | None
    collections: tuple[CollectionResult, ...]
    shown: Mapping[str, Any] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All of the report that was recorded, for people and machines."""
        return {**self.shown, "digest": self.digest}


def latest_report(ledger: Ledger) -> RecordedReport | None:
    """The last report of a full validation, None if there has been none. One read."""
    record = ledger.read(SECTION, LATEST)
    return _report_in(record) if record is not None else None


def recorded_reports(ledger: Ledger) -> list[RecordedReport]:
    """All of them, full ones and those of a part."""
    return [_report_in(record) for record in ledger.list(SECTION) if record.key != LATEST]


def decode_result(stored: Mapping[str, Any]) -> CollectionResult:
    """What one collection came to. Columns that a newer docferry counted are left out."""
    known = CollectionResult.__dataclass_fields__
    return CollectionResult(**{name: value for name, value in stored.items() if name in known})


def _report_in(record: Record) -> RecordedReport:
    shown: dict[str, Any] = json.loads(record.body["report"])
    return RecordedReport(
        digest=record.body["digest"],
        ok=bool(shown.get("ok")),
        verdict=shown["verdict"],
        confidence=shown.get("confidence", ""),
        at_ms=int(shown["at_ms"]),
        direction=Direction(shown.get("direction", Direction.FORWARD)),
        equal=shown.get("equal", ""),
        equal_up_to=decode_time(shown["equal_up_to"]) if shown.get("equal_up_to") else None,
        equal_up_to_date=shown.get("equal_up_to_date"),
        collections=tuple(decode_result(one) for one in shown.get("collections", ())),
        shown=shown,
    )
