"""The estate as values: what is wanted, what is there, and the steps and differences between the two.

See `estate.py` for how they fit together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Literal

from docferry.core.estate.dax_state import DaxState
from docferry.core.estate.keys import Keys, keys_of, show_keys
from docferry.core.estate.resources import Resource
from docferry.core.estate.wanted import Around
from docferry.core.settings import PLAIN_KEY, Billing, Capacity, IndexSettings, KeyDesign, plain_index_key

REPLICA_MARKER = "docferry:adding-replica"
STREAM_VIEW = "NEW_AND_OLD_IMAGES"
Dimension = Literal["read", "write"]


# --- what is wanted --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """One table. `kms_key` None with encryption KMS: any KMS key will do (AWS's own on creation); else a key ARN.

    `owner_tag` says whose it is (`tags`), beside the file's own `tags`.
    """

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
    owner_tag: Mapping[str, str] = field(default_factory=dict)
    key: KeyDesign = PLAIN_KEY
    designs: Mapping[str, IndexSettings] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        return f"table {self.name}"

    @property
    def keys(self) -> Keys:
        return keys_of(self.key)

    def design(self, index: str) -> IndexSettings:
        """How an index is made: `designs` holds those that are not plain."""
        return self.designs.get(index) or IndexSettings(key=plain_index_key(index))

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
    around: Around = field(default_factory=Around)
    imported: frozenset[str] = frozenset()
    """Tables that are made by an import: while they are not there, they are not made otherwise."""


def spec_digest(spec: TableSpec | DaxSpec) -> str:
    """Sixteen hex digits that name this spec; equal specs have equal digests, in every process."""
    return hashlib.sha256(repr(_canonical(spec)).encode()).hexdigest()[:16]


_LATER: Mapping[str, object] = {"key": PLAIN_KEY, "designs": {}}
"""Fields that came later, with the value by which a spec is as it was: tables bear digests of earlier versions."""


def _canonical(value: object) -> object:
    if is_dataclass(value):
        found = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "owner_tag"}
        return [(name, _canonical(one)) for name, one in found.items() if one != _LATER.get(name, MISSING)]
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
    """One secondary index. `projection`: its kind, and what INCLUDE includes. `local`: an LSI, which docferry never makes."""

    name: str
    keys: Keys
    projection: str = "ALL"
    status: str = "ACTIVE"
    read_units: int = 0
    write_units: int = 0
    local: bool = False

    def __str__(self) -> str:
        kind = "local, " if self.local else ""
        return f"{kind}{show_keys(self.keys)}, {self.projection}"


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
    CLAIM_TABLE = "tag as owned"
    RELEASE_TABLE = "take the owner's tag off"
    FINISH = "mark as finished"
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
    CREATE_RESOURCE = "create"
    SET_RESOURCE = "set"
    TAG_RESOURCE = "tag"
    REMOVE_RESOURCE = "remove"
    REMOVE_SCALING = "remove autoscaling"
    UNPROTECT = "switch deletion protection off"
    REMOVE_REPLICA = "remove replica"
    DELETE_TABLE = "delete table"
    IMPORT_TABLE = "import table"


LEFTOVERS = frozenset({Action.SET_PITR, Action.SET_TTL, Action.SET_SCALING})
"""What CreateTable cannot do, and what an interrupted run of ours may therefore have left undone."""
UNASKED = frozenset(
    {Action.CREATE_TABLE, Action.CLAIM_TABLE, Action.FINISH}
    | {Action.BEGIN_REPLICA, Action.CREATE_REPLICA, Action.FINISH_REPLICA}
    | {Action.CREATE_SUBNET_GROUP, Action.CREATE_PARAMETER_GROUP, Action.CREATE_CLUSTER}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateChange:
    """One field, as a person reads it."""

    field: str
    have: str
    want: str

    def __str__(self) -> str:
        return f"{self.field}: is {self.have}, the file says {self.want}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateStep:
    """One thing that AWS can do in place. `detail`: the index (or indexes, with commas), 'index/dimension' or region.

    `region` is where it is done (None: the target's own). `needs_permission`: it changes what existed before.
    """

    resource: str
    action: Action
    spec: TableSpec | DaxSpec | Resource
    changes: tuple[EstateChange, ...] = ()
    detail: str = ""
    region: str | None = None
    needs_permission: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        return self.resource, self.action, self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateDifference:
    """A difference that no step mends. `tolerable`: `allow_changes` lets it be (it is never removed)."""

    resource: str
    change: EstateChange
    why: str
    tolerable: bool = False

    def __str__(self) -> str:
        return f"{self.resource}: {self.change} ({self.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstatePlan:
    """Steps in order, differences that block, and what is merely mentioned (`unverified`: could not be read back)."""

    steps: tuple[EstateStep, ...] = ()
    blocked: tuple[EstateDifference, ...] = ()
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


Finding = EstateStep | EstateDifference


# --- how fields are shown --------------------------------------------------------------------------------------------


def on_off(value: bool) -> str:
    return "on" if value else "off"
