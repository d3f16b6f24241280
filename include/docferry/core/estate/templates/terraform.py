"""The estate as Terraform's JSON (`docferry.tf.json`), for the provider hashicorp/aws, in the target's region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docferry.core.estate.keys import attribute_definitions, keys_of, projection_of
from docferry.core.estate.kinds.alarms import Alarm, Topic
from docferry.core.estate.kinds.backup import COMPLIANCE_GRACE_DAYS, BackupPlan, BackupRule, BackupSelection, Vault
from docferry.core.estate.kinds.dashboard import Dashboard
from docferry.core.estate.kinds.functions import EventSourceMapping
from docferry.core.estate.kinds.keys import KmsKey
from docferry.core.estate.kinds.throughput import WarmThroughput
from docferry.core.estate.resources import AwsPlace, Resource
from docferry.core.estate.templates.parts import (
    EstateTemplate,
    TableParts,
    Verbatim,
    left_out,
    own_resources,
    referring,
    snake,
    table_parts,
)
from docferry.core.estate.values import STREAM_VIEW, DaxSpec, DesiredEstate, TableSpec
from docferry.errors import InvariantBroken

Made = tuple[str, str, dict[str, Any]]
"""(type, label, arguments)"""
PROVIDER = {"source": "hashicorp/aws", "version": ">= 5.100"}
"""Tried with 5.100.0."""


def terraform(desired: DesiredEstate, place: AwsPlace) -> EstateTemplate:
    """Of one module."""
    made: list[Made] = []
    references: dict[str, Any] = {}
    replicated = {one.table.name for one in desired.replicas}
    for table in table_parts(desired, place):
        made += _table(table, replicated=table.spec.name in replicated)
        references[table.arn] = Verbatim(f"${{aws_dynamodb_table.{snake(table.spec.name)}.arn}}")
    for one in own_resources(desired):
        made += _resource(one)
        references |= _references(one)
    if desired.dax is not None:
        made += _dax(desired.dax)
    resources: dict[str, dict[str, Any]] = {}
    for kind, label, arguments in made:
        resources.setdefault(kind, {})[label] = referring(arguments, references, _plain)
        if kind in _KEPT:
            resources[kind][label].setdefault("lifecycle", {})["prevent_destroy"] = True
    # `allowed_account_ids`: Terraform, too, refuses another account.
    account = {"allowed_account_ids": [place.account]} if place.account != "*" else {}
    missing = (*left_out(desired), *_unknown_to_the_provider(desired))
    body = {
        **({"//": f"Left out: {'; '.join(missing)}"} if missing else {}),
        "terraform": {"required_providers": {"aws": PROVIDER}},
        "provider": {"aws": {"region": place.region, **account}},
        "resource": resources,
    }
    return EstateTemplate(document=body, left_out=missing)


def _unknown_to_the_provider(desired: DesiredEstate) -> Iterator[str]:
    for one in desired.around.after:
        if isinstance(one, WarmThroughput):
            yield f"{one.resource}: the provider's table has no such argument in 5.100; docferry provision raises it"


def _plain(text: str) -> str:
    """A text within which Terraform sees no expression."""
    return text.replace("${", "$${").replace("%{", "%%{")


_KEPT = ("aws_dynamodb_table", "aws_kms_key", "aws_backup_vault")


def _references(one: Resource) -> dict[str, Any]:
    if isinstance(one, KmsKey):
        return {one.name: Verbatim(f"${{aws_kms_key.{snake(one.name)}.arn}}")}
    if isinstance(one, Topic):
        return {one.arn: Verbatim(f"${{aws_sns_topic.{snake(one.name)}.arn}}")}
    return {}


def _table(table: TableParts, *, replicated: bool) -> Iterator[Made]:
    spec, label = table.spec, snake(table.spec.name)
    keys = [spec.keys, *(keys_of(spec.design(index).key) for index in spec.indexes)]
    attributes = {one["AttributeName"]: one["AttributeType"] for one in attribute_definitions(keys)}
    arguments: dict[str, Any] = {
        "name": spec.name,
        "billing_mode": "PROVISIONED" if spec.billing == "provisioned" else "PAY_PER_REQUEST",
        **_keys(spec.keys),
        **_capacity(spec),
        "attribute": [{"name": name, "type": kind} for name, kind in attributes.items()],
        "point_in_time_recovery": {"enabled": spec.pitr},
        "ttl": {"attribute_name": spec.ttl_attribute, "enabled": True},
        "server_side_encryption": _sse(spec),
        "deletion_protection_enabled": spec.deletion_protection,
        "stream_enabled": spec.stream,
        "tags": {**spec.tags, **spec.owner_tag},
    }
    if spec.stream:
        arguments["stream_view_type"] = STREAM_VIEW
    if spec.indexes:
        arguments["global_secondary_index"] = [_index(table, index) for index in spec.indexes]
    if ignored := _ignored(spec, replicated=replicated):
        arguments["lifecycle"] = {"ignore_changes": ignored}
    yield "aws_dynamodb_table", label, arguments
    for index in sorted(table.insights):
        where = {
            "table_name": Verbatim(f"${{aws_dynamodb_table.{label}.name}}"),
            **({"index_name": index} if index else {}),
        }
        yield "aws_dynamodb_contributor_insights", snake(spec.name, index), where
    yield from _scaling(spec)


def _keys(keys: Any) -> dict[str, str]:
    return {{"HASH": "hash_key", "RANGE": "range_key"}[role]: name for name, role, _kind in keys}


def _capacity(spec: TableSpec) -> dict[str, int]:
    if spec.billing != "provisioned" or spec.capacity is None:
        return {}
    return {"read_capacity": spec.capacity.read_units, "write_capacity": spec.capacity.write_units}


def _sse(spec: TableSpec) -> dict[str, Any]:
    key = {"kms_key_arn": spec.kms_key} if spec.kms_key else {}
    return {"enabled": spec.encryption == "KMS", **key}


def _ignored(spec: TableSpec, *, replicated: bool) -> list[str]:
    """What others change, and Terraform would undo: autoscaling the capacity, docferry the replicas."""
    scaled = ["read_capacity", "write_capacity"] if spec.scaling else []
    indexes = ["global_secondary_index"] if spec.scaling and spec.indexes else []
    return [*scaled, *indexes, *(["replica"] if replicated else [])]


def _index(table: TableParts, index: str) -> dict[str, Any]:
    design = table.spec.design(index)
    projection = projection_of(design)
    included = projection.get("NonKeyAttributes")
    return {
        "name": index,
        **_keys(keys_of(design.key)),
        "projection_type": projection["ProjectionType"],
        **({"non_key_attributes": included} if included else {}),
        **_capacity(table.spec),
    }


def _scaling(spec: TableSpec) -> Iterator[Made]:
    for target in spec.scaling:
        label = snake(spec.name, target.index, target.dimension)
        dimension, kind = target.dimension.capitalize(), "index" if target.index else "table"
        name = Verbatim(f"${{aws_dynamodb_table.{snake(spec.name)}.name}}")
        where = {
            "service_namespace": "dynamodb",
            "resource_id": Verbatim(f"table/{name}" + (f"/index/{target.index}" if target.index else "")),
            "scalable_dimension": f"dynamodb:{kind}:{dimension}CapacityUnits",
        }
        limits = {"min_capacity": target.min_units, "max_capacity": target.max_units}
        yield "aws_appautoscaling_target", label, {**where, **limits}
        of = f"aws_appautoscaling_target.{label}"
        metric = {"predefined_metric_type": f"DynamoDB{dimension}CapacityUtilization"}
        tracking = {"target_value": target.target_percent, "predefined_metric_specification": metric}
        policy = {name: Verbatim(f"${{{of}.{name}}}") for name in where}
        yield (
            "aws_appautoscaling_policy",
            label,
            {
                "name": f"docferry-{target.dimension}",
                "policy_type": "TargetTrackingScaling",
                **policy,
                "target_tracking_scaling_policy_configuration": tracking,
            },
        )


def _resource(one: Resource) -> Iterator[Made]:
    label = snake(one.name)
    tags = {"tags": dict(one.tags)}
    if isinstance(one, KmsKey):
        about = {"description": f"docferry: {one.name}", "enable_key_rotation": True, "multi_region": one.multi_region}
        yield "aws_kms_key", label, {**about, **tags}
        alias = {"name": Verbatim(one.name)}
        yield "aws_kms_alias", label, {**alias, "target_key_id": Verbatim(f"${{aws_kms_key.{label}.key_id}}")}
    elif isinstance(one, Topic):
        yield "aws_sns_topic", label, {"name": one.name, **tags}
    elif isinstance(one, Alarm):
        yield "aws_cloudwatch_metric_alarm", label, {**_alarm(one), **tags}
    elif isinstance(one, Dashboard):
        body = {"dashboard_name": one.name, "dashboard_body": one.document}
        yield "aws_cloudwatch_dashboard", label, body
    elif isinstance(one, Vault):
        yield from _vault(one, label, tags)
    elif isinstance(one, BackupPlan):
        vault = Verbatim(f"${{aws_backup_vault.{snake(one.vault)}.name}}")
        yield "aws_backup_plan", label, {"name": one.name, "rule": [_rule(rule, vault) for rule in one.rules], **tags}
    elif isinstance(one, BackupSelection):
        where = {"name": one.name, "iam_role_arn": one.role_arn, "resources": list(one.tables)}
        yield (
            "aws_backup_selection",
            label,
            {**where, "plan_id": Verbatim(f"${{aws_backup_plan.{snake(one.plan)}.id}}")},
        )
    elif isinstance(one, EventSourceMapping):
        yield "aws_lambda_event_source_mapping", label, {**_function(one), **tags}
    else:
        raise InvariantBroken(f"no way to put {one.resource} into a template")


def _alarm(one: Alarm) -> dict[str, Any]:
    of = one.arguments()
    return {
        "alarm_name": one.name,
        "alarm_description": one.why,
        "namespace": one.namespace,
        "metric_name": one.metric,
        "dimensions": dict(one.dimensions),
        "statistic": one.statistic,
        "period": of["Period"],
        "evaluation_periods": one.minutes,
        "threshold": one.threshold,
        "comparison_operator": of["ComparisonOperator"],
        "treat_missing_data": one.missing,
        "alarm_actions": [one.topic],
        "ok_actions": [one.topic],
    }


def _vault(one: Vault, label: str, tags: Mapping[str, Any]) -> Iterator[Made]:
    key = {"kms_key_arn": one.kms_key} if one.kms_key else {}
    yield "aws_backup_vault", label, {"name": one.name, **key, **tags}
    if (lock := one.lock) is not None:
        grace = {"changeable_for_days": COMPLIANCE_GRACE_DAYS} if lock.compliance else {}
        days = {"min_retention_days": lock.min_days, "max_retention_days": lock.max_days, **grace}
        vault = Verbatim(f"${{aws_backup_vault.{label}.name}}")
        yield "aws_backup_vault_lock_configuration", label, {"backup_vault_name": vault, **days}


def _rule(rule: BackupRule, vault: str) -> dict[str, Any]:
    cold = {} if rule.cold_after_days is None else {"cold_storage_after": rule.cold_after_days}
    life = {"delete_after": rule.delete_after_days, **cold}
    copies = [{"destination_vault_arn": one, "lifecycle": life} for one in rule.copies]
    return {
        "rule_name": rule.name,
        "target_vault_name": vault,
        "schedule": rule.schedule,
        "lifecycle": life,
        **({"copy_action": copies} if copies else {}),
    }


def _function(one: EventSourceMapping) -> dict[str, Any]:
    failure = {"destination_config": {"on_failure": {"destination_arn": one.dead_letters}}} if one.dead_letters else {}
    filters = {"filter_criteria": {"filter": [{"pattern": text} for text in one.filters]}} if one.filters else {}
    return {
        "function_name": one.function,
        "event_source_arn": Verbatim(f"${{aws_dynamodb_table.{snake(one.table)}.stream_arn}}"),
        "starting_position": one.start,
        "batch_size": one.batch,
        "maximum_retry_attempts": one.retries,
        "bisect_batch_on_function_error": True,
        **failure,
        **filters,
    }


def _dax(spec: DaxSpec) -> Iterator[Made]:
    subnets, parameters = spec.subnet_group, spec.parameter_group
    if spec.subnets:
        subnets = Verbatim("${aws_dax_subnet_group.dax.name}")
        yield "aws_dax_subnet_group", "dax", {"name": spec.subnet_group, "subnet_ids": list(spec.subnets)}
    if spec.parameters:
        parameters = Verbatim("${aws_dax_parameter_group.dax.name}")
        values = [{"name": name, "value": value} for name, value in sorted(spec.parameters.items())]
        yield "aws_dax_parameter_group", "dax", {"name": spec.parameter_group, "parameters": values}
    arguments = {
        "cluster_name": spec.cluster,
        "node_type": spec.node_type,
        "replication_factor": spec.nodes,
        "iam_role_arn": spec.role_arn,
        "subnet_group_name": subnets,
        "parameter_group_name": parameters,
        "security_group_ids": list(spec.security_groups),
        "server_side_encryption": {"enabled": spec.encryption},
        "cluster_endpoint_encryption_type": "TLS" if spec.encryption else "NONE",
        "tags": dict(spec.tags),
    }
    yield "aws_dax_cluster", "dax", arguments
