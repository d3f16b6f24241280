"""A DAX cluster and its groups as AWS describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
