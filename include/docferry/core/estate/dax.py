"""The rules for a DAX cluster, its subnet group and its parameter group."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.core.estate.dax_state import DaxClusterState, DaxGroupState, DaxState
from docferry.core.estate.tags import extra_tags, tag_changes
from docferry.core.estate.values import (
    Action,
    DaxSpec,
    EstateChange,
    EstateDifference,
    EstatePlan,
    EstateStep,
    Finding,
    on_off,
)


def plan_dax(spec: DaxSpec, state: DaxState) -> EstatePlan:
    """Groups first, then the cluster. What DAX cannot change in place: node type, subnet group, role, encryption."""
    found = [*_plan_subnets(spec, state), *_plan_parameters(spec, state), *_plan_cluster(spec, state)]
    notes = extra_tags(spec.resource, spec.tags, state.cluster.tags) if state.cluster else ()
    return EstatePlan(
        steps=tuple(f for f in found if isinstance(f, EstateStep)),
        blocked=tuple(f for f in found if isinstance(f, EstateDifference)),
        notes=tuple(notes),
        unverified=tuple(f"{spec.resource}: {what}" for what in state.unverified),
    )


def _begun(spec: DaxSpec, state: DaxState, group: DaxGroupState) -> bool:
    return state.cluster is None and group.description == spec.description


def _plan_subnets(spec: DaxSpec, state: DaxState) -> Iterator[Finding]:
    group, name = state.subnet_group, f"DAX subnet group {spec.subnet_group}"
    want = ", ".join(sorted(spec.subnets))
    if group is None:
        change = EstateChange(field="subnets", have="missing", want=want)
        yield EstateStep(
            resource=name, action=Action.CREATE_SUBNET_GROUP, spec=spec, changes=(change,), needs_permission=False
        )
    elif group.readable and spec.subnets and set(group.values) != set(spec.subnets):
        change = EstateChange(field="subnets", have=", ".join(sorted(group.values)), want=want)
        yield EstateStep(
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
        yield EstateStep(resource=name, action=Action.CREATE_PARAMETER_GROUP, spec=spec, needs_permission=False)
        group = DaxGroupState(name=spec.parameter_group, description=spec.description)
    if not group.readable:
        return
    changes = tuple(
        EstateChange(field=parameter, have=group.values.get(parameter, "its default"), want=value)
        for parameter, value in sorted(spec.parameters.items())
        if group.values.get(parameter) != value
    )
    if changes:
        begun = _begun(spec, state, group)
        yield EstateStep(
            resource=name, action=Action.SET_PARAMETERS, spec=spec, changes=changes, needs_permission=not begun
        )


def _plan_cluster(spec: DaxSpec, state: DaxState) -> Iterator[Finding]:
    cluster = state.cluster
    if cluster is None:
        changes = tuple(
            EstateChange(field=name, have="missing", want=want) for name, want in _cluster_fields(spec).items()
        )
        yield EstateStep(
            resource=spec.resource, action=Action.CREATE_CLUSTER, spec=spec, changes=changes, needs_permission=False
        )
        return
    have, want = _cluster_have(cluster), _cluster_fields(spec)
    changed = {
        name: EstateChange(field=name, have=have[name], want=want[name]) for name in want if have[name] != want[name]
    }
    if cluster.security_groups is None:
        changed.pop("security groups", None)
    if nodes := changed.pop("nodes", None):
        yield EstateStep(
            resource=spec.resource, action=Action.SET_NODES, spec=spec, changes=(nodes,), detail=str(cluster.nodes)
        )
    if groups := [changed.pop(name) for name in ("security groups", "parameter group") if name in changed]:
        yield EstateStep(resource=spec.resource, action=Action.SET_CLUSTER_GROUPS, spec=spec, changes=tuple(groups))
    for change in changed.values():
        yield EstateDifference(resource=spec.resource, change=change, why="fixed when the cluster is created")
    if tags := tag_changes(spec.tags, cluster.tags):
        yield EstateStep(resource=spec.resource, action=Action.SET_CLUSTER_TAGS, spec=spec, changes=tags)


def _cluster_fields(spec: DaxSpec) -> dict[str, str]:
    return {
        "node type": spec.node_type,
        "nodes": str(spec.nodes),
        "subnet group": spec.subnet_group,
        "parameter group": spec.parameter_group,
        "security groups": ", ".join(sorted(spec.security_groups)),
        "role": spec.role_arn,
        "encryption at rest": on_off(spec.encryption),
        "encryption in transit": on_off(spec.encryption),
    }


def _cluster_have(cluster: DaxClusterState) -> dict[str, str]:
    return {
        "node type": cluster.node_type,
        "nodes": str(cluster.nodes),
        "subnet group": cluster.subnet_group,
        "parameter group": cluster.parameter_group,
        "security groups": ", ".join(sorted(cluster.security_groups or ())),
        "role": cluster.role_arn,
        "encryption at rest": on_off(cluster.encryption_at_rest),
        "encryption in transit": on_off(cluster.encryption_in_transit),
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
