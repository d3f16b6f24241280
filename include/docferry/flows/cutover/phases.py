"""Which phase is refused for which reasons. The rows are those of docs/cutover.md, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.core.cutover.modes import Mode
from docferry.errors import Problem
from docferry.flows.cutover import reasons
from docferry.flows.cutover.flip_reasons import compared, unserved
from docferry.flows.cutover.refusals import Asked, Phase, Reason
from docferry.flows.cutover.return_evidence import reverse_letters, unvalidated, vanished
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.approvals import FINALIZE, FLIP_READS, STOP_MONGO_WRITES
from docferry.flows.ledger.modes import read_mode
from docferry.flows.reporting.health import HealthReport, Part, Status, health_of


def _holds(ahead: Mode) -> Reason:
    def find(asked: Asked) -> Iterator[Problem]:
        read_mode(asked.job.ledger).hold(ahead, 0)
        yield from ()

    where = "DYNAMODB_READS with 100 %" if ahead is Mode.DYNAMODB_ONLY else "DYNAMODB_ONLY"
    return Reason(what=f"the mode is not {where}", source="the mode", find=find)


def _moves(to: Mode) -> Reason:
    def find(asked: Asked) -> Iterator[Problem]:
        read_mode(asked.job.ledger).move(to, asked.percent)
        yield from ()

    return Reason(what=f"the mode is none from which {to} can be reached", source="the mode", find=find)


_EVIDENCE = Reason(
    what="no full validation, one that is not EQUAL, or of another leader",
    source="the last report",
    find=reasons.evidence,
)
_FRESH = Reason(what="a validation that is over 26 hours old", source="the last report", find=reasons.old_evidence)
_LOADED = Reason(what="a collection that is not loaded", source="the ledger", find=reasons.not_loaded)
_MAPPING = Reason(
    what="a mapping that has changed since the load", source="the ledger", find=reasons.other_mapping, standing=True
)
_OWNED = Reason(
    what="a table that is another migration's", source="the ledger", find=reasons.anothers_table, standing=True
)
_LETTERS = Reason(what="open dead letters", source="the ledger", find=reasons.letters)
_REPLICATION = Reason(
    what="replication that does not run, or is over 60 seconds behind", source="the ledger", find=reasons.replication
)
_MARKER = Reason(
    what="docferry's user cannot write `docferry.leader` in a transaction", source="MongoDB", find=reasons.marker,
    early=True, standing=True,
)  # fmt: skip
_READERS = Reason(
    what="a user of the application who cannot read `docferry.leader`", source="MongoDB", find=reasons.blind_users,
    early=True, standing=True,
)  # fmt: skip
_INDEXES = Reason(
    what="a unique index that the file names, and that is another in MongoDB",
    source="MongoDB",
    find=reasons.other_indexes,
    standing=True,
)
_MAJORITY = Reason(what="no majority of data-bearing members", source="health", find=reasons.unwell("replica_set"))
_TABLES = Reason(what="tables that are not active", source="health", find=reasons.unwell("tables"))


_STRAYS = Reason(
    what="stray writes that are not settled", source="the ledger; `--waive strays`", find=reasons.strays, standing=True
)


STOP = Phase(
    subject="DynamoDB as the leader",
    refusals=(
        _holds(Mode.DYNAMODB_ONLY),
        _EVIDENCE,
        _FRESH,
        Reason(what="a report without a time up to which all is equal", source="the last report", find=reasons.no_time),
        _LOADED,
        _MAPPING,
        _OWNED,
        _LETTERS,
        Reason(what="a load, repair or replay under way", source="the ledger", find=reasons.other_writers),
        Reason(
            what="requests of a load that may still be carried out", source="the ledger", find=reasons.late_requests
        ),
        Reason(
            what="oplog or images that no longer reach back to replication's position, or to the validation",
            source="MongoDB", find=reasons.short_windows, standing=True,
        ),
        Reason(
            what="a table without a stream that holds both images", source="DynamoDB", find=reasons.no_way_back,
            standing=True,
        ),
        Reason(
            what="a process that replicates in reverse", source="the ledger", find=reasons.reversing, standing=True
        ),
        Reason(
            what="a unique index that neither the file nor a key keeps, and that is not waived", source="MongoDB",
            find=reasons.unenforced, early=True, standing=True,
        ),
        _INDEXES,
        Reason(what="a document with more than 99 children", source="MongoDB", find=reasons.wide),
        Reason(
            what="no kind of fence would hold: other databases or collections, users who pass it, `app_users` is empty, a TTL "
            "index", source="MongoDB", find=reasons.fence, early=True, standing=True,
        ),
        Reason(
            what="a transaction that has been open for longer than writes may wait (unless `kill_transactions`)",
            source="MongoDB", find=reasons.transactions, early=True, standing=True,
        ),
        Reason(
            what="a lift of the fence that may be on its way", source="the ledger; `--waive lift`",
            find=reasons.lift_on_its_way, standing=True,
        ),
        Reason(
            what="a watch of DynamoDB, after a way back, that is not over", source="the ledger; `--waive watch`",
            find=reasons.not_watched, standing=True,
        ),
        _STRAYS,
        _MARKER,
        _READERS,
        _MAJORITY,
        _TABLES,
        Reason(
            what="no process of the application, or one that has not followed", source="health",
            find=reasons.unwell("application"),
        ),
        Reason(
            what="a program that writes to MongoDB without the client, and is not waived", source="MongoDB's connections",
            find=reasons.clients_of_mongodb,
        ),
        Reason(what="no table for the journals", source="DynamoDB", find=reasons.no_journal_table, standing=True),
        Reason(
            what="a process whose docferry knows no journal", source="the ledger", find=reasons.no_journal_client,
            standing=True,
        ),
        Reason(
            what="a process whose file names other unique indexes", source="the ledger",
            find=reasons.other_indexes_in_client, standing=True,
        ),
        Reason(
            what="no approval of this evidence", source="the ledger", find=reasons.unapproved(STOP_MONGO_WRITES)
        ),
    ),
)  # fmt: skip
DUAL = Phase(
    subject="dual writes",
    refusals=(_moves(Mode.DUAL_WRITE), _LOADED, _MAPPING, _OWNED, _INDEXES, _REPLICATION, _MARKER),
)
FLIP = Phase(
    subject="reads from DynamoDB",
    refusals=(
        _moves(Mode.DYNAMODB_READS),
        _LOADED,
        _MAPPING,
        _OWNED,
        _INDEXES,
        _EVIDENCE,
        _FRESH,
        _LETTERS,
        _REPLICATION,
        Reason(
            what="a call that DynamoDB cannot answer, and whose shape is not waived", source="the application's counts",
            find=unserved,
        ),
        Reason(
            what="too few compared reads (`--reads`), or over 1 % of them different", source="the application's counts",
            find=compared,
        ),
        Reason(
            what="no process of the application, or one that has not followed", source="the ledger",
            find=reasons.nobody_follows,
        ),
        _MARKER,
        _MAJORITY,
        _TABLES,
        Reason(what="no approval of this evidence", source="the ledger", find=reasons.unapproved(FLIP_READS)),
    ),
)  # fmt: skip
RETURN = Phase(
    subject="MongoDB as the leader",
    refusals=(
        _holds(Mode.MONGO_ONLY),
        _MAPPING,
        _OWNED,
        Reason(
            what="a process that vanished, and may have a request on its way (where no journal seals it)",
            source="the ledger; `--waive INSTANCE`", find=vanished,
        ),
        Reason(
            what="no full validation since DynamoDB leads, one that is not EQUAL, or over 26 hours old",
            source="the last report; `--waive validation`", find=unvalidated,
        ),
        Reason(what="open dead letters of reverse replication", source="the ledger", find=reverse_letters),
        _STRAYS,
        Reason(
            what="no start of reverse replication, or one that is older than the 24 hours for which a stream keeps its records",
            source="the ledger", find=reasons.lost_way_back,
        ),
        _MARKER,
        _MAJORITY,
        _TABLES,
        Reason(
            what="as far as DUAL_WRITE: a collection that is not loaded", source="the ledger",
            find=lambda asked: reasons.not_loaded(asked) if asked.to is Mode.DUAL_WRITE else (),
        ),
    ),
)  # fmt: skip
END = Phase(
    subject="the end of MongoDB",
    refusals=(
        _moves(Mode.FINAL),
        _EVIDENCE,
        _FRESH,
        Reason(what="no approval of this evidence", source="the ledger", find=reasons.unapproved(FINALIZE)),
        Reason(
            what="a watch of MongoDB that is not over", source="the ledger; `--waive watch`", find=reasons.not_watched
        ),
        _STRAYS,
        Reason(
            what="a program that still uses MongoDB, and is not waived", source="MongoDB's connections",
            find=reasons.readers_of_mongodb,
        ),
    ),
)  # fmt: skip
STEP_BACK = Phase(subject="a rollback while MongoDB leads", refusals=(_MARKER,))
PHASES = {"stop-mongo-writes": STOP, "dual-write": DUAL, "flip-reads": FLIP, "rollback": RETURN, "finalize": END}
"""Those that docs/cutover.md has a table for, by command."""


def early_problems(job: Job) -> list[Problem]:
    """What would refuse `stop-mongo-writes` one day, though nothing keeps the load from beginning. Raises StoreError."""
    return STOP.problems(Asked(job=job, no_ledger=True), lambda one: one.early)


def full_health(job: Job) -> HealthReport:
    """Health, and whether DynamoDB could lead once all reads come from it."""
    return health_of(job, more={"switch": lambda: _switch(job)})


def _switch(job: Job) -> Part:
    mode = read_mode(job.ledger)
    if mode.mode is not Mode.DYNAMODB_READS:
        return Part(status=Status.HEALTHY, why=f"no change of leader is near: the mode is {mode}")
    if found := STOP.problems(Asked(job=job), lambda one: one.standing):
        why = f"DynamoDB could not lead: {'; '.join(map(str, found))}"
        return Part(status=Status.UNHEALTHY, why=why)
    return Part(status=Status.HEALTHY, why="nothing that lasts keeps DynamoDB from leading")
