"""MongoDB as only the holder of reverse replication's lease may write to it."""

from __future__ import annotations

from dataclasses import replace

from docferry.core.cutover.marker import COLLECTION
from docferry.errors import PreflightFailed, Problem
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import Lease


def through_gates(job: Job, lease: Lease) -> Job:
    """The job, with MongoDB for the holder of this lease alone: who held it before writes nothing from now on.

    Raises: PreflightFailed, StoreError.
    """
    token = lease.record.revision
    if not job.leader.raise_token(token):
        found = job.leader.read()
        says = f"says {found.leader} (epoch {found.epoch}), token {found.token}" if found else "is missing"
        advice = "docferry health; docferry reverse puts the marker right as it begins: run it again"
        problem = Problem(where=f"{COLLECTION} in MongoDB", what=f"{says}; ours is {token}", suggestion=advice)
        raise PreflightFailed("reverse replication", [problem])
    gated = job.sink.through(token)
    return replace(job, ports=job.ports.replacing({"sink": lambda: gated}))
