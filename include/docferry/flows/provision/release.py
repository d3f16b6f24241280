"""A migration that is over lets its tables go, so that another one may have them."""

from __future__ import annotations

from docferry.core.cutover.modes import Mode
from docferry.core.estate.tags import OWNER
from docferry.core.estate.values import Action, EstateStep, TableSpec
from docferry.errors import PreflightFailed, Problem
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import live_instances, read_mode
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.rooms.owners import drop_claim


def release_tables(job: Job) -> list[str]:
    """Take the claim of the job's migration off the tables of its file, and their tags. Returns the tables that were its own.

    Items stay: who has the table next, and could make their keys, finds them there. Idempotent.
    Raises: PreflightFailed while DynamoDB serves for that migration, or a process works at it; StoreError.
    """
    if problems := in_use(job):
        raise PreflightFailed(f"{job.migration.name}, whose tables are to be let go", problems)
    released = []
    for table in (one.name for one in job.migration.tables):
        tag, state = f"{OWNER}{job.migration.name}", job.estate.fetch_table(table)
        dropped = drop_claim(job.ledger, table, job.migration.name)
        tagged = state is not None and tag in state.tags
        if tagged:
            spec = TableSpec(name=table)
            job.estate.apply(EstateStep(resource=spec.resource, action=Action.RELEASE_TABLE, spec=spec, detail=tag))
        released += [table] if dropped or tagged else []
    return released


def in_use(job: Job) -> list[Problem]:
    """What works with the tables of the job's migration: by its mode, replication, or a process of the application.

    Raises: StoreError.
    """
    mode, replication = read_mode(job.ledger), read_replication(job.ledger)
    found: list[Problem] = []
    if mode.mode is not Mode.MONGO_ONLY:
        what = f"is {mode}: the application works with what is in the tables"
        found.append(Problem(where="mode", what=what, suggestion="docferry rollback"))
    if not replication.holder.expired(job.identity):
        what = f"is run by {replication.holder.owner}"
        found.append(Problem(where="replication", what=what, suggestion="end it first"))
    for one in live_instances(job.ledger, job.identity):
        found.append(Problem(where=f"instance {one.name}", what="is alive", suggestion="end it first"))
    return found
