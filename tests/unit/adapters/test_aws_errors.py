"""One table says what an AWS error means; here it is held against botocore's own models."""

from __future__ import annotations

import botocore.session
import pytest
from botocore import exceptions
from botocore.exceptions import ClientError
from docferry.adapters.aws.errors import ERRORS, call, call_or_none, error_for, error_for_sdk
from docferry.errors import (
    AccessDenied,
    ConditionFailed,
    PermanentStoreError,
    RequestRefused,
    TableMissing,
    Throttled,
    TimedOut,
    Unavailable,
)


@pytest.mark.parametrize("service", ["dynamodb", "dynamodbstreams", "dax", "application-autoscaling"])
def test_every_error_of_the_service_model_is_in_the_table(service: str) -> None:
    model = botocore.session.get_session().get_service_model(service)
    shapes = [model.shape_for(name) for name in model.shape_names]
    codes = {shape.error_code for shape in shapes if shape.metadata.get("exception")}
    assert codes, "a model without errors would prove nothing"
    assert not {code for code in codes if error_for("Op", code, "").code not in ERRORS}


CALLED = {
    "kms": ("CreateKey", "CreateAlias", "EnableKeyRotation", "ReplicateKey", "ScheduleKeyDeletion", "DeleteAlias", "TagResource"),
    "backup": ("CreateBackupVault", "PutBackupVaultLockConfiguration", "CreateBackupPlan", "UpdateBackupPlan",
               "CreateBackupSelection", "DeleteBackupVault", "DeleteBackupPlan", "DeleteBackupSelection", "TagResource"),
    "sns": ("CreateTopic", "TagResource", "DeleteTopic", "GetTopicAttributes"),
    "cloudwatch": ("PutMetricAlarm", "PutDashboard", "GetDashboard", "DeleteAlarms", "DeleteDashboards", "TagResource"),
    "lambda": ("CreateEventSourceMapping", "UpdateEventSourceMapping", "DeleteEventSourceMapping", "ListEventSourceMappings"),
}  # fmt: skip
ELSEWHERE = {
    "CloudHsmClusterInvalidConfigurationException",
    "CustomKeyStoreInvalidStateException",
    "CustomKeyStoreNotFoundException",
    "XksKeyAlreadyInUseException",
    "XksKeyInvalidConfigurationException",
    "XksKeyNotFoundException",
}
"""Of keys outside KMS, which docferry makes none of."""


@pytest.mark.parametrize("service", CALLED)
def test_every_error_of_an_operation_that_is_called_beside_tables_is_in_the_table_or_says_that_nothing_is_there(
    service: str,
) -> None:
    model = botocore.session.get_session().get_service_model(service)
    codes = {shape.error_code for one in CALLED[service] for shape in model.operation_model(one).error_shapes}
    unknown = {code for code in codes - ELSEWHERE if error_for("Op", code, "").code not in ERRORS}
    assert unknown <= {"NotFound", "ResourceNotFound"}, "these are given as `absent` where they are asked for"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", Throttled),
        ("InternalServerError", Unavailable),
        ("ConditionalCheckFailedException", ConditionFailed),
        ("ResourceNotFoundException", TableMissing),
        ("ValidationException", RequestRefused),
        ("ExpiredTokenException", AccessDenied),
        ("RequestTimeout", TimedOut),
    ],
)
def test_error_for_known_codes_gives_the_class(code: str, kind: type[Exception]) -> None:
    error = error_for("PutItem", code, "text")
    assert type(error) is kind
    assert (error.operation, error.code) == ("PutItem", code.rsplit("#", 1)[-1])


def test_error_for_an_unknown_code_is_permanent_and_loud_unless_the_server_is_in_trouble() -> None:
    unknown = error_for("PutItem", "Surprise", "text", 400)
    assert type(unknown) is PermanentStoreError
    assert "docferry does not know" in str(unknown)
    assert type(error_for("PutItem", "Surprise", "text", 503)) is Unavailable
    page = error_for("DescribeSubnetGroups", "500", "<!doctype html>\n<html>", 500)
    assert type(page) is Unavailable
    assert "doctype" not in str(page)


def test_answer_that_was_cut_short_may_come_whole_the_next_time() -> None:
    """botocore finds no code in half a JSON document, and gives the HTTP status instead."""
    half = error_for("PutItem", "400", '{"__type": "ConditionalCheckFai', 400)
    assert type(half) is Unavailable
    assert "cut short" in str(half)
    assert type(error_for("PutItem", "403", "<html>a proxy's page</html>", 403)) is PermanentStoreError


def test_error_for_sdk_tells_no_time_from_no_connection_from_no_credentials() -> None:
    where = {"endpoint_url": "http://nowhere"}
    assert type(error_for_sdk("Op", exceptions.ReadTimeoutError(**where))) is TimedOut
    assert type(error_for_sdk("Op", exceptions.ConnectTimeoutError(**where))) is TimedOut
    assert type(error_for_sdk("Op", exceptions.EndpointConnectionError(error="x", **where))) is Unavailable
    assert type(error_for_sdk("Op", exceptions.ConnectionClosedError(**where))) is Unavailable
    assert type(error_for_sdk("Op", exceptions.NoCredentialsError())) is AccessDenied
    assert type(error_for_sdk("Op", exceptions.ParamValidationError(report="x"))) is RequestRefused
    assert type(error_for_sdk("Op", exceptions.DataNotFoundError(data_path="x"))) is PermanentStoreError


def test_call_chains_the_cause_and_none_is_only_for_what_does_not_exist() -> None:
    def fails(code: str, status: int = 400) -> object:
        reply = {"Error": {"Code": code, "Message": "text"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(reply, "DescribeTable")

    with pytest.raises(Throttled) as caught:
        call(fails, code="ThrottlingException")  # type: ignore[arg-type]
    assert isinstance(caught.value.__cause__, ClientError)
    assert call_or_none(fails, "ResourceNotFoundException", code="ResourceNotFoundException") is None  # type: ignore[arg-type]
    with pytest.raises(AccessDenied):
        call_or_none(fails, "ResourceNotFoundException", code="AccessDeniedException")  # type: ignore[arg-type]


def test_message_that_quotes_the_request_loses_the_quotation() -> None:
    said = "1 validation error detected: Value '[{\"email\": \"ann@example.com\"}]' at 'transactItems' failed"
    error = error_for("TransactWriteItems", "ValidationException", said, 400)
    assert "ann@example.com" not in str(error)
    assert "a value at 'transactItems' failed" in str(error)
