"""The estate as a CloudFormation template of the target's region. What `provision` finds of its stack it leaves as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docferry.core.estate.keys import attribute_definitions, key_schema, keys_of, projection_of
from docferry.core.estate.kinds.alarms import Alarm, Topic
from docferry.core.estate.kinds.backup import COMPLIANCE_GRACE_DAYS, BackupPlan, BackupSelection, Vault
from docferry.core.estate.kinds.dashboard import Dashboard
from docferry.core.estate.kinds.functions import EventSourceMapping
from docferry.core.estate.kinds.keys import KmsKey
from docferry.core.estate.resources import AwsPlace, Resource, tag_list
from docferry.core.estate.templates.parts import (
    EstateTemplate,
    TableParts,
    Verbatim,
    camel,
    left_out,
    own_resources,
    referring,
    table_parts,
)
from docferry.core.estate.values import STREAM_VIEW, DaxSpec, DesiredEstate, ScalingState, TableSpec
from docferry.errors import InvariantBroken

Made = tuple[str, str, dict[str, Any]]
"""(logical id, type, properties)"""
KEPT = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
"""What holds data, or opens it, outlives the stack."""


def cloudformation(desired: DesiredEstate, place: AwsPlace) -> EstateTemplate:
    """Of one stack."""
    made: list[Made] = []
    references: dict[str, Any] = {}
    for table in table_parts(desired, place):
        made += _table(table)
        references[table.arn] = {"Fn::GetAtt": [camel("Table", table.spec.name), "Arn"]}
    for one in own_resources(desired):
        made += _resource(one, place)
        references |= _references(one)
    if desired.dax is not None:
        made += _dax(desired.dax)
    found: dict[str, dict[str, Any]] = {
        name: {"Type": kind, "Properties": referring(properties, references)} for name, kind, properties in made
    }
    for entry in found.values():
        if entry["Type"] in ("AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::Backup::BackupVault"):
            entry.update(KEPT)
    body: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Made by docferry provision --format",
    }
    if missing := left_out(desired):
        body["Metadata"] = {"LeftOut": list(missing)}
    return EstateTemplate(document={**body, "Resources": found}, left_out=missing)


def _references(one: Resource) -> dict[str, Any]:
    if isinstance(one, KmsKey):
        return {one.name: {"Fn::GetAtt": [camel("Key", one.name), "Arn"]}}
    if isinstance(one, Topic):
        return {one.arn: {"Ref": camel("Topic", one.name)}}
    return {}


def _table(table: TableParts) -> Iterator[Made]:
    spec = table.spec
    logical = camel("Table", spec.name)
    properties: dict[str, Any] = {
        "TableName": spec.name,
        "AttributeDefinitions": _attributes(spec),
        "KeySchema": key_schema(spec.keys),
        **_billing(spec),
        "SSESpecification": _sse(spec),
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": spec.pitr},
        "TimeToLiveSpecification": {"AttributeName": spec.ttl_attribute, "Enabled": True},
        "DeletionProtectionEnabled": spec.deletion_protection,
        "Tags": tag_list({**spec.tags, **spec.owner_tag}),
        **_beside(table, ""),
    }
    if spec.stream:
        properties["StreamSpecification"] = {"StreamViewType": STREAM_VIEW}
    if spec.indexes:
        properties["GlobalSecondaryIndexes"] = [_index(table, index) for index in spec.indexes]
    yield logical, "AWS::DynamoDB::Table", properties
    for target in spec.scaling:
        yield from _scaling(spec, target, logical)


def _attributes(spec: TableSpec) -> list[dict[str, str]]:
    found = attribute_definitions([spec.keys, *(keys_of(spec.design(index).key) for index in spec.indexes)])
    return list({one["AttributeName"]: one for one in found}.values())


def _billing(spec: TableSpec) -> dict[str, Any]:
    mode = "PROVISIONED" if spec.billing == "provisioned" else "PAY_PER_REQUEST"
    return {"BillingMode": mode, **_throughput(spec)}


def _throughput(spec: TableSpec) -> dict[str, Any]:
    if spec.billing != "provisioned" or spec.capacity is None:
        return {}
    units = {"ReadCapacityUnits": spec.capacity.read_units, "WriteCapacityUnits": spec.capacity.write_units}
    return {"ProvisionedThroughput": units}


def _sse(spec: TableSpec) -> dict[str, Any]:
    if spec.encryption != "KMS":
        return {"SSEEnabled": False}
    return {"SSEEnabled": True, "SSEType": "KMS", **({"KMSMasterKeyId": spec.kms_key} if spec.kms_key else {})}


def _beside(table: TableParts, index: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if index in table.insights:
        found["ContributorInsightsSpecification"] = {"Enabled": True}
    if (warm := table.warm) is not None:
        found["WarmThroughput"] = {"ReadUnitsPerSecond": warm.read_units, "WriteUnitsPerSecond": warm.write_units}
    return found


def _index(table: TableParts, index: str) -> dict[str, Any]:
    design = table.spec.design(index)
    return {
        "IndexName": index,
        "KeySchema": key_schema(keys_of(design.key)),
        "Projection": projection_of(design),
        **_throughput(table.spec),
        **_beside(table, index),
    }


def _scaling(spec: TableSpec, target: ScalingState, table: str) -> Iterator[Made]:
    dimension = target.dimension.capitalize()
    logical = camel("Scaling", spec.name, target.index, target.dimension)
    kind = "index" if target.index else "table"
    where = f"table/{spec.name}" + (f"/index/{target.index}" if target.index else "")
    yield (
        logical,
        "AWS::ApplicationAutoScaling::ScalableTarget",
        {
            "ServiceNamespace": "dynamodb",
            "ResourceId": {"Fn::Sub": [where.replace(spec.name, "${Table}", 1), {"Table": {"Ref": table}}]},
            "ScalableDimension": f"dynamodb:{kind}:{dimension}CapacityUnits",
            "MinCapacity": target.min_units,
            "MaxCapacity": target.max_units,
        },
    )
    metric = {"PredefinedMetricType": f"DynamoDB{dimension}CapacityUtilization"}
    yield (
        f"{logical}Policy",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        {
            "PolicyName": f"docferry-{target.dimension}",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": {"Ref": logical},
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": target.target_percent,
                "PredefinedMetricSpecification": metric,
            },
        },
    )


def _resource(one: Resource, place: AwsPlace) -> Iterator[Made]:
    if isinstance(one, KmsKey):
        yield from _key(one, place)
    elif isinstance(one, Topic):
        yield camel("Topic", one.name), "AWS::SNS::Topic", {"TopicName": one.name, "Tags": tag_list(one.tags)}
    elif isinstance(one, Alarm):
        yield camel("Alarm", one.name), "AWS::CloudWatch::Alarm", {**one.arguments(), "Tags": tag_list(one.tags)}
    elif isinstance(one, Dashboard):
        body = {"DashboardName": one.name, "DashboardBody": one.document}
        yield camel("Dashboard", one.name), "AWS::CloudWatch::Dashboard", body
    elif isinstance(one, Vault):
        yield camel("Vault", one.name), "AWS::Backup::BackupVault", _vault(one)
    elif isinstance(one, BackupPlan):
        yield camel("Plan", one.name), "AWS::Backup::BackupPlan", _plan(one)
    elif isinstance(one, BackupSelection):
        where = {"BackupPlanId": {"Ref": camel("Plan", one.plan)}, "BackupSelection": one.document()}
        yield camel("Selection", one.name), "AWS::Backup::BackupSelection", where
    elif isinstance(one, EventSourceMapping):
        source = {
            "EventSourceArn": {"Fn::GetAtt": [camel("Table", one.table), "StreamArn"]},
            "StartingPosition": one.start,
        }
        properties = {**one.arguments(), **source, "Tags": tag_list(one.tags)}
        yield camel("Function", one.name), "AWS::Lambda::EventSourceMapping", properties
    else:
        raise InvariantBroken(f"no way to put {one.resource} into a template")


def _key(key: KmsKey, place: AwsPlace) -> Iterator[Made]:
    logical = camel("Key", key.name)
    account = {"AWS": f"arn:{place.partition}:iam::{place.account}:root"}
    allowed = {"Sid": "Account", "Effect": "Allow", "Principal": account, "Action": "kms:*", "Resource": "*"}
    yield (
        logical,
        "AWS::KMS::Key",
        {
            "Description": f"docferry: {key.name}",
            "MultiRegion": key.multi_region,
            "EnableKeyRotation": True,
            "KeyPolicy": {"Version": "2012-10-17", "Statement": [allowed]},
            "Tags": tag_list(key.tags),
        },
    )
    alias: dict[str, Any] = {"AliasName": Verbatim(key.name), "TargetKeyId": {"Ref": logical}}
    yield f"{logical}Alias", "AWS::KMS::Alias", alias


def _vault(vault: Vault) -> dict[str, Any]:
    found: dict[str, Any] = {"BackupVaultName": vault.name, "BackupVaultTags": dict(vault.tags)}
    if vault.kms_key:
        found["EncryptionKeyArn"] = vault.kms_key
    if (lock := vault.lock) is not None:
        grace = {"ChangeableForDays": COMPLIANCE_GRACE_DAYS} if lock.compliance else {}
        found["LockConfiguration"] = {"MinRetentionDays": lock.min_days, "MaxRetentionDays": lock.max_days, **grace}
    return found


def _plan(plan: BackupPlan) -> dict[str, Any]:
    vault = {"Ref": camel("Vault", plan.vault)}
    rules = [
        {**{k: v for k, v in rule.items() if k != "TargetBackupVaultName"}, "TargetBackupVault": vault}
        for rule in plan.document()["Rules"]
    ]
    body = {"BackupPlanName": plan.name, "BackupPlanRule": rules}
    return {"BackupPlan": body, "BackupPlanTags": dict(plan.tags)}


def _dax(spec: DaxSpec) -> Iterator[Made]:
    subnets: Any = spec.subnet_group
    parameters: Any = spec.parameter_group
    if spec.subnets:
        subnets = {"Ref": "DaxSubnets"}
        group: dict[str, Any] = {"SubnetGroupName": spec.subnet_group, "SubnetIds": list(spec.subnets)}
        yield "DaxSubnets", "AWS::DAX::SubnetGroup", group
    if spec.parameters:
        parameters = {"Ref": "DaxParameters"}
        values: dict[str, Any] = {
            "ParameterGroupName": spec.parameter_group,
            "ParameterNameValues": dict(spec.parameters),
        }
        yield "DaxParameters", "AWS::DAX::ParameterGroup", values
    cluster: Mapping[str, Any] = {
        "ClusterName": spec.cluster,
        "NodeType": spec.node_type,
        "ReplicationFactor": spec.nodes,
        "IAMRoleARN": spec.role_arn,
        "SubnetGroupName": subnets,
        "ParameterGroupName": parameters,
        "SecurityGroupIds": list(spec.security_groups),
        "SSESpecification": {"SSEEnabled": spec.encryption},
        "ClusterEndpointEncryptionType": "TLS" if spec.encryption else "NONE",
        "Tags": dict(spec.tags),
    }
    yield "DaxCluster", "AWS::DAX::Cluster", dict(cluster)
