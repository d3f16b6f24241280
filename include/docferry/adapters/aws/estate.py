"""DynamoDB's and Application Auto Scaling's control planes behind `ports.flows.Estate`. DAX is in `dax.py`.

Endpoints and credentials come from the session (AWS_ENDPOINT_URL_* or its configuration). Reads are consistent as far
as AWS offers it: tags and PITR are eventually so, which is why the flow polls until what it reads is what it asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from botocore.config import Config
from botocore.session import Session

from docferry.adapters.aws.control.calls import ControlPlane
from docferry.adapters.aws.control.table_state import (
    METRICS,
    UNITS,
    billing_of,
    decode_scaling,
    decode_table,
    scaling_id,
    tracks,
)
from docferry.adapters.aws.dax import DaxControl
from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none
from docferry.core.estate.dax_state import DaxState
from docferry.core.estate.keys import (
    attribute_definitions,
    key_schema,
    keys_of,
    projection_of,
)
from docferry.core.estate.replicas import replica_key
from docferry.core.estate.resource_plan import call_of
from docferry.core.estate.resources import MARKER, AwsCall, Resource
from docferry.core.estate.tables import creation_tags
from docferry.core.estate.values import (
    REPLICA_MARKER,
    STREAM_VIEW,
    Action,
    DaxSpec,
    EstateStep,
    ScalingState,
    TableSpec,
    TableState,
)
from docferry.errors import InvariantBroken

CONTROL_PLANE = Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=5, read_timeout=30)
"""Seconds. Few attempts: the flow looks again and re-plans, which knows more than a blind repetition."""

_MISSING = "ResourceNotFoundException"


class AwsEstate:
    """`ports.flows.Estate` for one account. Clients are made on first use, one a service and region."""

    def __init__(self, session: Session, region: str) -> None:
        self._session, self._region = session, region
        self._dynamodb: dict[str, Any] = {}

    def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
        """See the port. At most six calls; a table that is still being created is described by DescribeTable alone."""
        client = self._client(region)
        found = call_or_none(client.describe_table, _MISSING, TableName=name)
        if found is None:
            return None
        table = found["Table"]
        return decode_table(
            table,
            tags=self._fetch_tags(client, table["TableArn"]),
            backups=call_or_none(client.describe_continuous_backups, "TableNotFoundException", TableName=name) or {},
            ttl=call_or_none(client.describe_time_to_live, _MISSING, TableName=name) or {},
            # A replica's autoscaling follows the first region's: asked there only.
            scaling=self._fetch_scaling(table) if region in {None, self._region} else (),
        )

    def resolve_key(self, key: str) -> str:
        if ":key/" in key:
            return key
        kms = aws_client(self._session.create_client, "kms", region_name=self._region, config=CONTROL_PLANE)
        return str(call(kms.describe_key, KeyId=key)["KeyMetadata"]["Arn"])

    def fetch_dax(self, spec: DaxSpec) -> DaxState:
        return self._dax.fetch(spec)

    def check_dax(self, spec: DaxSpec) -> None:
        self._dax.check(spec)

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        return self._calls.ask(call)

    def apply(self, step: EstateStep) -> None:
        spec = step.spec
        if isinstance(spec, Resource):
            self._calls.ask(call_of(step, self._calls.ask))
        elif isinstance(spec, DaxSpec):
            self._dax.apply(step, spec)
        elif step.action is Action.SET_SCALING:
            self._set_scaling(spec, step.detail)
        elif step.action is Action.REMOVE_SCALING:
            call(self._autoscaling.deregister_scalable_target, **_scalable(spec.name, step.detail))
        elif step.action in _UPDATES:
            call(self._client(step.region).update_table, TableName=spec.name, **_UPDATES[step.action](spec, step))
        elif step.action in _CALLS:
            _CALLS[step.action](self._client(step.region), spec, step)
        else:
            raise InvariantBroken(f"no way to apply '{step.action}' to {step.resource}")

    # --- inside ---

    @cached_property
    def _calls(self) -> ControlPlane:
        return ControlPlane(self._session, self._region, CONTROL_PLANE)

    @cached_property
    def _dax(self) -> DaxControl:
        return DaxControl(self._session, self._region, CONTROL_PLANE)

    @cached_property
    def _autoscaling(self) -> Any:
        return aws_client(
            self._session.create_client, "application-autoscaling", region_name=self._region, config=CONTROL_PLANE
        )

    def _client(self, region: str | None) -> Any:
        where = region or self._region
        if where not in self._dynamodb:
            self._dynamodb[where] = aws_client(
                self._session.create_client, "dynamodb", region_name=where, config=CONTROL_PLANE
            )
        return self._dynamodb[where]

    @staticmethod
    def _fetch_tags(client: Any, arn: str) -> dict[str, str]:
        tags: dict[str, str] = {}
        page: dict[str, Any] = {}
        while True:
            reply = call_or_none(client.list_tags_of_resource, _MISSING, ResourceArn=arn, **page) or {}
            tags |= {tag["Key"]: tag["Value"] for tag in reply.get("Tags", ())}
            if "NextToken" not in reply:
                return tags
            page = {"NextToken": reply["NextToken"]}

    def _fetch_scaling(self, table: Mapping[str, Any]) -> tuple[ScalingState, ...]:
        """Only of a provisioned table: an on-demand one has none, and needs no permission for the service."""
        if billing_of(table) != "PROVISIONED":
            return ()
        indexes = ["", *(index["IndexName"] for index in table.get("GlobalSecondaryIndexes", ()))]
        found = []
        for index in indexes:
            resource = scaling_id(table["TableName"], index)
            where = {"ServiceNamespace": "dynamodb", "ResourceIds": [resource]}
            targets = call(self._autoscaling.describe_scalable_targets, **where)["ScalableTargets"]
            policies = self._fetch_policies(resource)
            found += [decode_scaling(index, target, policies) for target in targets]
        return tuple(sorted(found, key=lambda target: target.detail))

    def _fetch_policies(self, resource: str) -> list[dict[str, Any]]:
        where = {"ServiceNamespace": "dynamodb", "ResourceId": resource}
        found = call(self._autoscaling.describe_scaling_policies, **where)["ScalingPolicies"]
        # An answer may hold more: asked about an index, moto returns the table's policies, too.
        return [policy for policy in found if policy["ResourceId"] == resource]

    def _set_scaling(self, spec: TableSpec, detail: str) -> None:
        """The target, then its policy. An existing policy for the same metric keeps its name: AWS allows one."""
        want = next(target for target in spec.scaling if target.detail == detail)
        where = _scalable(spec.name, detail)
        limits = {"MinCapacity": want.min_units, "MaxCapacity": want.max_units}
        call(self._autoscaling.register_scalable_target, **where, **limits)
        policies = self._fetch_policies(where["ResourceId"])
        names = [p["PolicyName"] for p in policies if tracks(p, want.dimension)]
        tracking = {
            "TargetValue": float(want.target_percent or 0),
            "PredefinedMetricSpecification": {"PredefinedMetricType": METRICS[want.dimension]},
        }
        call(
            self._autoscaling.put_scaling_policy,
            **where,
            PolicyName=names[0] if names else f"docferry-{want.dimension}",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
        )


def _scalable(table: str, detail: str) -> dict[str, str]:
    """What Application Auto Scaling calls a target, from its 'index/dimension'."""
    index, _, dimension = detail.partition("/")
    units = UNITS["read" if dimension == "read" else "write"]
    return {
        "ServiceNamespace": "dynamodb",
        "ResourceId": scaling_id(table, index),
        "ScalableDimension": f"dynamodb:{'index' if index else 'table'}:{units}",
    }


# --- our words -> AWS's ----------------------------------------------------------------------------------------------


def encode_create(spec: TableSpec) -> dict[str, Any]:
    """CreateTable's arguments: all that it can do at once, and the marker that says the rest is to come."""
    keys = [spec.keys, *(keys_of(spec.design(index).key) for index in spec.indexes)]
    request: dict[str, Any] = {
        "TableName": spec.name,
        "AttributeDefinitions": attribute_definitions(keys),
        "KeySchema": key_schema(spec.keys),
        "StreamSpecification": _stream(spec),
        "SSESpecification": _sse(spec),
        "DeletionProtectionEnabled": spec.deletion_protection,
        "Tags": encode_tags(creation_tags(spec)),
        **_billing_mode(spec),
    }
    if spec.indexes:
        request["GlobalSecondaryIndexes"] = [_index(spec, index) for index in spec.indexes]
    return request


def encode_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _throughput(spec: TableSpec) -> dict[str, Any]:
    if spec.billing != "provisioned" or spec.capacity is None:
        return {}
    units = {"ReadCapacityUnits": spec.capacity.read_units, "WriteCapacityUnits": spec.capacity.write_units}
    return {"ProvisionedThroughput": units}


def _billing_mode(spec: TableSpec) -> dict[str, Any]:
    return {"BillingMode": "PROVISIONED" if spec.billing == "provisioned" else "PAY_PER_REQUEST", **_throughput(spec)}


def _index(spec: TableSpec, index: str) -> dict[str, Any]:
    design = spec.design(index)
    return {
        "IndexName": index,
        "KeySchema": key_schema(keys_of(design.key)),
        "Projection": projection_of(design),
        **_throughput(spec),
    }


def _stream(spec: TableSpec) -> dict[str, Any]:
    return {"StreamEnabled": True, "StreamViewType": STREAM_VIEW} if spec.stream else {"StreamEnabled": False}


def _sse(spec: TableSpec) -> dict[str, Any]:
    if spec.encryption != "KMS":
        return {"Enabled": False}
    key = {"KMSMasterKeyId": spec.kms_key} if spec.kms_key else {}
    return {"Enabled": True, "SSEType": "KMS", **key}


def _update_billing(spec: TableSpec, step: EstateStep) -> dict[str, Any]:
    request = _billing_mode(spec)
    if step.detail:
        updates = [{"Update": {"IndexName": index, **_throughput(spec)}} for index in step.detail.split(",")]
        request["GlobalSecondaryIndexUpdates"] = updates
    return request


def _update_capacity(spec: TableSpec, step: EstateStep) -> dict[str, Any]:
    if not step.detail:
        return _throughput(spec)
    return {"GlobalSecondaryIndexUpdates": [{"Update": {"IndexName": step.detail, **_throughput(spec)}}]}


def _update_add_index(spec: TableSpec, step: EstateStep) -> dict[str, Any]:
    return {
        "AttributeDefinitions": attribute_definitions([spec.keys, keys_of(spec.design(step.detail).key)]),
        "GlobalSecondaryIndexUpdates": [{"Create": _index(spec, step.detail)}],
    }


def _update_replica(spec: TableSpec, step: EstateStep) -> dict[str, Any]:
    key = replica_key(spec, step.detail)
    create = {"RegionName": step.detail, **({"KMSMasterKeyId": key} if key else {})}
    return {"ReplicaUpdates": [{"Create": create}]}


_UPDATES: Mapping[Action, Callable[[TableSpec, EstateStep], dict[str, Any]]] = {
    Action.SET_BILLING: _update_billing,
    Action.SET_CAPACITY: _update_capacity,
    Action.ADD_INDEX: _update_add_index,
    Action.SET_STREAM: lambda spec, step: {"StreamSpecification": _stream(spec)},
    Action.SET_ENCRYPTION: lambda spec, step: {"SSESpecification": _sse(spec)},
    Action.SET_PROTECTION: lambda spec, step: {"DeletionProtectionEnabled": spec.deletion_protection},
    Action.CREATE_REPLICA: _update_replica,
    Action.UNPROTECT: lambda spec, step: {"DeletionProtectionEnabled": False},
    Action.REMOVE_REPLICA: lambda spec, step: {"ReplicaUpdates": [{"Delete": {"RegionName": step.detail}}]},
}
"""UpdateTable's arguments, one kind of change a call, as DynamoDB wants it."""


def _create(client: Any, spec: TableSpec, _step: EstateStep) -> None:
    call(client.create_table, **encode_create(spec))


def _import(client: Any, spec: TableSpec, detail: str) -> None:
    """`detail`: 'bucket/prefix token'."""
    place, _, token = detail.rpartition(" ")
    bucket, _, prefix = place.partition("/")
    made = {name: value for name, value in encode_create(spec).items() if name not in _NOT_BY_IMPORT}
    call(
        client.import_table,
        ClientToken=token,
        S3BucketSource={"S3Bucket": bucket, "S3KeyPrefix": prefix},
        InputFormat="DYNAMODB_JSON",
        InputCompressionType="GZIP",
        TableCreationParameters=made,
    )


_NOT_BY_IMPORT = frozenset({"StreamSpecification", "DeletionProtectionEnabled", "Tags"})
"""What CreateTable can set, and ImportTable cannot."""


def _delete(client: Any, spec: TableSpec) -> None:
    call(client.delete_table, TableName=spec.name)


def _set_pitr(client: Any, spec: TableSpec, _step: EstateStep) -> None:
    wanted = {"PointInTimeRecoveryEnabled": spec.pitr}
    call(client.update_continuous_backups, TableName=spec.name, PointInTimeRecoverySpecification=wanted)


def _set_ttl(client: Any, spec: TableSpec, _step: EstateStep) -> None:
    wanted = {"Enabled": True, "AttributeName": spec.ttl_attribute}
    call(client.update_time_to_live, TableName=spec.name, TimeToLiveSpecification=wanted)


def _tag(client: Any, spec: TableSpec, tags: Mapping[str, str], off: Sequence[str] = ()) -> None:
    arn = str(call(client.describe_table, TableName=spec.name)["Table"]["TableArn"])
    if tags:
        call(client.tag_resource, ResourceArn=arn, Tags=encode_tags(tags))
    if off:
        call(client.untag_resource, ResourceArn=arn, TagKeys=list(off))


_CALLS: Mapping[Action, Callable[[Any, TableSpec, EstateStep], None]] = {
    Action.CREATE_TABLE: _create,
    Action.IMPORT_TABLE: lambda client, spec, step: _import(client, spec, step.detail),
    Action.DELETE_TABLE: lambda client, spec, step: _delete(client, spec),
    Action.SET_PITR: _set_pitr,
    Action.SET_TTL: _set_ttl,
    Action.SET_TAGS: lambda client, spec, step: _tag(client, spec, spec.tags),
    Action.FINISH: lambda client, spec, step: _tag(client, spec, {}, [MARKER]),
    Action.CLAIM_TABLE: lambda client, spec, step: _tag(client, spec, spec.owner_tag),
    Action.RELEASE_TABLE: lambda client, spec, step: _tag(client, spec, {}, [step.detail]),
    Action.BEGIN_REPLICA: lambda client, spec, step: _tag(client, spec, {REPLICA_MARKER: step.detail}),
    Action.FINISH_REPLICA: lambda client, spec, step: _tag(client, spec, {}, [REPLICA_MARKER]),
}
