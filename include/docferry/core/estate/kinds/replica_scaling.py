"""Autoscaling of a replica's reads. Its writes follow the first region's, as DynamoDB has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from docferry.core.estate.resources import Ask, AwsCall, OfTable, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaScaling(OfTable):
    """Of table `name` in `region`, and of its indexes there. The call is made in the target's own region."""

    # Application Auto Scaling's own actions are those of the first region's autoscaling, which a replica never is without.
    reads: ClassVar[tuple[str, ...]] = ("dynamodb:DescribeTableReplicaAutoScaling",)
    writes: ClassVar[tuple[str, ...]] = ("dynamodb:UpdateTableReplicaAutoScaling",)

    removes: ClassVar[tuple[str, ...]] = writes

    min_units: int
    max_units: int
    target_percent: int
    indexes: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        return f"autoscaling of table {self.name} in {self.region}"

    def wanted(self) -> Mapping[str, str]:
        text = f"{self.min_units}-{self.max_units} units, {self.target_percent} %"
        return dict.fromkeys(("read", *(f"index {one} read" for one in self.indexes)), text)

    def observe(self, ask: Ask) -> Seen | None:
        call = AwsCall(
            service="dynamodb",
            operation="describe_table_replica_auto_scaling",
            arguments={"TableName": self.name},
            absent=("ResourceNotFoundException",),
        )
        table = (ask(call) or {}).get("TableAutoScalingDescription", {})
        there = next((one for one in table.get("Replicas", ()) if one["RegionName"] == self.region), None)
        if there is None:
            return None
        states = (table.get("TableStatus", "ACTIVE"), there.get("ReplicaStatus", "ACTIVE"))
        return Seen(fields=dict(_fields(there)), settled=states == ("ACTIVE", "ACTIVE"))

    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        return self._set(self.wanted())

    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        return self._set(changed)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall | None:
        on = [name for name in self.wanted() if seen.fields.get(name, "none") != "none"]
        return self._update(on, {"AutoScalingDisabled": True}) if on else None

    def _set(self, fields: Mapping[str, str] | Sequence[str]) -> AwsCall:
        scaling = {
            "MinimumUnits": self.min_units,
            "MaximumUnits": self.max_units,
            "ScalingPolicyUpdate": {
                "TargetTrackingScalingPolicyConfiguration": {"TargetValue": float(self.target_percent)}
            },
        }
        return self._update(fields, scaling)

    def _update(self, fields: Mapping[str, str] | Sequence[str], scaling: Mapping[str, Any]) -> AwsCall:
        update: dict[str, Any] = {"RegionName": self.region}
        if "read" in fields:
            update["ReplicaProvisionedReadCapacityAutoScalingUpdate"] = scaling
        if indexes := [one for one in self.indexes if f"index {one} read" in fields]:
            update["ReplicaGlobalSecondaryIndexUpdates"] = [
                {"IndexName": one, "ProvisionedReadCapacityAutoScalingUpdate": scaling} for one in indexes
            ]
        arguments = {"TableName": self.name, "ReplicaUpdates": [update]}
        return AwsCall(service="dynamodb", operation="update_table_replica_auto_scaling", arguments=arguments)


def _fields(there: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "read", _show(there.get("ReplicaProvisionedReadCapacityAutoScalingSettings", {}))
    for index in there.get("GlobalSecondaryIndexes", ()):
        yield (
            f"index {index['IndexName']} read",
            _show(index.get("ProvisionedReadCapacityAutoScalingSettings", {})),
        )


def _show(settings: Mapping[str, Any]) -> str:
    if not settings or settings.get("AutoScalingDisabled"):
        return "none"
    policies = settings.get("ScalingPolicies", ())
    tracking = policies[0].get("TargetTrackingScalingPolicyConfiguration", {}) if policies else {}
    policy = f"{tracking['TargetValue']:g} %" if tracking else "no policy"
    return f"{settings.get('MinimumUnits')}-{settings.get('MaximumUnits')} units, {policy}"
