"""The rules for one replica: a table of a global table (2019.11.21) in one more region."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from docferry.core.estate.tables import (
    REPLICA_RULES,
    created_table,
    predict_table,
)
from docferry.core.estate.values import (
    REPLICA_MARKER,
    Action,
    EstateChange,
    EstateDifference,
    EstatePlan,
    EstateStep,
    ReplicaSpec,
    TableSpec,
    TableState,
)
from docferry.errors import Problem


def check_replicable(spec: TableSpec, regions: Iterable[str], home: str) -> list[Problem]:
    """Why DynamoDB would refuse replicas of this table; empty if it would not.

    Source: AWS "Global tables: prerequisites" (stream with both images; write capacity autoscaled or on demand;
    a customer-managed key must be named for each region), from memory of the documentation: not tried on AWS.
    """
    where = spec.resource
    problems = [
        Problem(where=where, what=f"{home} is the table's own region, not a replica") for r in regions if r == home
    ]
    if not spec.stream:
        problems.append(Problem(where=where, what="replicas need a stream", suggestion="stream: true"))
    if spec.billing == "provisioned" and not (spec.capacity and spec.capacity.max_write_units):
        problems.append(
            Problem(where=where, what="replicas need autoscaled writes", suggestion="max_write_units, or on_demand")
        )
    if spec.kms_key and "/mrk-" not in spec.kms_key:
        problems.append(
            Problem(where=where, what="its KMS key exists in one region only", suggestion="use a multi-Region key")
        )
    return problems


def replica_key(spec: TableSpec, region: str) -> str | None:
    """The multi-Region key's ARN in `region`; None when the table uses AWS's own key."""
    if spec.kms_key is None:
        return None
    parts = spec.kms_key.split(":")
    return ":".join([*parts[:3], region, *parts[4:]])


def plan_replica(replica: ReplicaSpec, main: TableState, there: TableState | None) -> EstatePlan:
    """Steps for one replica. `main` is the table in its own region, `there` the table of that name in the other one."""
    spec, region = replica.table, replica.region
    if region not in main.replicas:
        return _plan_new_replica(replica, main, there)
    if there is None or main.replicas[region] != "ACTIVE":
        change = EstateChange(
            field="replica", have=main.replicas[region] if there else "not to be found there", want="ACTIVE"
        )
        return EstatePlan(
            blocked=(EstateDifference(resource=replica.resource, change=change, why="only AWS can mend this"),)
        )
    begun = main.tags.get(REPLICA_MARKER) == region
    found = [finding for rule in REPLICA_RULES for finding in rule(spec, there)]
    steps = [
        replace(f, resource=replica.resource, region=region, needs_permission=not begun)
        for f in found
        if isinstance(f, EstateStep)
    ]
    # Keys, indexes and the stream belong to the global table: what one region lacks is not for us to patch there.
    ours = {Action.SET_PITR, Action.SET_TAGS, Action.SET_PROTECTION}
    foreign = [c for s in steps if s.action not in ours for c in s.changes]
    blocked = [f for f in found if isinstance(f, EstateDifference)]
    blocked += [
        EstateDifference(resource=replica.resource, change=c, why="it did not follow the first region") for c in foreign
    ]
    kept = [s for s in steps if s.action in ours]
    if begun:
        kept.append(_replica_step(replica, Action.FINISH_REPLICA))
    return EstatePlan(steps=tuple(kept), blocked=tuple(replace(b, resource=replica.resource) for b in blocked))


def _plan_new_replica(replica: ReplicaSpec, main: TableState, there: TableState | None) -> EstatePlan:
    if there is not None:
        change = EstateChange(field="replica", have="a table of its own", want="a replica")
        return EstatePlan(
            blocked=(EstateDifference(resource=replica.resource, change=change, why="docferry deletes no table"),)
        )
    create = _replica_step(replica, Action.CREATE_REPLICA, EstateChange(field="replica", have="missing", want="ACTIVE"))
    marked = main.tags.get(REPLICA_MARKER) == replica.region
    first = () if marked else (_replica_step(replica, Action.BEGIN_REPLICA),)
    made = main
    for step in (*first, create):
        made = predict_table(made, step)
    born = replace(created_table(replica.table), tags={}, deletion_protection=False)
    return EstatePlan(steps=(*first, create)) + plan_replica(replica, made, born)


def _replica_step(replica: ReplicaSpec, action: Action, *changes: EstateChange) -> EstateStep:
    return EstateStep(
        resource=replica.resource,
        action=action,
        spec=replica.table,
        changes=changes,
        detail=replica.region,
        needs_permission=False,
    )
