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
    Nothing else is ever excused: a missing index or a changed tag is drift, even under the marker. Replicas work
    the same way with `docferry:adding-replica = <region>` on the first region's table. DAX groups cannot be
    tagged: their description carries the digest, and it counts only as long as the cluster does not exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from docferry.core.settings import Billing, Capacity, DaxSettings, LedgerSettings, TableSettings, TargetSettings
from docferry.errors import ConfigError, Problem

MARKER = "docferry:provisioning"
REPLICA_MARKER = "docferry:adding-replica"
STREAM_VIEW = "NEW_AND_OLD_IMAGES"
TABLE_KEYS = (("PK", "HASH", "S"), ("SK", "RANGE", "S"))
Dimension = Literal["read", "write"]
Keys = tuple[tuple[str, str, str], ...]


def index_keys(index: str) -> Keys:
    """Keys of index `X`: XPK and XSK, both strings."""
    return ((f"{index}PK", "HASH", "S"), (f"{index}SK", "RANGE", "S"))


# --- what is wanted --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """One table. `kms_key` None with encryption KMS: any KMS key will do (AWS's own on creation); else a key ARN."""

    name: str
    indexes: tuple[str, ...] = ()
    billing: Billing = "on_demand"
    capacity: Capacity | None = None
    pitr: bool = True
    encryption: Literal["KMS", "AWS_OWNED"] = "KMS"
    kms_key: str | None = None
    stream: bool = True
    deletion_protection: bool = True
    ttl_attribute: str = "_ttl"
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        return f"table {self.name}"

    @property
    def scaling(self) -> tuple[ScalingState, ...]:
        """One target for the table and each index, per dimension that has a maximum in the file."""
        if self.billing != "provisioned" or self.capacity is None:
            return ()
        capacity = self.capacity
        ranges: list[tuple[Dimension, int, int | None]] = [
            ("read", capacity.read_units, capacity.max_read_units),
            ("write", capacity.write_units, capacity.max_write_units),
        ]
        return tuple(
            ScalingState(
                index=index, dimension=dimension, min_units=low, max_units=high, target_percent=capacity.target_percent
            )
            for index in ("", *self.indexes)
            for dimension, low, high in ranges
            if high is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTableSpec(TableSpec):
    """The ledger's table: on demand, PITR, KMS, deletion protection, TTL `_ttl`; no index and no stream."""

    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One more region for one table (global tables 2019.11.21)."""

    table: TableSpec
    region: str

    @property
    def resource(self) -> str:
        return f"table {self.table.name} in {self.region}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaxSpec:
    """A DAX cluster and its groups. `subnets` empty: the subnet group must exist, and its subnets are its own affair."""

    cluster: str
    node_type: str
    nodes: int
    subnet_group: str
    subnets: tuple[str, ...] = ()
    parameter_group: str = "default.dax1.0"
    parameters: Mapping[str, str] = field(default_factory=dict)
    security_groups: tuple[str, ...]
    role_arn: str
    encryption: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        return f"DAX cluster {self.cluster}"

    @property
    def description(self) -> str:
        """Goes on the groups that we create; says which spec they were made for."""
        return f"docferry:provisioning={spec_digest(self)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredEstate:
    """All that one migration file asks of AWS, in the order in which it is made. The ledger comes first."""

    region: str
    tables: tuple[TableSpec, ...]
    dax: DaxSpec | None = None
    replicas: tuple[ReplicaSpec, ...] = ()


def desired_estate(
    tables: Sequence[TableSettings], ledger: LedgerSettings, target: TargetSettings, dax: DaxSettings | None = None
) -> DesiredEstate:
    """What the file asks for.

    Raises: ConfigError, if two tables share a name or a provisioned table names no capacity.
    """
    specs = tuple(_table_spec(table) for table in tables)
    names = [ledger.table, *(spec.name for spec in specs)]
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
        tables=(LedgerTableSpec(name=ledger.table), *specs),
        dax=_dax_spec(dax) if dax else None,
        replicas=tuple(ReplicaSpec(table=spec, region=region) for spec in specs for region in target.replicas),
    )


def _table_spec(settings: TableSettings) -> TableSpec:
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return TableSpec(**{**values, "tags": dict(settings.tags)})


def _dax_spec(settings: DaxSettings) -> DaxSpec:
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return DaxSpec(**{**values, "tags": dict(settings.tags), "parameters": dict(settings.parameters)})


def spec_digest(spec: TableSpec | DaxSpec) -> str:
    """Sixteen hex digits that name this spec; equal specs have equal digests, in every process."""
    return hashlib.sha256(repr(_canonical(spec)).encode()).hexdigest()[:16]


def _canonical(value: object) -> object:
    if is_dataclass(value):
        return [(f.name, _canonical(getattr(value, f.name))) for f in fields(value)]
    if isinstance(value, Mapping):
        return sorted((key, _canonical(item)) for key, item in value.items())
    return value


# --- what is there ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingState:
    """One Application Auto Scaling target. `index` '' is the table; `target_percent` None: it has no policy."""

    index: str
    dimension: Dimension
    min_units: int
    max_units: int
    target_percent: int | None

    @property
    def detail(self) -> str:
        return f"{self.index}/{self.dimension}"

    def __str__(self) -> str:
        policy = f"{self.target_percent} %" if self.target_percent is not None else "no policy"
        return f"{self.min_units}-{self.max_units} units, {policy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """One secondary index. `local`: an LSI, which docferry never makes."""

    name: str
    keys: Keys
    projection: str = "ALL"
    status: str = "ACTIVE"
    read_units: int = 0
    write_units: int = 0
    local: bool = False

    def __str__(self) -> str:
        kind = "local, " if self.local else ""
        return f"{kind}{_show_keys(self.keys)}, {self.projection}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableState:
    """What a region says about one table. `stream` is the view type, None when it is off; `replicas` region -> status."""

    name: str
    keys: Keys
    status: str = "ACTIVE"
    indexes: tuple[IndexState, ...] = ()
    billing: Billing = "on_demand"
    read_units: int = 0
    write_units: int = 0
    scaling: tuple[ScalingState, ...] = ()
    pitr: bool = False
    encryption: Literal["KMS", "AWS_OWNED"] = "AWS_OWNED"
    encryption_status: str = "ENABLED"
    kms_key: str | None = None
    stream: str | None = None
    deletion_protection: bool = False
    ttl_attribute: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    replicas: Mapping[str, str] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """No change is under way. (TTL may say ENABLING for an hour and takes no lock: not waited for.)"""
        moving = {"CREATING", "UPDATING", "DELETING"}
        return (
            self.status == "ACTIVE"
            and all(index.status == "ACTIVE" for index in self.indexes)
            and self.encryption_status not in {"ENABLING", "UPDATING", "DISABLING"}
            and not any(status in moving for status in self.replicas.values())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DaxGroupState:
    """A subnet or parameter group. `values`: subnet id -> '' or parameter -> value. `readable` False: a default group
    whose state the service would not tell."""

    name: str
    values: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    readable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DaxClusterState:
    """The cluster. `security_groups` None: it names groups that EC2 does not know, so its answer proves nothing."""

    name: str
    status: str
    node_type: str
    nodes: int
    subnet_group: str
    parameter_group: str
    security_groups: tuple[str, ...] | None
    role_arn: str
    encryption_at_rest: bool
    encryption_in_transit: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaxState:
    """The cluster and its groups as they are; None for what does not exist."""

    cluster: DaxClusterState | None
    subnet_group: DaxGroupState | None
    parameter_group: DaxGroupState | None
    unverified: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        return self.cluster is None or self.cluster.status == "available"


# --- the way from one to the other -----------------------------------------------------------------------------------


class Action(StrEnum):
    """What one step does. Each is one control-plane call (autoscaling: two)."""

    CREATE_TABLE = "create table"
    SET_BILLING = "set billing mode"
    SET_CAPACITY = "set capacity"
    SET_SCALING = "set autoscaling"
    ADD_INDEX = "add index"
    SET_STREAM = "set stream"
    SET_ENCRYPTION = "set encryption"
    SET_PROTECTION = "set deletion protection"
    SET_PITR = "set point-in-time recovery"
    SET_TTL = "enable TTL"
    SET_TAGS = "set tags"
    FINISH_TABLE = "mark as finished"
    BEGIN_REPLICA = "mark as growing a replica"
    CREATE_REPLICA = "create replica"
    FINISH_REPLICA = "mark the replica as finished"
    CREATE_SUBNET_GROUP = "create subnet group"
    CREATE_PARAMETER_GROUP = "create parameter group"
    SET_SUBNETS = "set subnets"
    SET_PARAMETERS = "set parameters"
    CREATE_CLUSTER = "create cluster"
    SET_NODES = "set number of nodes"
    SET_CLUSTER_GROUPS = "set security and parameter groups"
    SET_CLUSTER_TAGS = "set cluster tags"


LEFTOVERS = frozenset({Action.SET_PITR, Action.SET_TTL, Action.SET_SCALING})
"""What CreateTable cannot do, and what an interrupted run of ours may therefore have left undone."""
_UNASKED = frozenset(
    {Action.CREATE_TABLE, Action.FINISH_TABLE, Action.BEGIN_REPLICA, Action.CREATE_REPLICA, Action.FINISH_REPLICA}
    | {Action.CREATE_SUBNET_GROUP, Action.CREATE_PARAMETER_GROUP, Action.CREATE_CLUSTER}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field, as a person reads it."""

    field: str
    have: str
    want: str

    def __str__(self) -> str:
        return f"{self.field}: is {self.have}, the file says {self.want}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that AWS can do in place. `detail`: the index (or indexes, with commas), 'index/dimension' or region.

    `region` is where it is done (None: the target's own). `needs_permission`: it changes what existed before.
    """

    resource: str
    action: Action
    spec: TableSpec | DaxSpec
    changes: tuple[Change, ...] = ()
    detail: str = ""
    region: str | None = None
    needs_permission: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        return self.resource, self.action, self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference that no step mends. `tolerable`: `allow_changes` lets it be (it is never removed)."""

    resource: str
    change: Change
    why: str
    tolerable: bool = False

    def __str__(self) -> str:
        return f"{self.resource}: {self.change} ({self.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstatePlan:
    """Steps in order, differences that block, and what is merely mentioned (`unverified`: could not be read back)."""

    steps: tuple[Step, ...] = ()
    blocked: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def differences(self) -> tuple[str, ...]:
        """Every way in which something that exists differs from the file."""
        asked = (f"{s.resource}: {change}" for s in self.steps if s.needs_permission for change in s.changes)
        return (*(str(difference) for difference in self.blocked), *asked)

    def refusals(self, *, allow_changes: bool) -> tuple[str, ...]:
        """The differences that forbid applying this plan; empty when it may be applied."""
        if allow_changes:
            return tuple(str(difference) for difference in self.blocked if not difference.tolerable)
        return self.differences

    def __add__(self, other: EstatePlan) -> EstatePlan:
        return EstatePlan(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualEstate:
    """What is there, by table name; None for a table that does not exist."""

    tables: Mapping[str, TableState | None]
    dax: DaxState | None = None


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


Finding = Step | Difference


def plan_table(spec: TableSpec, state: TableState | None) -> EstatePlan:
    """The steps that make `state` what `spec` says; all of them, so that a person sees the whole of it beforehand."""
    if state is None:
        create = Step(
            resource=spec.resource,
            action=Action.CREATE_TABLE,
            spec=spec,
            changes=_creation(spec),
            needs_permission=False,
        )
        return EstatePlan(steps=(create,)) + plan_table(spec, created_table(spec))
    found = [finding for rule in _TABLE_RULES for finding in rule(spec, state)]
    ours = state.tags.get(MARKER) == spec_digest(spec)
    excused = _UNASKED | (LEFTOVERS if ours else frozenset())
    steps = tuple(replace(f, needs_permission=f.action not in excused) for f in found if isinstance(f, Step))
    return EstatePlan(
        steps=steps,
        blocked=tuple(f for f in found if isinstance(f, Difference)),
        notes=tuple(_extra_tags(spec.resource, spec.tags, state.tags)),
    )


def created_table(spec: TableSpec) -> TableState:
    """What CreateTable leaves behind: everything but PITR, TTL and autoscaling, and the marker."""
    read, write = _units(spec)
    return TableState(
        name=spec.name,
        keys=TABLE_KEYS,
        indexes=tuple(_new_index(spec, index) for index in spec.indexes),
        billing=spec.billing,
        read_units=read,
        write_units=write,
        encryption=spec.encryption,
        kms_key=spec.kms_key,
        stream=STREAM_VIEW if spec.stream else None,
        deletion_protection=spec.deletion_protection,
        tags=creation_tags(spec),
    )


def creation_tags(spec: TableSpec) -> dict[str, str]:
    """The file's tags and the marker."""
    return {**spec.tags, MARKER: spec_digest(spec)}


def predict_table(state: TableState | None, step: Step) -> TableState:
    """The state that `step` leaves behind when all goes well.

    Raises: KeyError for a step that is not about one table; TypeError for a step on a table that is not there.
    """
    spec = step.spec
    if not isinstance(spec, TableSpec):
        raise KeyError(step.action)
    if step.action is Action.CREATE_TABLE:
        return created_table(spec)
    if state is None:
        raise TypeError(f"{step.action} needs a table")
    return replace(state, **_EFFECTS[step.action](spec, state, step))


def _new_index(spec: TableSpec, index: str) -> IndexState:
    read, write = _units(spec)
    return IndexState(name=index, keys=index_keys(index), read_units=read, write_units=write)


def _units(spec: TableSpec) -> tuple[int, int]:
    if spec.billing != "provisioned" or spec.capacity is None:
        return 0, 0
    return spec.capacity.read_units, spec.capacity.write_units


def _effect_billing(spec: TableSpec, state: TableState, _step: Step) -> dict[str, Any]:
    read, write = _units(spec)
    indexes = tuple(replace(index, read_units=read, write_units=write) for index in state.indexes)
    return {"billing": spec.billing, "read_units": read, "write_units": write, "indexes": indexes}


def _effect_capacity(spec: TableSpec, state: TableState, step: Step) -> dict[str, Any]:
    made = created_table(spec)
    read, write = made.read_units, made.write_units
    if not step.detail:
        return {"read_units": read, "write_units": write}
    changed = (replace(i, read_units=read, write_units=write) if i.name == step.detail else i for i in state.indexes)
    return {"indexes": tuple(changed)}


def _effect_scaling(spec: TableSpec, state: TableState, step: Step) -> dict[str, Any]:
    kept = (target for target in state.scaling if target.detail != step.detail)
    return {"scaling": (*kept, *(target for target in spec.scaling if target.detail == step.detail))}


_EFFECTS: Mapping[Action, Any] = {
    Action.SET_BILLING: _effect_billing,
    Action.SET_CAPACITY: _effect_capacity,
    Action.SET_SCALING: _effect_scaling,
    Action.ADD_INDEX: lambda spec, state, step: {"indexes": (*state.indexes, _new_index(spec, step.detail))},
    Action.SET_STREAM: lambda spec, state, step: {"stream": STREAM_VIEW if spec.stream else None},
    Action.SET_ENCRYPTION: lambda spec, state, step: {"encryption": spec.encryption, "kms_key": spec.kms_key},
    Action.SET_PROTECTION: lambda spec, state, step: {"deletion_protection": spec.deletion_protection},
    Action.SET_PITR: lambda spec, state, step: {"pitr": spec.pitr},
    Action.SET_TTL: lambda spec, state, step: {"ttl_attribute": spec.ttl_attribute},
    Action.SET_TAGS: lambda spec, state, step: {"tags": {**state.tags, **spec.tags}},
    Action.FINISH_TABLE: lambda spec, state, step: {"tags": {k: v for k, v in state.tags.items() if k != MARKER}},
    Action.BEGIN_REPLICA: lambda spec, state, step: {"tags": {**state.tags, REPLICA_MARKER: step.detail}},
    Action.CREATE_REPLICA: lambda spec, state, step: {"replicas": {**state.replicas, step.detail: "ACTIVE"}},
    Action.FINISH_REPLICA: lambda spec, state, step: {
        "tags": {k: v for k, v in state.tags.items() if k != REPLICA_MARKER}
    },
}


# --- rules: each yields what one aspect of a table needs, in the order in which it must happen --------------------------


def _step(spec: TableSpec, action: Action, change: Change, detail: str = "") -> Step:
    return Step(resource=spec.resource, action=action, spec=spec, changes=(change,), detail=detail)


def _rule_keys(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.keys != TABLE_KEYS:
        change = Change(field="keys", have=_show_keys(state.keys), want=_show_keys(TABLE_KEYS))
        yield Difference(resource=spec.resource, change=change, why="a table's keys are fixed when it is created")


def _rule_billing(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.billing != spec.billing:
        # Every index that exists now must be given its capacity in the same call, those unknown to the file, too.
        indexes = ",".join(i.name for i in state.indexes if not i.local) if spec.billing == "provisioned" else ""
        change = Change(field="billing", have=state.billing, want=_show_billing(spec))
        yield _step(spec, Action.SET_BILLING, change, indexes)
        return
    if spec.billing != "provisioned":
        return
    targets: list[TableState | IndexState] = [state, *(i for i in state.indexes if i.name in spec.indexes)]
    for target in targets:
        name = target.name if isinstance(target, IndexState) else ""
        if not _capacity_fits(spec, name, target):
            have = f"{target.read_units} read, {target.write_units} write"
            yield _step(
                spec,
                Action.SET_CAPACITY,
                Change(field=_capacity_field(name), have=have, want=_show_billing(spec)),
                name,
            )


def _capacity_field(index: str) -> str:
    return f"index {index} capacity" if index else "capacity"


def _capacity_fits(spec: TableSpec, index: str, have: TableState | IndexState) -> bool:
    """Under autoscaling any value of its range is right; otherwise exactly the file's."""
    assert spec.capacity is not None
    scaled = {t.dimension: t for t in spec.scaling if t.index == index}
    pairs: dict[Dimension, tuple[int, int]] = {
        "read": (have.read_units, spec.capacity.read_units),
        "write": (have.write_units, spec.capacity.write_units),
    }
    for dimension, (has, wants) in pairs.items():
        target = scaled.get(dimension)
        fits = target.min_units <= has <= target.max_units if target else has == wants
        if not fits:
            return False
    return True


def _rule_indexes(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    have = {index.name: index for index in state.indexes}
    for name in spec.indexes:
        want = IndexState(name=name, keys=index_keys(name))
        if name not in have:
            yield _step(spec, Action.ADD_INDEX, Change(field=f"index {name}", have="missing", want=str(want)), name)
        elif (have[name].keys, have[name].projection, have[name].local) != (want.keys, want.projection, False):
            change = Change(field=f"index {name}", have=str(have[name]), want=str(want))
            why = "an index is fixed when it is created; docferry deletes none"
            yield Difference(resource=spec.resource, change=change, why=why)
    for name in sorted(set(have) - set(spec.indexes)):
        change = Change(field=f"index {name}", have=str(have[name]), want="no such index")
        yield Difference(resource=spec.resource, change=change, why="docferry deletes no index", tolerable=True)


def _rule_scaling(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    have = {target.detail: target for target in state.scaling}
    want = {target.detail: target for target in spec.scaling}
    for detail, target in want.items():
        if have.get(detail) != target:
            name = _scaling_field(target)
            change = Change(field=name, have=str(have.get(detail, "none")), want=str(target))
            yield _step(spec, Action.SET_SCALING, change, detail)
    if spec.billing != "provisioned":
        return
    for detail in sorted(set(have) - set(want)):
        change = Change(field=_scaling_field(have[detail]), have=str(have[detail]), want="none")
        yield Difference(resource=spec.resource, change=change, why="docferry removes no autoscaling", tolerable=True)


def _scaling_field(target: ScalingState) -> str:
    return f"autoscaling of {f'index {target.index}' if target.index else 'table'} {target.dimension}"


def _rule_stream(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    want = STREAM_VIEW if spec.stream else None
    if state.stream == want:
        return
    change = Change(field="stream", have=state.stream or "off", want=want or "off")
    if state.stream and want:
        why = "a stream's view is fixed; it would have to be switched off first"
        yield Difference(resource=spec.resource, change=change, why=why)
    else:
        yield _step(spec, Action.SET_STREAM, change)


def _rule_encryption(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    have, want = _show_encryption(state.encryption, state.kms_key), _show_encryption(spec.encryption, spec.kms_key)
    same_key = spec.encryption != "KMS" or spec.kms_key is None or spec.kms_key == state.kms_key
    if state.encryption != spec.encryption or not same_key:
        yield _step(spec, Action.SET_ENCRYPTION, Change(field="encryption", have=have, want=want))


def _rule_protection(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.deletion_protection != spec.deletion_protection:
        change = Change(
            field="deletion protection", have=_on(state.deletion_protection), want=_on(spec.deletion_protection)
        )
        yield _step(spec, Action.SET_PROTECTION, change)


def _rule_pitr(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.pitr != spec.pitr:
        yield _step(
            spec, Action.SET_PITR, Change(field="point-in-time recovery", have=_on(state.pitr), want=_on(spec.pitr))
        )


def _rule_ttl(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.ttl_attribute == spec.ttl_attribute:
        return
    change = Change(field="TTL attribute", have=state.ttl_attribute or "off", want=spec.ttl_attribute)
    if state.ttl_attribute is None:
        yield _step(spec, Action.SET_TTL, change)
    else:
        why = "one TTL attribute must be off for an hour before another is on"
        yield Difference(resource=spec.resource, change=change, why=why)


def _rule_tags(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    changes = _tag_changes(spec.tags, state.tags)
    if changes:
        yield Step(resource=spec.resource, action=Action.SET_TAGS, spec=spec, changes=changes)


def _rule_finish(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if MARKER in state.tags:
        yield Step(resource=spec.resource, action=Action.FINISH_TABLE, spec=spec)


_TABLE_RULES = (
    _rule_keys,
    _rule_billing,
    _rule_indexes,
    _rule_scaling,
    _rule_stream,
    _rule_encryption,
    _rule_protection,
    _rule_pitr,
    _rule_ttl,
    _rule_tags,
    _rule_finish,
)


# --- replicas --------------------------------------------------------------------------------------------------------

_REPLICA_RULES = (_rule_keys, _rule_indexes, _rule_stream, _rule_protection, _rule_pitr, _rule_tags)
"""What each region keeps for itself (PITR, tags, deletion protection) and what must have come along (the rest)."""


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
        change = Change(
            field="replica", have=main.replicas[region] if there else "not to be found there", want="ACTIVE"
        )
        return EstatePlan(blocked=(Difference(resource=replica.resource, change=change, why="only AWS can mend this"),))
    begun = main.tags.get(REPLICA_MARKER) == region
    found = [finding for rule in _REPLICA_RULES for finding in rule(spec, there)]
    steps = [
        replace(f, resource=replica.resource, region=region, needs_permission=not begun)
        for f in found
        if isinstance(f, Step)
    ]
    # Keys, indexes and the stream belong to the global table: what one region lacks is not for us to patch there.
    ours = {Action.SET_PITR, Action.SET_TAGS, Action.SET_PROTECTION}
    foreign = [c for s in steps if s.action not in ours for c in s.changes]
    blocked = [f for f in found if isinstance(f, Difference)]
    blocked += [
        Difference(resource=replica.resource, change=c, why="it did not follow the first region") for c in foreign
    ]
    kept = [s for s in steps if s.action in ours]
    if begun:
        kept.append(_replica_step(replica, Action.FINISH_REPLICA))
    return EstatePlan(steps=tuple(kept), blocked=tuple(replace(b, resource=replica.resource) for b in blocked))


def _plan_new_replica(replica: ReplicaSpec, main: TableState, there: TableState | None) -> EstatePlan:
    if there is not None:
        change = Change(field="replica", have="a table of its own", want="a replica")
        return EstatePlan(
            blocked=(Difference(resource=replica.resource, change=change, why="docferry deletes no table"),)
        )
    create = _replica_step(replica, Action.CREATE_REPLICA, Change(field="replica", have="missing", want="ACTIVE"))
    marked = main.tags.get(REPLICA_MARKER) == replica.region
    first = () if marked else (_replica_step(replica, Action.BEGIN_REPLICA),)
    made = main
    for step in (*first, create):
        made = predict_table(made, step)
    born = replace(created_table(replica.table), tags={}, deletion_protection=False)
    return EstatePlan(steps=(*first, create)) + plan_replica(replica, made, born)


def _replica_step(replica: ReplicaSpec, action: Action, *changes: Change) -> Step:
    return Step(
        resource=replica.resource,
        action=action,
        spec=replica.table,
        changes=changes,
        detail=replica.region,
        needs_permission=False,
    )


# --- DAX -------------------------------------------------------------------------------------------------------------


def plan_dax(spec: DaxSpec, state: DaxState) -> EstatePlan:
    """Groups first, then the cluster. What DAX cannot change in place: node type, subnet group, role, encryption."""
    found = [*_plan_subnets(spec, state), *_plan_parameters(spec, state), *_plan_cluster(spec, state)]
    notes = _extra_tags(spec.resource, spec.tags, state.cluster.tags) if state.cluster else ()
    return EstatePlan(
        steps=tuple(f for f in found if isinstance(f, Step)),
        blocked=tuple(f for f in found if isinstance(f, Difference)),
        notes=tuple(notes),
        unverified=tuple(f"{spec.resource}: {what}" for what in state.unverified),
    )


def _begun(spec: DaxSpec, state: DaxState, group: DaxGroupState) -> bool:
    return state.cluster is None and group.description == spec.description


def _plan_subnets(spec: DaxSpec, state: DaxState) -> Iterator[Finding]:
    group, name = state.subnet_group, f"DAX subnet group {spec.subnet_group}"
    want = ", ".join(sorted(spec.subnets))
    if group is None:
        change = Change(field="subnets", have="missing", want=want)
        yield Step(
            resource=name, action=Action.CREATE_SUBNET_GROUP, spec=spec, changes=(change,), needs_permission=False
        )
    elif group.readable and spec.subnets and set(group.values) != set(spec.subnets):
        change = Change(field="subnets", have=", ".join(sorted(group.values)), want=want)
        yield Step(
            resource=name,
            action=Action.SET_SUBNETS,
            spec=spec,
            changes=(change,),
            needs_permission=not _begun(spec, state, group),
        )


def _plan_parameters(spec: DaxSpec, state: DaxState) -> Iterator[Finding]:
    name = f"DAX parameter group {spec.parameter_group}"
    group = state.parameter_group
    if group is None:
        yield Step(resource=name, action=Action.CREATE_PARAMETER_GROUP, spec=spec, needs_permission=False)
        group = DaxGroupState(name=spec.parameter_group, description=spec.description)
    if not group.readable:
        return
    changes = tuple(
        Change(field=parameter, have=group.values.get(parameter, "its default"), want=value)
        for parameter, value in sorted(spec.parameters.items())
        if group.values.get(parameter) != value
    )
    if changes:
        begun = _begun(spec, state, group)
        yield Step(resource=name, action=Action.SET_PARAMETERS, spec=spec, changes=changes, needs_permission=not begun)


def _plan_cluster(spec: DaxSpec, state: DaxState) -> Iterator[Finding]:
    cluster = state.cluster
    if cluster is None:
        changes = tuple(Change(field=name, have="missing", want=want) for name, want in _cluster_fields(spec).items())
        yield Step(
            resource=spec.resource, action=Action.CREATE_CLUSTER, spec=spec, changes=changes, needs_permission=False
        )
        return
    have, want = _cluster_have(cluster), _cluster_fields(spec)
    changed = {name: Change(field=name, have=have[name], want=want[name]) for name in want if have[name] != want[name]}
    if cluster.security_groups is None:
        changed.pop("security groups", None)
    if nodes := changed.pop("nodes", None):
        yield Step(
            resource=spec.resource, action=Action.SET_NODES, spec=spec, changes=(nodes,), detail=str(cluster.nodes)
        )
    if groups := [changed.pop(name) for name in ("security groups", "parameter group") if name in changed]:
        yield Step(resource=spec.resource, action=Action.SET_CLUSTER_GROUPS, spec=spec, changes=tuple(groups))
    for change in changed.values():
        yield Difference(resource=spec.resource, change=change, why="fixed when the cluster is created")
    if tags := _tag_changes(spec.tags, cluster.tags):
        yield Step(resource=spec.resource, action=Action.SET_CLUSTER_TAGS, spec=spec, changes=tags)


def _cluster_fields(spec: DaxSpec) -> dict[str, str]:
    return {
        "node type": spec.node_type,
        "nodes": str(spec.nodes),
        "subnet group": spec.subnet_group,
        "parameter group": spec.parameter_group,
        "security groups": ", ".join(sorted(spec.security_groups)),
        "role": spec.role_arn,
        "encryption at rest": _on(spec.encryption),
        "encryption in transit": _on(spec.encryption),
    }


def _cluster_have(cluster: DaxClusterState) -> dict[str, str]:
    return {
        "node type": cluster.node_type,
        "nodes": str(cluster.nodes),
        "subnet group": cluster.subnet_group,
        "parameter group": cluster.parameter_group,
        "security groups": ", ".join(sorted(cluster.security_groups or ())),
        "role": cluster.role_arn,
        "encryption at rest": _on(cluster.encryption_at_rest),
        "encryption in transit": _on(cluster.encryption_in_transit),
    }


# --- how fields are shown --------------------------------------------------------------------------------------------


def table_fields(state: TableState) -> dict[str, str]:
    """A table as it is, field by field, for reports."""
    return {
        "keys": _show_keys(state.keys),
        **{f"index {index.name}": str(index) for index in state.indexes},
        "billing": _show_units(state.billing, state.read_units, state.write_units),
        **{_scaling_field(target): str(target) for target in state.scaling},
        "stream": state.stream or "off",
        "encryption": _show_encryption(state.encryption, state.kms_key),
        "deletion protection": _on(state.deletion_protection),
        "point-in-time recovery": _on(state.pitr),
        "TTL attribute": state.ttl_attribute or "off",
        **{f"tag {key}": value for key, value in sorted(state.tags.items())},
        **{f"replica {region}": status for region, status in sorted(state.replicas.items())},
    }


def dax_fields(state: DaxState) -> dict[str, str]:
    """The cluster as it is, field by field, for reports."""
    if state.cluster is None:
        return {}
    fields_ = _cluster_have(state.cluster)
    if state.cluster.security_groups is None:
        fields_["security groups"] = "unverified"
    tags = {f"tag {key}": value for key, value in sorted(state.cluster.tags.items())}
    return {**fields_, "endpoint": state.cluster.endpoint, **tags}


def _creation(spec: TableSpec) -> tuple[Change, ...]:
    made = table_fields(replace(created_table(spec), tags=dict(spec.tags)))
    later = {"point-in-time recovery", "TTL attribute"}
    return tuple(Change(field=name, have="missing", want=want) for name, want in made.items() if name not in later)


def _tag_changes(want: Mapping[str, str], have: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(field=f"tag {key}", have=have.get(key, "missing"), want=value)
        for key, value in sorted(want.items())
        if have.get(key) != value
    )


def _extra_tags(resource: str, want: Mapping[str, str], have: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(set(have) - set(want) - {MARKER, REPLICA_MARKER}):
        yield f"{resource}: tag {key} is not in the file; left alone"


def _show_keys(keys: Keys) -> str:
    return " + ".join(f"{name} ({kind})" for name, _role, kind in keys)


def _show_units(billing: str, read_units: int, write_units: int) -> str:
    return billing if billing == "on_demand" else f"provisioned, {read_units} read, {write_units} write"


def _show_billing(spec: TableSpec) -> str:
    made = created_table(spec)
    return _show_units(made.billing, made.read_units, made.write_units)


def _show_encryption(encryption: str, key: str | None) -> str:
    return f"{encryption} ({key})" if encryption == "KMS" and key else encryption


def _on(value: bool) -> str:
    return "on" if value else "off"
