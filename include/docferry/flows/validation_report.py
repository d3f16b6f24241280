"""What a validation found: for people, for machines, and in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from docferry.core.diff import Difference
from docferry.core.mapping import ItemKey
from docferry.ports import Ledger

RECORD_BYTES = 300_000
"""A record of the ledger is one item, at most 400 KB; the differences that do not fit stay out of it."""


@dataclass(slots=True, kw_only=True)
class CollectionResult:
    """What validating one collection found. `unstorable` documents have a dead letter and rightly no items."""

    collection: str
    documents: int = 0
    items: int = 0
    unstorable: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    unaccounted: int = 0
    seconds: float = 0.0

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
    `versions` are those that their items have now. They are no part of what is shown.
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

    @property
    def foreign(self) -> int:
        """Items that no collection of this migration can have written."""
        return sum(map(len, self.foreign_keys.values()))

    @property
    def ok(self) -> bool:
        """Everything that was compared is equal. A sample says how much that means (`confidence`)."""
        return not self.foreign and not self.unchecked and not any(one.mismatches for one in self.collections)

    @property
    def confidence(self) -> str:
        """What a sample proves: by the rule of three, 0 of n bounds the share of wrong documents at 3/n (95 %)."""
        compared = sum(one.documents for one in self.collections)
        if self.sample is None:
            return "every document and every item was compared"
        if not self.ok or not compared:
            return f"a sample of {compared} documents"
        return (
            f"0 of {compared} sampled documents differ: with 95 % confidence fewer than {min(1.0, 3 / compared):.2%} do"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "migration": self.migration,
            "at_ms": self.at_ms,
            "ok": self.ok,
            "sample": self.sample,
            "confidence": self.confidence,
            "collections": [one.to_dict() for one in self.collections],
            "foreign": self.foreign,
            "unchecked": self.unchecked,
            "differences": [one.to_dict() for one in self.differences],
        }

    def render(self) -> str:
        """The report for a person."""
        names = ("documents", "items", "unstorable", "missing", "different", "extra", "unaccounted")
        lines = [f"{'collection':<20}" + "".join(f"{name:>13}" for name in names)]
        for one in self.collections:
            lines.append(f"{one.collection:<20}" + "".join(f"{getattr(one, name):>13}" for name in names))
        if self.foreign:
            lines.append(f"{self.foreign} items belong to no collection of this migration")
        if self.unchecked:
            lines.append(
                f"{self.unchecked} more suspects were not looked at again: repair these first, then validate again"
            )
        for found in self.differences:
            where = f"{found.collection} {found.id} {found.path}".rstrip()
            told = f"expected {found.expected or '-'}, found {found.actual or '-'}"
            lines.append(f"  {found.kind.value:<11} {where}: {told}  [{found.pk} / {found.sk}]")
        lines.append(("EQUAL: " if self.ok else "DIFFERENT: ") + self.confidence)
        return "\n".join(lines)


def record_report(ledger: Ledger, report: ValidationReport) -> None:
    """Keep the report; with fewer differences where all of them would not fit into one record."""
    body = report.to_dict()
    text = json.dumps(body).encode()
    while len(text) > RECORD_BYTES and body["differences"]:
        keep = len(body["differences"]) * RECORD_BYTES // len(text)
        body |= {"differences": body["differences"][:keep], "not_recorded": len(report.differences) - keep}
        text = json.dumps(body).encode()
    summary = {"at": report.at_ms, "ok": report.ok, "report": text, "digest": hashlib.sha256(text).hexdigest()}
    ledger.write("reports", f"validate#{report.at_ms:015d}", summary, expect=None)


def latest_report(ledger: Ledger) -> dict[str, Any] | None:
    """The last validation report with its digest, None if there has been none."""
    records = ledger.list("reports", "validate#")
    if not records:
        return None
    body = records[-1].body
    return {**json.loads(body["report"]), "digest": body["digest"]}
