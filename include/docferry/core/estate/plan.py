"""What AWS should hold, what it does hold, and the steps from one to the other. Pure: no step is taken here.

    desired_estate(settings) -> DesiredEstate          what the migration file asks for
    plan_table(spec, state) -> EstatePlan              one table
    plan_dax(spec, state)   -> EstatePlan              the cluster and its two groups
    plan_replica(spec, region, main, replica)          one replica of one table
    predict_table(state, step) -> TableState           what a step leaves behind; planning of new tables and tests use it

A plan holds `steps` (what DynamoDB can do in place, in order), `blocked` (differences that no step mends) and `notes`
(what is there, is not in the file, and is left alone). A step that changes something which existed before `needs_permission`.

How an interrupted run of ours is told from drift
    CreateTable is atomic, and puts on the tag `docferry:provisioning = <digest of the spec>`. What CreateTable cannot do
    (PITR, TTL, autoscaling) follows, and taking the tag off is the last step. So a table that carries the tag with the
    digest of today's spec was begun by us for this very file and not finished: exactly those three may be finished
    without permission. A table without the tag, or with another digest (the file was changed in between), has drifted.
    Whose a table is, its tag `docferry:owner:<migration>` says: put on by CreateTable, or by a step of its own.
    Nothing else is ever excused: a missing index or a changed tag is drift, even under the marker. Replicas work
    the same way with `docferry:adding-replica = <region>` on the first region's table. DAX groups cannot be
    tagged: their description carries the digest, and it counts only as long as the cluster does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from docferry.core.estate.dax import plan_dax
from docferry.core.estate.dax_state import DaxState
from docferry.core.estate.tables import (
    plan_table,
)
from docferry.core.estate.tags import owner_tag
from docferry.core.estate.values import (
    ActualEstate,
    DaxSpec,
    DesiredEstate,
    EstatePlan,
    LedgerTableSpec,
    ReplicaSpec,
    TableSpec,
)
from docferry.core.estate.wanted import Around
from docferry.core.settings import DaxSettings, LedgerSettings, TableSettings, TargetSettings
from docferry.errors import ConfigError, Problem


def desired_estate(
    tables: Sequence[TableSettings],
    ledger: LedgerSettings,
    target: TargetSettings,
    dax: DaxSettings | None = None,
    *,
    journal: bool = False,
    owner: str = "",
    around: Around | None = None,
) -> DesiredEstate:
    """What the file asks for. `journal`: with the table of the application's journals. `owner`: the migration whose tag goes onto
    the tables; without it none does. `around`: what is made beside tables and DAX.

    Raises: ConfigError, if two tables share a name or a provisioned table names no capacity.
    """
    tag = owner_tag(owner, ledger.table) if owner else {}
    specs = tuple(_table_spec(table, tag) for table in tables)
    own: list[TableSpec] = [LedgerTableSpec(name=ledger.table)]
    # Of the journals only the last hours count, by TTL: they need no PITR.
    own += [TableSpec(name=ledger.journal_table, pitr=False, stream=False)] if journal else []
    names = [spec.name for spec in (*own, *specs)]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [Problem(where=name, what="two tables have this name") for name in twice]
    problems += [
        Problem(where=f"tables.{spec.name}", what="provisioned, but no capacity is given")
        for spec in specs
        if spec.billing == "provisioned" and spec.capacity is None
    ]
    if problems:
        raise ConfigError("tables", problems)
    return DesiredEstate(
        region=target.region,
        tables=(*own, *specs),
        dax=_dax_spec(dax) if dax else None,
        replicas=tuple(ReplicaSpec(table=spec, region=region) for spec in specs for region in target.replicas),
        around=around or Around(),
    )


_BESIDE = ("shared", "contributor_insights", "warm_throughput")
"""What a file says of a table that is no part of the table itself."""


def _table_spec(settings: TableSettings, owner: Mapping[str, str]) -> TableSpec:
    values = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in _BESIDE}
    return TableSpec(**{**values, "tags": dict(settings.tags), "owner_tag": dict(owner)})


def _dax_spec(settings: DaxSettings) -> DaxSpec:
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return DaxSpec(**{**values, "tags": dict(settings.tags), "parameters": dict(settings.parameters)})


def plan_estate(desired: DesiredEstate, actual: ActualEstate) -> EstatePlan:
    """Tables (the ledger first), then DAX. Replicas are planned by `plan_replica`, after the load.

    Holds: pure; empty for a state that every step of an earlier plan was applied to.
    """
    plan = EstatePlan()
    for spec in desired.tables:
        plan += plan_table(spec, actual.tables.get(spec.name))
    if desired.dax is not None:
        plan += plan_dax(desired.dax, actual.dax or DaxState(cluster=None, subnet_group=None, parameter_group=None))
    return plan
