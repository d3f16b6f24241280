"""What AWS's replies say of a table, as our value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.core.estate.keys import decode_keys, show_projection
from docferry.core.estate.values import Dimension, IndexState, ScalingState, TableState

METRICS: Mapping[Dimension, str] = {
    "read": "DynamoDBReadCapacityUtilization",
    "write": "DynamoDBWriteCapacityUtilization",
}
UNITS: Mapping[Dimension, str] = {"read": "ReadCapacityUnits", "write": "WriteCapacityUnits"}


def decode_table(
    table: Mapping[str, Any],
    *,
    tags: Mapping[str, str],
    backups: Mapping[str, Any],
    ttl: Mapping[str, Any],
    scaling: tuple[ScalingState, ...] = (),
) -> TableState:
    """DescribeTable's `Table` and the replies of its sister calls, as one value."""
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    units = table.get("ProvisionedThroughput", {})
    sse = table.get("SSEDescription", {})
    encrypted = sse.get("Status", "DISABLED") != "DISABLED"
    stream = table.get("StreamSpecification", {})
    described = ttl.get("TimeToLiveDescription", {})
    pitr = backups.get("ContinuousBackupsDescription", {}).get("PointInTimeRecoveryDescription", {})
    return TableState(
        name=table["TableName"],
        keys=decode_keys(table["KeySchema"], types),
        status=table["TableStatus"],
        indexes=_decode_indexes(table, types),
        billing="provisioned" if billing_of(table) == "PROVISIONED" else "on_demand",
        read_units=units.get("ReadCapacityUnits", 0),
        write_units=units.get("WriteCapacityUnits", 0),
        scaling=scaling,
        pitr=pitr.get("PointInTimeRecoveryStatus") == "ENABLED",
        encryption="KMS" if encrypted else "AWS_OWNED",
        encryption_status=sse.get("Status", "ENABLED"),
        kms_key=sse.get("KMSMasterKeyArn") if encrypted else None,
        stream=stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
        deletion_protection=table.get("DeletionProtectionEnabled", False),
        ttl_attribute=described.get("AttributeName")
        if described.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        else None,
        tags=tags,
        replicas={r["RegionName"]: r.get("ReplicaStatus", "ACTIVE") for r in table.get("Replicas", ())},
    )


def billing_of(table: Mapping[str, Any]) -> str:
    """A table that was always provisioned has no BillingModeSummary."""
    return str(table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"))


def _decode_indexes(table: Mapping[str, Any], types: Mapping[str, str]) -> tuple[IndexState, ...]:
    found = []
    for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
        for index in table.get(kind, ()):
            units = index.get("ProvisionedThroughput", {})
            state = IndexState(
                name=index["IndexName"],
                keys=decode_keys(index["KeySchema"], types),
                projection=show_projection(
                    index["Projection"]["ProjectionType"], index["Projection"].get("NonKeyAttributes", ())
                ),
                status=index.get("IndexStatus", "ACTIVE"),
                read_units=units.get("ReadCapacityUnits", 0),
                write_units=units.get("WriteCapacityUnits", 0),
                local=kind == "LocalSecondaryIndexes",
            )
            found.append(state)
    return tuple(sorted(found, key=lambda index: index.name))


def scaling_id(table: str, index: str) -> str:
    return f"table/{table}/index/{index}" if index else f"table/{table}"


def tracks(policy: Mapping[str, Any], dimension: Dimension) -> bool:
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    return bool(tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType") == METRICS[dimension])


def decode_scaling(index: str, target: Mapping[str, Any], policies: list[dict[str, Any]]) -> ScalingState:
    dimension: Dimension = "read" if target["ScalableDimension"].endswith(UNITS["read"]) else "write"
    ours = [p for p in policies if p["ScalableDimension"] == target["ScalableDimension"] and tracks(p, dimension)]
    percent = int(ours[0]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]) if ours else None
    return ScalingState(
        index=index,
        dimension=dimension,
        min_units=target["MinCapacity"],
        max_units=target["MaxCapacity"],
        target_percent=percent,
    )
