"""AWS's error codes, one table: code -> docferry error. Retryability follows from the class.

`error_for` is pure and needs no SDK in hand, so that the fast writer (which parses replies itself) shares it.
A code that is not in the table is permanent and says so: silence about an unknown error is how writes get lost.

Codes of the services we call are those of botocore's own service models (1.44.5, read 2026-11-22; a test compares),
plus the common ones of https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
(from memory: not read today).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from docferry.errors import (
    AccessDenied,
    ConditionFailed,
    ControlPlaneBusy,
    IteratorExpired,
    PermanentStoreError,
    QuotaUsedUp,
    RequestRefused,
    StoreError,
    StreamTrimmed,
    TableMissing,
    Throttled,
    TimedOut,
    TransientStoreError,
    Unavailable,
)
from docferry.ports.tracing import span

TOO_LARGE = (
    "413",
    "RequestEntityTooLarge",
    "RequestEntityTooLargeException",
    "RequestTooLargeException",
    "PayloadTooLarge",
)
"""HTTP 413, of DynamoDB or of a proxy before it: the request as a whole is too long."""

_CODES: dict[type[StoreError], tuple[str, ...]] = {
    Throttled: (
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "Throttled",
        "SlowDown",
    ),
    ControlPlaneBusy: (
        # 500 tables in flux at once, one index of a table; `_refine` tells a quota that is used up.
        "LimitExceededException",
        # Another process (perhaps we, a moment ago) is changing it, or it was made meanwhile: look again, then decide.
        "ResourceInUseException",
        "TableInUseException",
        "BackupInUseException",
        # PITR cannot be switched on in a new table's first minutes.
        "ContinuousBackupsUnavailableException",
    ),
    Unavailable: (
        "InternalServerError",
        "InternalServerErrorException",
        "InternalServiceException",
        "InternalFailure",
        "InternalError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        # It was made meanwhile: look again, then decide.
        "TableAlreadyExistsException",
        "ReplicaAlreadyExistsException",
        "ConcurrentUpdateException",
        "ClusterAlreadyExistsFault",
        "ParameterGroupAlreadyExistsFault",
        "SubnetGroupAlreadyExistsFault",
        "InvalidClusterStateFault",
        "InvalidParameterGroupStateFault",
        "AlreadyExistsException",
        "ResourceConflictException",
        "ResourceConflict",
        "ConflictException",
        "ConcurrentAccess",
        "ConcurrentModificationException",
        "ServiceException",
        "InternalServiceError",
        "TransactionConflictException",
        "TransactionInProgressException",
        "ReplicatedWriteConflictException",
        "KMSInternalException",
        "DependencyTimeoutException",
    ),
    TimedOut: ("RequestTimeout", "RequestTimeoutException"),
    IteratorExpired: ("ExpiredIteratorException",),
    StreamTrimmed: ("TrimmedDataAccessException",),
    AccessDenied: (
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "ExpiredToken",
        "ExpiredTokenException",
        "AuthFailure",
        "AuthorizationError",
        "RegionDisabledException",
        "OptInRequired",
        "FailedResourceAccessException",
    ),
    TableMissing: ("ResourceNotFoundException", "TableNotFoundException", "IndexNotFoundException"),
    ConditionFailed: ("ConditionalCheckFailedException", "TransactionCanceledException", "DuplicateItemException"),
    RequestRefused: (
        "ValidationException",
        "ValidationError",
        "SerializationException",
        *TOO_LARGE,
        "UnknownOperationException",
        "InvalidAction",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidParameterCombinationException",
        "InvalidInput",
        "InvalidARNFault",
        "InvalidNextTokenException",
        "IdempotentParameterMismatchException",
        "ItemCollectionSizeLimitExceededException",
        "InvalidVPCNetworkStateFault",
        "SubnetNotAllowedFault",
        "SubnetGroupInUseFault",
        "SubnetInUse",
        "InvalidSubnet",
        "InvalidExportTimeException",
        "InvalidRestoreTimeException",
        "ExportConflictException",
        "ImportConflictException",
        "FailureException",
        "KMSInvalidStateException",
        "DisabledException",
        "InvalidRequestException",
        "InvalidResourceStateException",
        "MissingParameterValueException",
        "InvalidParameter",
        "InvalidParameterInput",
        "InvalidParameterCombination",
        "MissingParameter",
        "InvalidArnException",
        "InvalidAliasNameException",
        "InvalidSecurity",
        "InvalidState",
        "MalformedPolicyDocumentException",
        "TagException",
        "TagPolicy",
        "StaleTag",
        "UnsupportedOperationException",
    ),
    QuotaUsedUp: (
        # LimitExceededException is here for other services than DynamoDB: see `quota_of`.
        "ClusterQuotaForCustomerExceededFault",
        "NodeQuotaForClusterExceededFault",
        "NodeQuotaForCustomerExceededFault",
        "ParameterGroupQuotaExceededFault",
        "ServiceQuotaExceededException",
        "SubnetGroupQuotaExceededFault",
        "SubnetQuotaExceededFault",
        "TooManyTagsException",
        "TagQuotaPerResourceExceeded",
        "LimitExceeded",
        "TagLimitExceeded",
        "TopicLimitExceeded",
    ),
    # What was named does not exist: an operator must act.
    PermanentStoreError: (
        "BackupNotFoundException",
        "ExportNotFoundException",
        "ImportNotFoundException",
        "GlobalTableNotFoundException",
        "GlobalTableAlreadyExistsException",
        "ReplicaNotFoundException",
        "PolicyNotFoundException",
        "PointInTimeRecoveryUnavailableException",
        "ObjectNotFoundException",
        "NotFoundException",
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchUpload",
        "InvalidSnapshot.NotFound",
        "NoSuchEntity",
        "NoSuchEntityException",
        "InvalidGroup.NotFound",
        "InvalidGroupId.Malformed",
        "InvalidSnapshotID.Malformed",
        "InvalidSubnetID.NotFound",
        "ClusterNotFoundFault",
        "NodeNotFoundFault",
        "ParameterGroupNotFoundFault",
        "SubnetGroupNotFoundFault",
        "TagNotFoundFault",
        "ServiceLinkedRoleNotFoundFault",
        "InsufficientClusterCapacityFault",
    ),
}
ERRORS: dict[str, type[StoreError]] = {code: kind for kind, codes in _CODES.items() for code in codes}

_QUOTED = re.compile(r"Value '.*' at", re.DOTALL)
"""A ValidationException may quote the request, items included: what is in a document stays out of errors."""

_SDK: dict[str, type[StoreError]] = {
    "ReadTimeoutError": TimedOut,
    "ConnectTimeoutError": TimedOut,
    "HTTPClientError": Unavailable,  # EndpointConnectionError, ConnectionClosedError, ProxyConnectionError, SSLError, ...
    "ConnectionError": Unavailable,
    "IncompleteReadError": Unavailable,
    "ResponseStreamingError": Unavailable,
    "CredentialRetrievalError": AccessDenied,
    "NoCredentialsError": AccessDenied,
    "PartialCredentialsError": AccessDenied,
    "TokenRetrievalError": AccessDenied,
    "SSOError": AccessDenied,
    "ParamValidationError": RequestRefused,
}


def error_for(operation: str, code: str, message: str, status: int = 0) -> StoreError:
    """The error for one AWS reply. It is returned, not raised: `raise error_for(...) from cause`.

    `code` may carry a namespace ("com.amazonaws.dynamodb.v20120810#ThrottlingException"). `status` is the HTTP status
    if known: an unknown code with a 5xx is the server's trouble (Unavailable), any other is permanent.
    """
    message = _QUOTED.sub("a value at", message)
    short = code.rsplit("#", 1)[-1].split(":", 1)[0]
    kind = _cancelled(message) if short == "TransactionCanceledException" else _refined(short, message)
    if kind is None and status == 413:
        kind, short = RequestRefused, TOO_LARGE[0]
    if kind is not None:
        return kind(f"{operation}: {message} [{short}]", operation=operation, code=short)
    # An HTML page (a load balancer's, or moto's for what it does not implement) is no message for a person.
    text = "the answer was an HTML page" if message.lstrip().lower().startswith("<!doctype") else message
    if short.isdigit() and message.startswith("{"):  # botocore found no code in it: JSON that is no JSON
        return Unavailable(f"{operation}: HTTP {short}: the answer was cut short", operation=operation, code=short)
    if status >= 500 or (short.isdigit() and int(short) >= 500):
        return Unavailable(f"{operation}: HTTP {status or short}: {text}", operation=operation, code=short)
    return PermanentStoreError(
        f"{operation}: {text} [{short}, which docferry does not know]", operation=operation, code=short
    )


_QUOTA = re.compile(r"limit of \d+ tables|per (subscriber|account)", re.IGNORECASE)
_TTL_LOCK = re.compile(r"time ?to ?live has been modified multiple times", re.IGNORECASE)


def _refined(code: str, message: str) -> type[StoreError] | None:
    """The class of a code; two codes mean two things each, and only the message tells which.

    "Subscriber limit exceeded: Only 10 tables can be created, updated, or deleted simultaneously" passes; "There is a limit of
    256 tables per subscriber" does not. TTL of a table takes one change an hour, and answers the next with a ValidationException.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTimeToLive.html and
    https://github.com/hashicorp/terraform-provider-aws/pull/2274; the lock's text: https://github.com/aws/aws-cdk/pull/13720;
    all read 2026-11-29.
    """
    if code == "LimitExceededException" and _QUOTA.search(message) and "simultaneously" not in message:
        return QuotaUsedUp
    if code == "ValidationException" and _TTL_LOCK.search(message):
        return ControlPlaneBusy
    return ERRORS.get(code)


def quota_of(error: ControlPlaneBusy) -> StoreError:
    """What another service than DynamoDB means by LimitExceededException: not that it is at work, but that it takes no more."""
    return QuotaUsedUp(error.message, operation=error.operation, code=error.code)


def _cancelled(message: str) -> type[StoreError]:
    """Why a transaction was cancelled, from the reasons that its message lists, one an item.

    Only a condition that failed, or items in conflict with other requests: then it may be tried again as it is.
    """
    if "ConditionalCheckFailed" in message:
        return ConditionFailed
    if "ValidationError" in message or "ItemCollectionSizeLimitExceeded" in message:
        return RequestRefused
    if "TransactionConflict" in message:
        return Unavailable
    if "ThrottlingError" in message or "ProvisionedThroughputExceeded" in message:
        return Throttled
    return ConditionFailed


def error_for_sdk(operation: str, error: BotoCoreError) -> StoreError:
    """The error for a request that never got an answer: no connection, no time, no credentials."""
    for base in type(error).__mro__:
        if base.__name__ in _SDK:
            kind = _SDK[base.__name__]
            return kind(f"{operation}: {error}", operation=operation, code=type(error).__name__)
    text = f"{operation}: {error} [{type(error).__name__}, which docferry does not know]"
    return PermanentStoreError(text, operation=operation, code=type(error).__name__)


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn botocore's exceptions into ours inside the block; the original is chained."""
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise error_for(operation, str(details.get("Code", "")), str(details.get("Message", error)), status) from error
    except BotoCoreError as error:
        raise error_for_sdk(operation, error) from error


def call(operation: Callable[..., dict[str, Any]], /, **arguments: Any) -> dict[str, Any]:
    """One client call: `call(client.describe_table, TableName=name)`. Raises: StoreError, its class by the table above."""
    with translated(operation.__name__), span(operation.__name__, "aws"):
        return operation(**arguments)


def call_or_none(operation: Callable[..., dict[str, Any]], *absent: str, **arguments: Any) -> dict[str, Any] | None:
    """Like `call`, but None where the vendor's code says that the thing does not exist (and for nothing else)."""
    try:
        return call(operation, **arguments)
    except TransientStoreError:
        raise
    except PermanentStoreError as error:
        if error.code in absent:
            return None
        raise
