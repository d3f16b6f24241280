"""DAX's control plane, and the EC2 and IAM questions that come before it.

Never tried against anything that answers: subnet groups, parameter groups, UpdateCluster (moto replies HTTP 500 to all of them).
A group that cannot be read raises Unavailable, unless it is one of AWS's own `default...` groups, which docferry
neither makes nor changes: that one is reported as unverified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from botocore.config import Config
from botocore.session import Session

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none
from docferry.core.estate.dax_state import DaxClusterState, DaxGroupState, DaxState
from docferry.core.estate.values import Action, DaxSpec, EstateStep
from docferry.errors import PreflightFailed, Problem, TransientStoreError


class DaxControl:
    """One region's DAX clusters. Clients are made on first use: a file without DAX needs none of the permissions."""

    def __init__(self, session: Session, region: str, config: Config) -> None:
        self._session, self._region, self._config = session, region, config

    def fetch(self, spec: DaxSpec) -> DaxState:
        """The cluster and its groups. Raises: StoreError; Unavailable for a group, not a default one, that will not be read."""
        unverified: list[str] = []
        subnets = self._fetch_group(spec.subnet_group, self._fetch_subnet_group, unverified)
        parameters = self._fetch_group(spec.parameter_group, self._fetch_parameter_group, unverified)
        cluster = self._fetch_cluster(spec, unverified)
        return DaxState(cluster=cluster, subnet_group=subnets, parameter_group=parameters, unverified=tuple(unverified))

    def check(self, spec: DaxSpec) -> None:
        """Security groups, subnets and the role must exist before anything is created.

        Raises: PreflightFailed with all problems at once; StoreError when AWS could not be asked.
        """
        problems = [*self._check_security_groups(spec), *self._check_role(spec), *self._check_subnets(spec)]
        if spec.parameters and spec.parameter_group.startswith("default."):
            what = f"parameters are given, but {spec.parameter_group} is AWS's own and cannot be changed"
            problems.append(Problem(where="dax.parameters", what=what, suggestion="name a parameter_group"))
        if problems:
            raise PreflightFailed(f"DAX cluster {spec.cluster}", problems)

    def apply(self, step: EstateStep, spec: DaxSpec) -> None:
        """One step; KeyError for one that is not DAX's."""
        actions: Mapping[Action, Callable[[], object]] = {
            Action.CREATE_SUBNET_GROUP: lambda: self._create_subnet_group(spec),
            Action.SET_SUBNETS: lambda: call(
                self._dax.update_subnet_group, SubnetGroupName=spec.subnet_group, SubnetIds=list(spec.subnets)
            ),
            Action.CREATE_PARAMETER_GROUP: lambda: call(
                self._dax.create_parameter_group, ParameterGroupName=spec.parameter_group, Description=spec.description
            ),
            Action.SET_PARAMETERS: lambda: self._set_parameters(spec),
            Action.CREATE_CLUSTER: lambda: call(self._dax.create_cluster, **encode_cluster(spec)),
            Action.SET_NODES: lambda: self._set_nodes(spec, int(step.detail)),
            Action.SET_CLUSTER_GROUPS: lambda: call(
                self._dax.update_cluster,
                ClusterName=spec.cluster,
                SecurityGroupIds=list(spec.security_groups),
                ParameterGroupName=spec.parameter_group,
            ),
            Action.SET_CLUSTER_TAGS: lambda: self._set_tags(spec),
        }
        actions[step.action]()

    # --- questions ---

    def _fetch_group(
        self, name: str, fetch: Callable[[str], DaxGroupState | None], unverified: list[str]
    ) -> DaxGroupState | None:
        try:
            return fetch(name)
        except TransientStoreError as error:
            if name != "default" and not name.startswith("default."):
                raise
            unverified.append(f"group {name} could not be read ({error.code}); it is AWS's own and is taken as it is")
            return DaxGroupState(name=name, readable=False)

    def _fetch_subnet_group(self, name: str) -> DaxGroupState | None:
        reply = call_or_none(self._dax.describe_subnet_groups, "SubnetGroupNotFoundFault", SubnetGroupNames=[name])
        if reply is None or not reply["SubnetGroups"]:
            return None
        group = reply["SubnetGroups"][0]
        values = {subnet["SubnetIdentifier"]: "" for subnet in group.get("Subnets", ())}
        return DaxGroupState(name=name, values=values, description=group.get("Description", ""))

    def _fetch_parameter_group(self, name: str) -> DaxGroupState | None:
        missing = "ParameterGroupNotFoundFault"
        reply = call_or_none(self._dax.describe_parameter_groups, missing, ParameterGroupNames=[name])
        if reply is None or not reply["ParameterGroups"]:
            return None
        values: dict[str, str] = {}
        page: dict[str, Any] = {}
        while True:
            parameters = call(self._dax.describe_parameters, ParameterGroupName=name, **page)
            values |= {p["ParameterName"]: p.get("ParameterValue", "") for p in parameters["Parameters"]}
            if not parameters.get("NextToken"):
                break
            page = {"NextToken": parameters["NextToken"]}
        return DaxGroupState(name=name, values=values, description=reply["ParameterGroups"][0].get("Description", ""))

    def _fetch_cluster(self, spec: DaxSpec, unverified: list[str]) -> DaxClusterState | None:
        reply = call_or_none(self._dax.describe_clusters, "ClusterNotFoundFault", ClusterNames=[spec.cluster])
        if reply is None or not reply["Clusters"]:
            return None
        cluster = reply["Clusters"][0]
        tags = {tag["Key"]: tag["Value"] for tag in self._fetch_tags(cluster["ClusterArn"])}
        groups: tuple[str, ...] | None = tuple(g["SecurityGroupIdentifier"] for g in cluster.get("SecurityGroups", ()))
        if set(groups or ()) != set(spec.security_groups) and self._unknown_groups(groups or ()):
            # A group in use cannot be deleted, so AWS never names one that does not exist: this answer proves nothing.
            unverified.append(f"security groups: the cluster names {', '.join(groups or ())}, which EC2 does not know")
            groups = None
        return decode_cluster(cluster, groups, tags)

    def _fetch_tags(self, arn: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        page: dict[str, Any] = {}
        while True:
            reply = call_or_none(
                self._dax.list_tags, "ClusterNotFoundFault", "InvalidClusterStateFault", ResourceName=arn, **page
            )
            found += (reply or {}).get("Tags", [])
            if not (reply or {}).get("NextToken"):
                return found
            page = {"NextToken": (reply or {})["NextToken"]}

    def _unknown_groups(self, groups: tuple[str, ...]) -> list[str]:
        absent = ("InvalidGroup.NotFound", "InvalidGroupId.Malformed")
        return [g for g in groups if call_or_none(self._ec2.describe_security_groups, *absent, GroupIds=[g]) is None]

    def _check_security_groups(self, spec: DaxSpec) -> list[Problem]:
        unknown = self._unknown_groups(spec.security_groups)
        return [Problem(where="dax.security_groups", what=f"EC2 knows no security group {group}") for group in unknown]

    def _check_role(self, spec: DaxSpec) -> list[Problem]:
        reply = call_or_none(self._iam.get_role, "NoSuchEntity", RoleName=spec.role_arn.rsplit("/", 1)[-1])
        if reply is None:
            return [Problem(where="dax.role_arn", what=f"IAM knows no role {spec.role_arn}")]
        arn = reply["Role"]["Arn"]
        return [] if arn == spec.role_arn else [Problem(where="dax.role_arn", what=f"the role of that name is {arn}")]

    def _check_subnets(self, spec: DaxSpec) -> list[Problem]:
        absent = ("InvalidSubnetID.NotFound", "InvalidSubnetId.Malformed")
        problems = [
            Problem(where="dax.subnets", what=f"EC2 knows no subnet {subnet}")
            for subnet in spec.subnets
            if call_or_none(self._ec2.describe_subnets, *absent, SubnetIds=[subnet]) is None
        ]
        if not spec.subnets and self._fetch_group(spec.subnet_group, self._fetch_subnet_group, []) is None:
            what = f"there is no subnet group {spec.subnet_group}, and no subnets are given to make it of"
            problems.append(Problem(where="dax.subnet_group", what=what, suggestion="list dax.subnets"))
        return problems

    # --- changes ---

    def _create_subnet_group(self, spec: DaxSpec) -> None:
        call(
            self._dax.create_subnet_group,
            SubnetGroupName=spec.subnet_group,
            Description=spec.description,
            SubnetIds=list(spec.subnets),
        )

    def _set_parameters(self, spec: DaxSpec) -> None:
        values = [{"ParameterName": name, "ParameterValue": value} for name, value in sorted(spec.parameters.items())]
        call(self._dax.update_parameter_group, ParameterGroupName=spec.parameter_group, ParameterNameValues=values)

    def _set_nodes(self, spec: DaxSpec, have: int) -> None:
        grow = spec.nodes > have
        operation = self._dax.increase_replication_factor if grow else self._dax.decrease_replication_factor
        call(operation, ClusterName=spec.cluster, NewReplicationFactor=spec.nodes)

    def _set_tags(self, spec: DaxSpec) -> None:
        cluster = call(self._dax.describe_clusters, ClusterNames=[spec.cluster])["Clusters"][0]
        tags = [{"Key": key, "Value": value} for key, value in sorted(spec.tags.items())]
        call(self._dax.tag_resource, ResourceName=cluster["ClusterArn"], Tags=tags)

    @cached_property
    def _dax(self) -> Any:
        return aws_client(self._session.create_client, "dax", region_name=self._region, config=self._config)

    @cached_property
    def _ec2(self) -> Any:
        return aws_client(self._session.create_client, "ec2", region_name=self._region, config=self._config)

    @cached_property
    def _iam(self) -> Any:
        return aws_client(self._session.create_client, "iam", region_name=self._region, config=self._config)


def encode_cluster(spec: DaxSpec) -> dict[str, Any]:
    """CreateCluster's arguments. Encryption in the file means both at rest and in transit."""
    return {
        "ClusterName": spec.cluster,
        "NodeType": spec.node_type,
        "ReplicationFactor": spec.nodes,
        "IamRoleArn": spec.role_arn,
        "SubnetGroupName": spec.subnet_group,
        "SecurityGroupIds": list(spec.security_groups),
        "ParameterGroupName": spec.parameter_group,
        "SSESpecification": {"Enabled": spec.encryption},
        "ClusterEndpointEncryptionType": "TLS" if spec.encryption else "NONE",
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(spec.tags.items())],
    }


def decode_cluster(
    cluster: Mapping[str, Any], groups: tuple[str, ...] | None, tags: Mapping[str, str]
) -> DaxClusterState:
    """DescribeClusters' entry as our value. `groups` None: not believable."""
    return DaxClusterState(
        name=cluster["ClusterName"],
        status=cluster["Status"],
        node_type=cluster["NodeType"],
        nodes=cluster["TotalNodes"],
        subnet_group=cluster["SubnetGroup"],
        parameter_group=cluster["ParameterGroup"]["ParameterGroupName"],
        security_groups=groups,
        role_arn=cluster["IamRoleArn"],
        encryption_at_rest=cluster.get("SSEDescription", {}).get("Status") in {"ENABLED", "ENABLING"},
        encryption_in_transit=cluster.get("ClusterEndpointEncryptionType") == "TLS",
        tags=tags,
        endpoint=cluster.get("ClusterDiscoveryEndpoint", {}).get("URL", ""),
    )
