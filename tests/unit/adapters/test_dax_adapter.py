"""DAX operations that no emulator knows, against botocore's own model of the service with canned answers.

It proves the requests well formed and the answers decoded; it cannot prove that AWS agrees (docs/resources.md says so).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from docferry.adapters.aws.dax import DaxControl
from docferry.core.estate.dax import plan_dax
from docferry.core.estate.dax_state import DaxGroupState, DaxState
from docferry.core.estate.values import Action, DaxSpec, EstateStep
from docferry.errors import Unavailable

SPEC = DaxSpec(
    cluster="cache",
    node_type="dax.r5.large",
    nodes=3,
    subnet_group="nets",
    subnets=("subnet-1", "subnet-2"),
    parameter_group="tuned",
    parameters={"query-ttl-millis": "1000"},
    security_groups=("sg-1",),
    role_arn="arn:aws:iam::123456789012:role/dax",
    tags={"Project": "migration"},
)
ARN = "arn:aws:dax:us-east-1:123456789012:cache/cache"


@pytest.fixture
def control() -> DaxControl:
    session = botocore.session.Session()
    session.set_credentials("test", "test")
    return DaxControl(session, "us-east-1", Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def dax(control: DaxControl) -> Iterator[Stubber]:
    with Stubber(control._dax) as stub:
        yield stub
        stub.assert_no_pending_responses()


def apply(control: DaxControl, action: Action, detail: str = "") -> None:
    control.apply(EstateStep(resource="x", action=action, spec=SPEC, detail=detail), SPEC)


REQUESTS: dict[Action, tuple[str, dict[str, Any]]] = {
    Action.CREATE_SUBNET_GROUP: (
        "create_subnet_group",
        {"SubnetGroupName": "nets", "Description": SPEC.description, "SubnetIds": ["subnet-1", "subnet-2"]},
    ),
    Action.SET_SUBNETS: ("update_subnet_group", {"SubnetGroupName": "nets", "SubnetIds": ["subnet-1", "subnet-2"]}),
    Action.CREATE_PARAMETER_GROUP: (
        "create_parameter_group",
        {"ParameterGroupName": "tuned", "Description": SPEC.description},
    ),
    Action.SET_PARAMETERS: (
        "update_parameter_group",
        {
            "ParameterGroupName": "tuned",
            "ParameterNameValues": [{"ParameterName": "query-ttl-millis", "ParameterValue": "1000"}],
        },
    ),
    Action.SET_CLUSTER_GROUPS: (
        "update_cluster",
        {"ClusterName": "cache", "SecurityGroupIds": ["sg-1"], "ParameterGroupName": "tuned"},
    ),
}


@pytest.mark.parametrize("action", REQUESTS)
def test_apply_sends_what_the_service_model_accepts(control: DaxControl, dax: Stubber, action: Action) -> None:
    operation, expected = REQUESTS[action]
    dax.add_response(operation, {}, expected)
    apply(control, action)


@pytest.mark.parametrize(
    ("have", "operation"), [("2", "increase_replication_factor"), ("5", "decrease_replication_factor")]
)
def test_apply_changes_the_number_of_nodes_both_ways(
    control: DaxControl, dax: Stubber, have: str, operation: str
) -> None:
    dax.add_response(operation, {}, {"ClusterName": "cache", "NewReplicationFactor": 3})
    apply(control, Action.SET_NODES, have)


def test_fetch_when_all_is_as_asked_plans_nothing(control: DaxControl, dax: Stubber) -> None:
    parameter = {"ParameterName": "query-ttl-millis", "ParameterValue": "1000"}
    other = {"ParameterName": "record-ttl-millis", "ParameterValue": "300000"}
    subnets = [{"SubnetIdentifier": "subnet-2"}, {"SubnetIdentifier": "subnet-1"}]
    dax.add_response("describe_subnet_groups", {"SubnetGroups": [{"SubnetGroupName": "nets", "Subnets": subnets}]})
    dax.add_response("describe_parameter_groups", {"ParameterGroups": [{"ParameterGroupName": "tuned"}]})
    dax.add_response("describe_parameters", {"Parameters": [other], "NextToken": "more"})
    dax.add_response("describe_parameters", {"Parameters": [parameter]})
    cluster = {
        "ClusterName": "cache",
        "ClusterArn": ARN,
        "TotalNodes": 3,
        "NodeType": "dax.r5.large",
        "Status": "available",
        "SubnetGroup": "nets",
        "SecurityGroups": [{"SecurityGroupIdentifier": "sg-1"}],
        "IamRoleArn": SPEC.role_arn,
        "ParameterGroup": {"ParameterGroupName": "tuned"},
        "SSEDescription": {"Status": "ENABLED"},
        "ClusterEndpointEncryptionType": "TLS",
    }
    dax.add_response("describe_clusters", {"Clusters": [cluster]})
    dax.add_response("list_tags", {"Tags": [{"Key": "Project", "Value": "migration"}]})
    plan = plan_dax(SPEC, control.fetch(SPEC))
    assert (plan.steps, plan.blocked, plan.unverified) == ((), (), ())


def test_fetch_when_nothing_exists_says_none(control: DaxControl, dax: Stubber) -> None:
    for operation, code in (
        ("describe_subnet_groups", "SubnetGroupNotFoundFault"),
        ("describe_parameter_groups", "ParameterGroupNotFoundFault"),
        ("describe_clusters", "ClusterNotFoundFault"),
    ):
        dax.add_client_error(operation, code, "text", 400)
    assert control.fetch(SPEC) == DaxState(cluster=None, subnet_group=None, parameter_group=None)


def test_fetch_when_a_group_of_ours_cannot_be_read_raises(control: DaxControl, dax: Stubber) -> None:
    dax.add_client_error("describe_subnet_groups", "500", "<!doctype html>", 500)
    with pytest.raises(Unavailable):
        control.fetch(SPEC)


def test_fetch_when_a_default_group_cannot_be_read_says_unverified(control: DaxControl, dax: Stubber) -> None:
    named = {**{f: getattr(SPEC, f) for f in ("cluster", "node_type", "nodes", "security_groups", "role_arn")}}
    spec = DaxSpec(**named, subnet_group="default")
    dax.add_client_error("describe_subnet_groups", "500", "<!doctype html>", 500)
    dax.add_client_error("describe_parameter_groups", "500", "<!doctype html>", 500)
    dax.add_client_error("describe_clusters", "ClusterNotFoundFault", "text", 400)
    state = control.fetch(spec)
    assert state.subnet_group == DaxGroupState(name="default", readable=False)
    assert len(state.unverified) == 2
