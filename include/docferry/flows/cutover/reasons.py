"""The reasons for which phases are refused, each of which looks at one thing. `phases` says which phase asks which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from docferry.core.cutover.journal import LaneName
from docferry.errors import AccessDenied, Problem, RequestRefused, RetryExhausted, TableMissing, TransientStoreError
from docferry.flows.cutover.hold import tables_of
from docferry.flows.cutover.refusals import Asked
from docferry.flows.fence.ready import LATE_LIFT, late_lift, long_transactions, no_fence
from docferry.flows.fence.record import LIFT_S, Recorded
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger import approvals
from docferry.flows.ledger.approvals import no_evidence
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.mapping_fingerprint import changed_mappings, indexes_digest
from docferry.flows.ledger.modes import live_instances, read_mode, unacknowledged
from docferry.flows.ledger.positions import read_replication, recorded_position
from docferry.flows.ledger.reports import RecordedReport, latest_report
from docferry.flows.ledger.rooms.fence import read_fence
from docferry.flows.ledger.rooms.owners import not_owned
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.times import now_ms
from docferry.flows.ledger.writers import open_loads, open_writers
from docferry.flows.preflight.mongodb import not_kept, unlike_indexes
from docferry.flows.preflight.readiness import foreign_readers, foreign_writers
from docferry.flows.preflight.thresholds import FLIP_LAG_S, REPORT_AGE_S, SEEN_S
from docferry.flows.preflight.wide import too_wide
from docferry.flows.replicate.opening import late_writes
from docferry.flows.reporting.health import lacking_health
from docferry.flows.reverse.follower import lacking_start, lacking_streams
from docferry.flows.watch.ready import lacking_watch, unsettled_strays
from docferry.ports.flows import Ledger

MARKER_S = 5.0

# --- the ledger ------------------------------------------------------------------------------------------------------


def evidence(asked: Asked) -> Iterator[Problem]:
    """The last full validation says that all is equal, of the database that leads."""
    problem = no_evidence(latest_report(asked.job.ledger), read_mode(asked.job.ledger))
    if problem is not None:
        yield problem


def no_time(asked: Asked) -> Iterator[Problem]:
    report = latest_report(asked.job.ledger)
    if report is not None and report.ok and report.equal_up_to is None:
        yield Problem(where="full validation", what="does not say up to when all is equal", suggestion="again")


def old_evidence(asked: Asked) -> Iterator[Problem]:
    report = latest_report(asked.job.ledger)
    if report is not None and (problem := too_old(report)) is not None:
        yield problem


def too_old(report: RecordedReport) -> Problem | None:
    """A report by which nothing may be decided any more, and with it the approvals that were given on it."""
    age_s = (now_ms() - report.at_ms) / 1000
    if age_s <= REPORT_AGE_S:
        return None
    what = f"is {age_s / 3600:.0f} h old, and so are the approvals that were given on it"
    return Problem(where="full validation", what=what, suggestion="docferry validate, then approve anew")


def unapproved(phase: str) -> Callable[[Asked], Iterator[Problem]]:
    """No person has allowed it on this evidence. Without evidence there is nothing to approve, and `evidence` says so."""

    def find(asked: Asked) -> Iterator[Problem]:
        report = latest_report(asked.job.ledger)
        if report is None or not report.ok:
            return
        lacking = approvals.unapproved(asked.job.ledger, phase, report.digest, asked.job.migration.cutover)
        if lacking is not None:
            yield lacking

    return find


def not_loaded(asked: Asked) -> Iterator[Problem]:
    for one in asked.job.migration.collections:
        header = LoadHeaders(asked.job.ledger).read(one.name)
        if header is None or not header.complete:
            advice = f"docferry backfill --only {one.name}"
            yield Problem(where=f"collections.{one.name}", what="is not loaded", suggestion=advice)


def other_mapping(asked: Asked) -> Iterator[Problem]:
    return changed_mappings(asked.job.migration, asked.job.ledger)


def anothers_table(asked: Asked) -> Iterable[Problem]:
    return not_owned(asked.job.migration, asked.job.ledger)


def letters(asked: Asked) -> Iterator[Problem]:
    for one in asked.job.migration.collections:
        if found := list_letters(asked.job.ledger, one.name):
            what = f"has {len(found)} open dead letter(s): DynamoDB does not hold these documents"
            yield Problem(where=f"collections.{one.name}", what=what, suggestion="docferry dead-letters")


def other_writers(asked: Asked) -> Iterator[Problem]:
    job = asked.job
    for one in [*open_loads(job.ledger, job.migration, job.identity), *open_writers(job.ledger, job.identity)]:
        advice = "wait for its end: it would write what MongoDB holds over what the application writes"
        yield Problem(where="writers", what=one, suggestion=advice)


def late_requests(asked: Asked) -> Iterator[Problem]:
    for name, what in late_writes(asked.job.ledger, asked.job.migration):
        yield Problem(where=f"collections.{name}", what=f"its load is not over: {what}", suggestion="wait for that")


def replication(asked: Asked) -> Iterator[Problem]:
    return lacking_replication(asked.job.ledger)


def lacking_replication(ledger: Ledger) -> Iterator[Problem]:
    """What keeps DynamoDB from following MongoDB closely; nothing if it does."""
    state = read_replication(ledger)
    lag_s = state.lag_s
    ended = "" if state.holder.owner else state.ended
    if state.position is None or state.noted_s_ago > SEEN_S or ended:
        what = f"does not run; its last run ended with: {ended}" if ended else "does not run"
        yield Problem(where="replication", what=what, suggestion="docferry replicate, or the DAG replicate")
    elif lag_s is None or lag_s > FLIP_LAG_S:
        what = f"lags {lag_s} s" if lag_s is not None else "does not know how far it is behind"
        yield Problem(where="replication", what=what, suggestion="wait until it has caught up")


def reversing(asked: Asked) -> Iterator[Problem]:
    """Where the way back begins cannot be noted while a process follows another way back."""
    holder = read_reverse(asked.job.ledger).holder
    if holder.owner and holder.until_ms > now_ms():
        what = f"is run by {holder.owner}: where the way back begins could not be noted"
        yield Problem(where="reverse replication", what=what, suggestion="end that process")


# --- windows ---------------------------------------------------------------------------------------------------------


def short_windows(asked: Asked) -> Iterator[Problem]:
    """The oplog, and the images of changes, must reach back to where replication is, and to the validation."""
    job = asked.job
    state, report = read_replication(job.ledger), latest_report(job.ledger)
    position = state.position or recorded_position(job.ledger)
    first, last = retrying("ask how far the oplog reaches", job.source.oplog_reach, job.stop)
    advice = "load again: docferry backfill --again"
    if state.lost or (position is not None and position.time < first):
        what = "is at a position to which the oplog no longer reaches back"
        yield Problem(where="replication", what=what, suggestion=advice)
    expire_s = retrying("ask how long images are kept", job.source.expire_images_after_s, job.stop)
    if position is not None and expire_s is not None and last.time - position.time.time > expire_s:
        what = "is at a position whose images of changes have expired"
        yield Problem(where="replication", what=what, suggestion=advice)
    since = report.equal_up_to if report is not None and report.ok else None
    if since is not None and since < first:
        what = "found all equal up to a time to which the oplog no longer reaches back: what changed since is not known"
        yield Problem(where="full validation", what=what, suggestion="docferry validate")


def no_way_back(asked: Asked) -> Iterator[Problem]:
    """The tables' streams, by which MongoDB follows once DynamoDB leads."""
    return lacking_streams(asked.job.streams, tables_of(asked.job))


def lost_way_back(asked: Asked) -> Iterator[Problem]:
    """Where reverse replication goes on, and whether the streams still hold what is behind it."""
    return lacking_start(asked.job.ledger, asked.job.migration)


# --- MongoDB ---------------------------------------------------------------------------------------------------------


def unenforced(asked: Asked) -> Iterator[Problem]:
    """Unique indexes that neither guards nor DynamoDB's keys stand for: two documents could be made alike once it leads."""
    job = asked.job
    for settings in job.migration.collections:
        yield from not_kept(settings, job.migration.cutover.waived_unique, job.source.collection_facts(settings.name))


def other_indexes(asked: Asked) -> Iterator[Problem]:
    """Guards are of the indexes that the file names, and MongoDB has others."""
    job = asked.job
    for settings in job.migration.collections:
        if settings.unique:
            yield from unlike_indexes(settings, job.source.collection_facts(settings.name))


def wide(asked: Asked) -> Iterable[Problem]:
    return too_wide(asked.job.migration, asked.job.source)


def fence(asked: Asked) -> list[Problem]:
    return no_fence(asked.job) if _fence_is_down(asked) else []


def transactions(asked: Asked) -> list[Problem]:
    return long_transactions(asked.job) if _fence_is_down(asked) else []


def lift_on_its_way(asked: Asked) -> Iterable[Problem]:
    return () if LATE_LIFT in asked.waived else late_lift(asked.job)


def not_watched(asked: Asked) -> Iterable[Problem]:
    return lacking_watch(asked.job.ledger, read_mode(asked.job.ledger), asked.waived)


def strays(asked: Asked) -> Iterable[Problem]:
    return unsettled_strays(asked.job.ledger, asked.waived)


def _fence_is_down(asked: Asked) -> bool:
    """One that stands, or is lifted first, is gone on with from its record."""
    return asked.no_ledger or read_fence(asked.job.ledger).state is Recorded.DOWN


def clients_of_mongodb(asked: Asked) -> Iterator[Problem]:
    return foreign_writers(asked.job, asked.look_s)


def readers_of_mongodb(asked: Asked) -> Iterator[Problem]:
    return foreign_readers(asked.job, asked.look_s)


def marker(asked: Asked) -> Iterator[Problem]:
    """Whether docferry's user may read the marker, and change it in a transaction."""
    where = "the marker docferry.leader"
    try:
        retrying("try the marker in MongoDB", asked.job.leader.rehearse, asked.job.stop, MARKER_S)
    except (AccessDenied, RequestRefused) as error:
        what = f"docferry's user cannot write it in a transaction: {error}"
        advice = "it needs find, insert and update there, on a replica set"
        yield Problem(where=where, what=what, suggestion=advice)
    except (TransientStoreError, RetryExhausted) as error:
        what = f"no majority confirms what is written there: {error}"
        yield Problem(where=where, what=what, suggestion="see docferry health, part replica_set")


def blind_users(asked: Asked) -> Iterator[Problem]:
    """Users of the application who may not read the marker. Where users cannot be listed there is no fence either."""
    try:
        facts = retrying("ask who may read the marker", asked.job.fence.facts, asked.job.stop, LIFT_S)
    except (AccessDenied, RequestRefused):
        return
    for one in facts.users:
        if one.writes and not one.reads_marker and one.id != facts.own_user:
            what = "may write to the migration's collections, and not read docferry.leader: without the ledger it would stop"
            yield Problem(where=f"user {one.id}", what=what, suggestion="grant it find on docferry.leader")


# --- health, and the application -------------------------------------------------------------------------------------


def unwell(part: str) -> Callable[[Asked], Iterator[Problem]]:
    """A part of health: what cannot be told is not well either."""
    return lambda asked: lacking_health(asked.job, (part,))


def no_journal_table(asked: Asked) -> Iterator[Problem]:
    job = asked.job
    if not job.migration.cutover.journal:
        return
    try:
        job.journal.read(LaneName("no-process", 0), 0, 1)
    except TableMissing:
        what, advice = (
            "is not there, and each write would need an entry in it",
            "docferry provision; or cutover.journal: false",
        )
        yield Problem(where=f"table {job.migration.ledger.journal_table}", what=what, suggestion=advice)


def no_journal_client(asked: Asked) -> Iterator[Problem]:
    job = asked.job
    for one in live_instances(job.ledger, job.identity) if job.migration.cutover.journal else ():
        if not one.lanes:
            what = "runs a docferry that knows no journal, and would write no more once DynamoDB leads"
            advice = "install this docferry there, and restart it"
            yield Problem(where=f"instance {one.name}", what=what, suggestion=advice)


def other_indexes_in_client(asked: Asked) -> Iterator[Problem]:
    """Processes that would write without guards, with those of other indexes, or past a filter once DynamoDB leads."""
    job = asked.job
    mine = indexes_digest(job.migration.collections)
    for one in live_instances(job.ledger, job.identity):
        if one.indexes != mine:
            what = (
                "runs with a migration file that names other unique indexes or filters (or a docferry that knows none)"
            )
            advice = "restart it with this file, and this docferry"
            yield Problem(where=f"instance {one.name}", what=what, suggestion=advice)


def nobody_follows(asked: Asked) -> Iterator[Problem]:
    job = asked.job
    live = live_instances(job.ledger, job.identity)
    if not live:
        advice = "start the application with docferry.connect"
        yield Problem(where="application", what="no instance is registered: no process would follow", suggestion=advice)
    for one in unacknowledged(live, read_mode(job.ledger).epoch):
        what = "has not followed the last change of mode"
        yield Problem(where=f"instance {one.name}", what=what, suggestion="see its log")
