"""What the demo found, the sums that must come out, and the tables at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from docferry.rehearsal.independent.history import HistoryVerdict
from docferry.rehearsal.shop import CollectionCounts
from rich.table import Table

from demo.counts import StreamCounts
from demo.traffic import TrafficReport

Sums = Mapping[str, tuple[int, int]]
"""What is summed up -> (found, expected)."""


def _wrong(prefix: str, sums: Sums) -> Iterator[str]:
    for name, (found, expected) in sums.items():
        if found != expected:
            yield f"{prefix}: {found:,} {name}, expected {expected:,}"


@dataclass(slots=True, kw_only=True)
class Row:
    """One collection in the final table.

    The load's `read`, `written`, `superseded`, `dead`, `items`, `rate`, `seconds`; the rest is as it is at the end:
    `documents_in_mongodb` and `items_in_dynamodb` are plain counts, `documents_compared`, `items_expected` and `unstorable`
    validate's, `letters` the open dead letters.
    """

    collection: str
    read: int
    written: int
    superseded: int
    dead: int
    items: int
    rate: float
    seconds: float
    documents_in_mongodb: int
    documents_compared: int
    items_in_dynamodb: int
    items_expected: int
    letters: int
    unstorable: int
    mismatches: int
    extra: int
    pending: int

    def problems(self) -> Iterator[str]:
        """Every sum that is wrong, in words."""
        sums = {
            "written + superseded + dead letters": (self.written + self.superseded + self.dead, self.read),
            "documents compared": (self.documents_compared, self.documents_in_mongodb),
            "items in DynamoDB": (self.items_in_dynamodb, self.items_expected),
            "open dead letters": (self.letters, self.unstorable),
            "mismatches": (self.mismatches, 0),
            "extra items": (self.extra, 0),
            "pending": (self.pending, 0),
        }
        yield from _wrong(self.collection, sums)

    def problems_at_rest(self, shop: CollectionCounts) -> Iterator[str]:
        """More of them, if no process has written: `shop` says what was put into MongoDB."""
        sums = {
            "documents in MongoDB": (self.documents_in_mongodb, shop.documents),
            "documents read": (self.read, shop.documents),
            "dead letters": (self.dead, shop.unstorable),
            "items written": (self.items, shop.items),
        }
        yield from _wrong(self.collection, sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """What replication did in all: events = written + superseded + dead + passed. Lags are in seconds."""

    events: int
    written: int
    superseded: int
    dead: int
    passed: int
    rate: float
    largest_lag_s: int
    lag_s: int

    def problems(self) -> Iterator[str]:
        accounted = self.written + self.superseded + self.dead + self.passed
        yield from _wrong("replicate", {"events accounted for": (accounted, self.events), "s lag": (self.lag_s, 0)})


@dataclass(frozen=True, slots=True, kw_only=True)
class InMotion:
    """What validate said while the traffic went on."""

    documents: int
    items: int
    mismatches: int
    pending: int
    rechecked: int
    generations: int

    @classmethod
    def of(cls, compared: Mapping[str, Any]) -> InMotion:
        """From the summary that the validate task returned."""
        rows = compared["collections"]
        wrong = ("missing", "different", "extra", "unaccounted")
        return cls(
            documents=sum(one["documents"] for one in rows),
            items=sum(one["items"] for one in rows),
            mismatches=sum(one[name] for one in rows for name in wrong) + compared["foreign"] + compared["unchecked"],
            pending=compared["pending"],
            rechecked=compared["rechecked"],
            generations=compared["generations"],
        )

    def problems(self) -> Iterator[str]:
        yield from _wrong("validate in motion", {"mismatches": (self.mismatches, 0), "pending": (self.pending, 0)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """One share of the reads, and what was seen while it soaked."""

    percent: int
    soaked_s: float
    served: int
    fell_back: int
    compared: int
    mismatches: int

    @classmethod
    def of(cls, percent: int, flipped: Mapping[str, Any]) -> RampStep:
        """From the summary that the task returned."""
        seen = {name: flipped["seen"][name] for name in ("served", "fell_back", "compared", "mismatches")}
        return cls(percent=percent, soaked_s=flipped["soaked_s"], **seen)


@dataclass(slots=True, kw_only=True)
class Moved:
    """The application's way to DynamoDB, back and there again: what it was told, replayed by the independent judge.

    `holds_s` is how long writes waited at most in each change of leader, `rollback_s` how long the whole rollback took,
    `longest_write_s` what a single write of the application had to wait.
    """

    processes: int
    holds_s: list[float] = field(default_factory=list)
    rollback_s: float = 0.0
    ramp: list[RampStep] = field(default_factory=list)
    approvals: int = 0
    set_aside: int = 0
    acknowledged_writes: int = 0
    reads: int = 0
    seconds: float = 0.0
    longest_write_s: float = 0.0
    longest_pause_of_reads_s: float = 0.0
    unique: Mapping[str, int] = field(default_factory=dict)
    """Of e-mail addresses that many want: `taken`, `refused`, `exchanged` between two users."""
    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)

    def judge(self, verdict: HistoryVerdict) -> None:
        self.acknowledged_writes = verdict.requests["write"] - len(verdict.failed)
        self.reads, self.seconds = verdict.requests["read"], verdict.seconds
        self.unique = {kind: verdict.unique[kind] for kind in ("taken", "refused", "exchanged")}
        self.longest_write_s = max(verdict.writes_s, default=0.0)
        self.longest_pause_of_reads_s = max(verdict.pauses_s, default=0.0)
        for name in ("lost", "resurrected", "failed", "contradicted"):
            setattr(self, name, list(getattr(verdict, name)))

    def problems(self) -> Iterator[str]:
        wrong = {"lost writes": self.lost, "resurrected deletes": self.resurrected, "failed requests": self.failed}
        wrong |= {"contradicted reads": self.contradicted}
        yield from _wrong("the application", {name: (len(found), 0) for name, found in wrong.items()})
        if not self.acknowledged_writes:
            yield "the application: no write was acknowledged"
        yield from (
            f"the application: no e-mail address was {kind}" for kind, number in self.unique.items() if not number
        )

    def lines(self) -> Iterator[tuple[str, str]]:
        rate = self.acknowledged_writes / self.seconds if self.seconds else 0.0
        told = {"taken": 0, "refused": 0, "exchanged": 0} | dict(self.unique)
        yield (
            "the application",
            f"{self.processes} processes, {self.acknowledged_writes:,} acknowledged writes ({rate:.0f}/s), {self.reads:,} reads "
            f"in {self.seconds:.0f} s",
        )
        yield (
            "the judge",
            f"{len(self.lost)} lost, {len(self.resurrected)} resurrected, {len(self.failed)} failed requests, "
            f"{len(self.contradicted)} contradicted reads",
        )
        yield (
            "e-mail addresses that many want",
            f"{told['taken']} taken, {told['refused']} refused, {told['exchanged']} exchanged",
        )
        yield (
            "reads from DynamoDB",
            "; ".join(
                f"{one.percent} %: {one.served:,} served, {one.fell_back} fell back, {one.mismatches} of {one.compared:,} differ"
                for one in self.ramp
            ),
        )
        holds = ", ".join(f"{held:.2f}" for held in self.holds_s)
        yield (
            "writes waited",
            f"{holds} s at most (there, back, there again); reads never longer than {self.longest_pause_of_reads_s:.2f} s",
        )
        yield "rollback drill", f"{self.rollback_s:.0f} s from the click to MongoDB in the lead, nothing lost"
        yield (
            "approvals",
            f"{self.approvals}; {self.set_aside} documents that DynamoDB cannot hold were set aside first",
        )


@dataclass(slots=True, kw_only=True)
class DemoReport:
    """How the demo ended; written to build/demo-report.json."""

    users: int
    rate: float
    rows: list[Row] = field(default_factory=list)
    traffic: TrafficReport | None = None
    stream: StreamCounts | None = None
    replicated: Replicated | None = None
    in_motion: InMotion | None = None
    moved: Moved | None = None
    problems: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    hints: tuple[str, ...] = ()

    def judge(self) -> None:
        """Add every sum that is wrong to `problems`."""
        for row in self.rows:
            self.problems += row.problems()
        for part in (self.replicated, self.in_motion):
            if part is not None:
                self.problems += part.problems()
        self.problems += self._problems_of_changes()

    def judge_the_move(self, moved: Moved) -> None:
        """The same of the application's way."""
        self.moved = moved
        self.problems += moved.problems()

    def _problems_of_changes(self) -> Iterator[str]:
        """MongoDB's own stream against what replication, and the traffic, say that they did."""
        if self.stream is None or self.replicated is None:
            return
        yield from _wrong("replicate", {"events": (self.replicated.events, self.stream.after_position)})
        changed = self.traffic.documents_changed if self.traffic else 0
        # What came of an operation that was cut off is not known to the traffic.
        if self.traffic is None or not self.traffic.unknown:
            yield from _wrong("traffic", {"documents changed": (changed, self.stream.events)})
        if self.rate >= 1:
            yield from (f"nothing was written during: {name}" for name, n in self.stream.by_phase.items() if not n)

    def to_dict(self) -> dict[str, Any]:
        parts = {"traffic": self.traffic, "change_stream": self.stream, "replication": self.replicated}
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "users": self.users,
            "rate": self.rate,
            "collections": [asdict(row) for row in self.rows],
            **{name: None if part is None else asdict(part) for name, part in parts.items()},
            "application": None if self.moved is None else asdict(self.moved),
            "validate_in_motion": None if self.in_motion is None else asdict(self.in_motion),
            "seconds": {name: round(value, 1) for name, value in self.phases.items()},
        }

    def tables(self) -> list[Table]:
        tables = [self._collections(), _lines_of("In motion", self._lines())]
        if self.moved is not None:
            tables.append(_lines_of("The application's way to DynamoDB, back, and there again", self.moved.lines()))
        return tables

    def _collections(self) -> Table:
        table = Table(title="From MongoDB to DynamoDB: the load, and both databases at the end")
        names = ("collection", "loaded", "documents/s", "documents", "items", "dead letters", "mismatches", "extra")
        for name in names:
            table.add_column(name, justify="left" if name == "collection" else "right")
        for row in self.rows:
            end = (row.documents_in_mongodb, row.items_in_dynamodb, row.letters, row.mismatches, row.extra)
            table.add_row(row.collection, f"{row.read:,}", f"{row.rate:,.0f}", *(f"{number:,}" for number in end))
        return table

    def _lines(self) -> Iterator[tuple[str, str]]:
        yield "the application", "none (rate 0)" if self.traffic is None else str(self.traffic)
        if self.stream is not None:
            yield (
                "MongoDB's stream",
                f"{self.stream.events:,} changes, {self.stream.after_position:,} of them after the recorded position",
            )
            yield "", ", ".join(f"{name} {count:,}" for name, count in self.stream.by_phase.items())
        if (done := self.replicated) is not None:
            yield (
                "replication",
                f"{done.events:,} events = {done.written:,} written + {done.superseded:,} superseded + {done.dead:,} dead "
                f"letters + {done.passed:,} passed; {done.rate:,.0f}/s; lag {done.lag_s} s, at most {done.largest_lag_s} s",
            )
        if (seen := self.in_motion) is not None:
            yield (
                "validate meanwhile",
                f"{seen.documents:,} documents and {seen.items:,} items: {seen.mismatches} mismatches; {seen.rechecked:,} "
                f"looked at again, in {seen.generations} generations",
            )


def _lines_of(title: str, lines: Iterator[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False)
    for name, text in lines:
        table.add_row(name, text)
    return table
