"""AWS refuses to make a resource, of each kind: the error names it and what to do. What is made at all is made with its tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import botocore.session
import pytest
from botocore import exceptions
from docferry.adapters.aws.control.calls import ControlPlane
from docferry.adapters.aws.estate import CONTROL_PLANE
from docferry.config import parse_migration
from docferry.core.estate.resource_plan import call_of
from docferry.core.estate.resources import AwsCall, Resource
from docferry.core.estate.values import DesiredEstate, EstateStep, LedgerTableSpec
from docferry.core.estate.wanted import Around
from docferry.errors import AccessDenied, MigrationError, QuotaUsedUp, RetryExhausted
from docferry.flows.provision.run import Patience, provision
from docferry.testing.fakes import FakeEstate
from docferry.wiring import desired
from support.provision.canned import hold_against_model
from support.provision.slow_estate import Quiet
from support.provision.whole import whole_file

HASTY = Patience(poll_s=0.001, settle_s=0.05, agree_s=0.1, trouble_s=0.0)
KINDS = {type(one): one for one in desired(parse_migration(whole_file("m").encode()), final=True).around.all}
QUOTA = {"Error": {"Code": "LimitExceededException", "Message": "A quota was exceeded"}}
DENIED = {"Error": {"Code": "AccessDeniedException", "Message": "User is not authorized"}}
ABROAD = {"Error": {"Code": "UnrecognizedClientException", "Message": "The security token is invalid"}}
NOWHERE = "https://backup.nowhere.amazonaws.com/"
PERMISSION = "docferry iam prints what is needed"


class NothingThere(FakeEstate):
    """Of what a kind looks for nothing is there; each request to make something meets `fault`."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self._control, self.sent = Refusing(fault), list[AwsCall]()

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        return None if call.absent else {}

    def apply(self, step: EstateStep) -> None:
        if not isinstance(step.spec, Resource):
            super().apply(step)
            return
        call = call_of(step, self.ask)
        self.sent.append(call)
        self._control.ask(call)


class Refusing(ControlPlane):
    """A control plane of one answer, which goes through the adapter's own table of errors."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(botocore.session.Session(), "us-east-1", CONTROL_PLANE)
        self._fault = fault

    def _client(self, service: str, region: str) -> Any:
        return _Client(self._fault)


class _Client:
    def __init__(self, fault: Exception) -> None:
        self._fault = fault

    def __getattr__(self, operation: str) -> Any:
        def refuse(**_: Any) -> Any:
            raise self._fault

        refuse.__name__ = operation
        return refuse


def provisioned(spec: Resource, fault: Exception) -> tuple[MigrationError, NothingThere]:
    estate = NothingThere(fault)
    wanted = DesiredEstate(region="us-east-1", tables=(LedgerTableSpec(name="L"),), around=Around(after=(spec,)))
    with pytest.raises(MigrationError) as caught:
        provision(wanted, estate, progress=Quiet(), stop=Quiet(), patience=HASTY)
    return caught.value, estate


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    ("fault", "error", "advice"),
    [
        (exceptions.ClientError(QUOTA, "Op"), QuotaUsedUp, "Ask AWS for more (Service Quotas)"),
        (exceptions.ClientError(DENIED, "Op"), AccessDenied, PERMISSION),
        (exceptions.ClientError(ABROAD, "Op"), AccessDenied, "a region that the account has not enabled"),
        (exceptions.EndpointConnectionError(endpoint_url=NOWHERE, error="no such host"), RetryExhausted, NOWHERE),
    ],
    ids=["quota", "permission", "region not enabled", "no such service there"],
)
def test_a_refusal_names_the_resource_and_what_to_do(
    kind: type[Resource], fault: Exception, error: type[MigrationError], advice: str
) -> None:
    spec = KINDS[kind]
    told, estate = provisioned(spec, fault)
    if error is QuotaUsedUp and estate.sent[0].service == "dynamodb":
        error, advice = (
            RetryExhausted,
            "A quota was exceeded",
        )  # of DynamoDB the code says that it is at work: waited for
    assert isinstance(told, error)
    assert f"{spec.resource}: create" in str(told)
    assert advice in str(told)
    assert len(estate.tables) == 1, "the ledger was made before, and stays"


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.__name__)
def test_the_request_that_makes_a_thing_bears_its_tags(kind: type[Resource]) -> None:
    spec = KINDS[kind]
    _, estate = provisioned(spec, exceptions.ClientError(DENIED, "Op"))
    (call,) = estate.sent
    hold_against_model(call)
    if spec.tags:
        assert "'migration'" in repr(call.arguments)
        assert all(name in repr(call.arguments) for name in spec.birth_tags)
