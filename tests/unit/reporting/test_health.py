"""Health on fakes: each part in each state, and no part that keeps another from being told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.modes import MODE, MOVES, Mode, ModeState
from docferry.core.estate.keys import keys_of
from docferry.core.estate.values import IndexState, TableState
from docferry.core.settings import PLAIN_KEY
from docferry.errors import ItemTooLarge, Unavailable
from docferry.flows.fence.marker import mark_leader
from docferry.flows.ledger.dead_letters import open_letter
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.reports import LATEST, SECTION
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.ledger.rooms.watch import Old, Watch, begin_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import HEALTHY_LAG_S
from docferry.flows.reporting.health import HealthReport, Status, health_of, lacking_health
from docferry.ports.flows import Identity, MemberFacts, StreamPosition
from docferry.testing.jobs import make_job
from support.validate.world import World

PARTS = [
    "replica_set",
    "tables",
    "lag_forward",
    "lag_reverse",
    "consistency",
    "letters",
    "watch",
    "application",
    "fence",
    "mapping",
]
KEYS = keys_of(PLAIN_KEY)
MEMBERS = tuple(
    MemberFacts(name=f"db{number}:27017", state=name, follows=name != "ARBITER")
    for number, name in enumerate(("PRIMARY", "SECONDARY", "ARBITER"))
)


class Estate:
    """AWS as far as health looks at it."""

    def __init__(self) -> None:
        indexes = tuple(IndexState(name=name, keys=KEYS) for name in ("GSI1", "GSI2"))
        self.tables: dict[str, TableState] = {
            "Shop": TableState(name="Shop", keys=KEYS, indexes=indexes, stream="NEW_AND_OLD_IMAGES"),
            "DocferryLedger": TableState(name="DocferryLedger", keys=KEYS),
        }

    def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
        return self.tables.get(name)


class Case:
    """A world in which everything is well, until a test changes something."""

    def __init__(self) -> None:
        self.world, self.estate = World(), Estate()
        facts = self.world.source.facts
        self.world.source.facts = replace(facts, members=MEMBERS, write_majority=2)
        self.replicator: dict[str, Any] = {"owner": "somebody", "mark": "alive", "until": now_ms() + 60_000}
        position = StreamPosition(time=self.world.source.cluster_time(), token={"_data": "x"}, scope="database:fake")
        self.replicator |= position_body(position) | {"at": now_ms(), "pending": 0, "lag_s": 0}
        self.validated("EQUAL")
        self.job = make_job(
            migration=self.world.migration,
            source=self.world.source,
            ledger=self.world.ledger,
            estate=self.estate,
            identity=Identity(name="me", mark="me", ended=lambda mark: mark == "dead"),
        )

    def validated(self, verdict: str, age_s: float = 60.0, direction: str = "forward") -> None:
        at = now_ms() - int(age_s * 1_000)
        text = json.dumps({"at_ms": at, "verdict": verdict, "equal_up_to_date": None, "direction": direction}).encode()
        body = {"at": at, "ok": verdict == "EQUAL", "report": text, "digest": "d"}
        self.world.ledger.write(SECTION, LATEST, body, expect=self.world.ledger.read(SECTION, LATEST))

    def mode(self, mode: Mode, epoch: int = 1, *, marked: bool = True) -> None:
        """Changed long ago."""
        body = ModeState(mode=mode, epoch=epoch).to_body()
        self.world.ledger.write(*MODE, body, expect=self.world.ledger.read(*MODE))
        moved = {"before": "", "after": str(mode), "by": "me", "why": "", "at": now_ms() - 60_000}
        self.world.ledger.write(MOVES, f"{epoch:012d}", moved, expect=None)
        if marked:
            mark_leader(self.job)

    def instance(self, **changed: Any) -> None:
        now = now_ms()
        one = Instance(
            id="i1", name="web", mark="alive", epoch=1, registered_ms=now, beat_ms=now, until_ms=now + 60_000
        )
        self.world.ledger.write(INSTANCES, "i1", replace(one, **changed).to_body(), expect=None)

    def dynamodb_leads(self, *nothing: None, **changed: Any) -> None:
        """With an application that follows, and a way back that is well but for what changes."""
        self.mode(Mode.DYNAMODB_ONLY)
        begin_watch(self.world.ledger, Watch(old=Old.MONGODB, begun_ms=now_ms(), least_s=900.0))
        self.validated("EQUAL", direction="reverse")
        self.instance()
        if not nothing:
            now = now_ms()
            body = {
                "owner": "somebody",
                "mark": "alive",
                "until": now + 60_000,
                "reached": now,
                "begun": now,
                "at": now,
            }
            self.world.ledger.write(*REVERSE, body | {"tables": {}} | changed, expect=None)

    def look(self) -> HealthReport:
        known = self.world.ledger.read(*REPLICATION)
        self.world.ledger.write(*REPLICATION, self.replicator, expect=known)
        return health_of(self.job)


@pytest.fixture
def case() -> Case:
    return Case()


def test_everything_well_is_healthy(case: Case) -> None:
    report = case.look()
    assert {name: part.why for name, part in report.parts.items() if part.status is not Status.HEALTHY} == {}
    assert list(report.parts) == PARTS
    assert (report.status, report.ok) == (Status.HEALTHY, True)
    assert json.loads(json.dumps(report.to_dict()))["parts"]["tables"]["facts"] == {
        "tables": {"Shop": "ACTIVE", "DocferryLedger": "ACTIVE"}
    }
    assert report.render().splitlines()[-1] == "shop is healthy"


def table(case: Case, **changes: Any) -> None:
    case.estate.tables["Shop"] = replace(case.estate.tables["Shop"], **changes)


def members(case: Case, *states: str) -> None:
    found = tuple(
        replace(one, state=name, follows=name in ("PRIMARY", "SECONDARY"))
        for one, name in zip(MEMBERS, states, strict=True)
    )
    follow = sum(one.follows for one in found)
    source = case.world.source
    source.facts = replace(source.facts, members=found, write_majority_ok=follow >= source.facts.write_majority)


def never_validated(case: Case) -> None:
    report = case.world.ledger.read(SECTION, LATEST)
    assert report is not None
    case.world.ledger.delete(report)


def followed(case: Case, **changed: Any) -> None:
    """By one instance."""
    case.mode(Mode.DUAL_WRITE)
    case.instance(**changed)


def unmarked(case: Case) -> None:
    case.mode(Mode.DUAL_WRITE, marked=False)
    case.instance()


def letter(case: Case) -> None:
    open_letter(case.world.ledger, "users", ItemTooLarge("too large", id="7"), b"", 7)


def replicator(case: Case, **changes: Any) -> None:
    case.replicator |= changes


BAD = Status.UNHEALTHY
NOT_KNOWN = Status.UNKNOWN
CASES: dict[str, tuple[Callable[[Case], Any], str, Status, str]] = {
    "no majority": (lambda c: members(c, "PRIMARY", "DOWN", "ARBITER"), "replica_set", BAD, "too few data-bearing"),
    "member away": (lambda c: members(c, "PRIMARY", "SECONDARY", "DOWN"), "replica_set", BAD, "db2:27017 is DOWN"),
    "members unseen": (
        lambda c: setattr(c.world.source, "facts", replace(c.world.source.facts, members=())),
        "replica_set", NOT_KNOWN, "clusterMonitor",
    ),
    "no replica set": (
        lambda c: setattr(c.world.source, "facts", replace(c.world.source.facts, replica_set=None)),
        "replica_set", BAD, "no replica set",
    ),
    "table missing": (lambda c: c.estate.tables.pop("Shop"), "tables", BAD, "Shop does not exist"),
    "ledger missing": (lambda c: c.estate.tables.pop("DocferryLedger"), "tables", BAD, "DocferryLedger does not exist"),
    "table inaccessible": (lambda c: table(c, status="ARCHIVED"), "tables", BAD, "Shop is ARCHIVED"),
    "index missing": (lambda c: table(c, indexes=()), "tables", BAD, "has no index GSI1"),
    "index in the making": (
        lambda c: table(c, indexes=(IndexState(name="GSI1", keys=KEYS, status="CREATING"), IndexState(name="GSI2", keys=KEYS))),
        "tables", BAD, "index GSI1 is CREATING",
    ),
    "replica failed": (lambda c: table(c, replicas={"eu-west-1": "REGION_DISABLED"}), "tables", BAD, "eu-west-1"),
    "no stream": (lambda c: table(c, stream=None), "tables", BAD, "has no stream"),
    "never replicated": (lambda c: c.replicator.pop("token"), "lag_forward", NOT_KNOWN, "has not begun"),
    "no process replicates": (
        lambda c: replicator(c, owner="", ended="the oplog is gone"), "lag_forward", BAD, "ended with: the oplog is gone",
    ),
    "replicator died": (lambda c: replicator(c, mark="dead"), "lag_forward", BAD, "no process replicates"),
    "replicator hangs": (lambda c: replicator(c, at=now_ms() - 90_000), "lag_forward", BAD, "has not recorded its position"),
    "behind": (
        lambda c: setattr(c.world.source, "_now", Timestamp(40, 0)), "lag_forward", BAD, "39 s behind",
    ),
    "window": (
        lambda c: vars(c.world.source).update(_now=Timestamp(20, 0), window_s=30.0),
        "lag_forward", BAD, "half of the time",
    ),
    "waits": (lambda c: replicator(c, waits="has too few"), "lag_forward", BAD, "it waits"),
    "position lost": (lambda c: replicator(c, lost=True), "lag_forward", BAD, "backfill --again"),
    "nothing goes back": (lambda c: c.dynamodb_leads(None), "lag_reverse", BAD, "no start is recorded"),
    "no process goes back": (lambda c: c.dynamodb_leads(until=1), "lag_reverse", BAD, "no process replicates in reverse"),
    "back, and stands still": (
        lambda c: c.dynamodb_leads(at=now_ms() - 90_000), "lag_reverse", BAD, "has not recorded its position",
    ),
    "back, and behind": (
        lambda c: c.dynamodb_leads(reached=now_ms() - 90_000), "lag_reverse", BAD, "90 s behind",
    ),
    "back, with letters": (lambda c: c.dynamodb_leads(letters=2), "lag_reverse", BAD, "2 document(s) cannot be written"),
    "never validated": (
        never_validated, "consistency", NOT_KNOWN, "never been compared",
    ),
    "different": (lambda c: c.validated("DIFFERENT"), "consistency", BAD, "DIFFERENT"),
    "undecided": (lambda c: c.validated("UNDECIDED"), "consistency", NOT_KNOWN, "UNDECIDED"),
    "old report": (lambda c: c.validated("EQUAL", 27 * 3600.0), "consistency", NOT_KNOWN, "older than 26 h"),
    "old and different": (lambda c: c.validated("DIFFERENT", 27 * 3600.0), "consistency", BAD, "DIFFERENT"),
    "report of the other direction": (
        lambda c: c.validated("EQUAL", direction="reverse"), "consistency", NOT_KNOWN, "judged MongoDB, which leads now",
    ),
    "letter": (letter, "letters", BAD, "users has 1 open"),
    "no marker": (
        unmarked, "fence", BAD, "there is no marker in docferry.leader",
    ),
    "no process follows": (lambda c: c.mode(Mode.DUAL_WRITE), "application", NOT_KNOWN, "no instance is registered"),
    "instance behind": (
        lambda c: followed(c, epoch=0), "application", BAD, "has not followed the change",
    ),
    "calls that cannot be answered": (
        lambda c: followed(c, unserved={"orders.find {total}": 3}),
        "application", BAD, "3 call(s) that DynamoDB cannot answer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_one_part_that_is_not_well_is_told_and_makes_all_of_it_so(case: Case, what: str) -> None:
    change, part, status, word = CASES[what]
    change(case)
    report = case.look()
    others = {name: one.why for name, one in report.parts.items() if name != part and one.status is not Status.HEALTHY}
    assert others == {}
    assert report.parts[part].status is status
    assert word in report.parts[part].why
    assert (report.status, report.ok) == (status, False)
    assert word in report.render()


def test_unhealthy_is_worse_than_unknown(case: Case) -> None:
    letter(case)
    case.replicator.pop("token")
    assert case.look().status is Status.UNHEALTHY


def test_error_of_one_part_makes_that_part_unknown_and_the_rest_is_told(case: Case) -> None:
    case.look()
    case.world.source.faults.fail_next(Unavailable("no primary anywhere"))
    part = health_of(case.job).parts["replica_set"]
    assert (part.status, part.why) == (Status.UNKNOWN, "Unavailable: no primary anywhere")
    case.world.ledger.faults.fail_next(*[Unavailable("the ledger is away")] * 99)
    report = health_of(case.job)
    told = {name for name, one in report.parts.items() if "Unavailable: the ledger is away" in one.why}
    assert told == {"lag_forward", "lag_reverse", "consistency", "letters", "watch", "application", "fence", "mapping"}
    assert report.parts["tables"].status is Status.HEALTHY


def test_bug_of_one_part_is_told_by_its_place_and_not_by_its_message(case: Case) -> None:
    def broken(name: str) -> TableState:
        raise KeyError("s3cr3t of a document")

    case.look()
    case.estate.fetch_table = broken  # type: ignore[assignment,method-assign]
    report = health_of(case.job)
    part = report.parts["tables"]
    assert part.status is Status.UNKNOWN
    assert "KeyError" in part.why
    assert "broken" in part.why
    assert "s3cr3t" not in report.render() + json.dumps(report.to_dict())


def test_while_dynamodb_leads_the_way_back_counts_and_not_the_way_there(case: Case) -> None:
    case.replicator["until"] = 1  # no process replicates forward any more
    case.dynamodb_leads()
    report = case.look()
    assert report.ok, report.render()
    assert "nothing goes forward" in report.parts["lag_forward"].why
    assert report.parts["lag_reverse"].facts["lag_s"] < 5


def test_only_the_parts_that_a_phase_rests_on_are_asked(case: Case) -> None:
    letter(case)
    case.look()
    assert list(health_of(case.job, ["tables", "replica_set"]).parts) == ["replica_set", "tables"]
    assert list(lacking_health(case.job, ["tables", "replica_set"])) == []
    (found,) = lacking_health(case.job, ["letters"])
    assert (found.where, "users has 1 open" in found.what) == ("letters", True)


def test_health_changes_nothing(case: Case) -> None:
    case.look()
    before = {place: record.revision for place, record in case.world.ledger._records.items()}
    health_of(case.job)
    assert {place: record.revision for place, record in case.world.ledger._records.items()} == before
    assert HEALTHY_LAG_S < 60
