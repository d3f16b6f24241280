"""MongoDB's error codes and the driver's exceptions, as docferry's errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pymongo import errors as pymongo_errors

from docferry import errors
from docferry.ports.tracing import span

CODES: Mapping[int, type[errors.StoreError]] = {
    11: errors.AccessDenied,  # UserNotFound
    13: errors.AccessDenied,  # Unauthorized
    18: errors.AccessDenied,  # AuthenticationFailed
    8000: errors.AccessDenied,  # AtlasError: bad auth
    50: errors.TimedOut,  # MaxTimeMSExpired: the member lags behind the snapshot asked for, or is overloaded
    64: errors.TimedOut,  # WriteConcernFailed: not acknowledged by enough members in time; it may still be
    202: errors.TimedOut,  # NetworkInterfaceExceededTimeLimit
    262: errors.TimedOut,  # ExceededTimeLimit
    239: errors.TimedOut,  # SnapshotTooOld: the page is read again at a newer time
    246: errors.TimedOut,  # SnapshotUnavailable
    6: errors.Unavailable,  # HostUnreachable
    7: errors.Unavailable,  # HostNotFound
    89: errors.Unavailable,  # NetworkTimeout
    43: errors.Unavailable,  # CursorNotFound
    91: errors.Unavailable,  # ShutdownInProgress
    175: errors.Unavailable,  # QueryPlanKilled
    134: errors.Unavailable,  # ReadConcernMajorityNotAvailableYet
    189: errors.Unavailable,  # PrimarySteppedDown
    211: errors.Unavailable,  # KeyNotFound: a member that has just started cannot check the cluster's time yet
    234: errors.Unavailable,  # RetryChangeStream
    237: errors.Unavailable,  # CursorKilled
    9001: errors.Unavailable,  # SocketException
    10058: errors.Unavailable,  # LegacyNotPrimary
    10107: errors.Unavailable,  # NotWritablePrimary
    11600: errors.Unavailable,  # InterruptedAtShutdown
    11601: errors.Unavailable,  # Interrupted
    11602: errors.Unavailable,  # InterruptedDueToReplStateChange
    13435: errors.Unavailable,  # NotPrimaryNoSecondaryOk
    13436: errors.Unavailable,  # NotPrimaryOrSecondary
}
"""MongoDB's error codes. Anything else is permanent, loudly. Source: mongo/src/mongo/base/error_codes.yml (6.0)."""

NEVER = "is not supported"
"""What MongoDB says of a request that no later attempt can make right, whatever its code: 246 SnapshotUnavailable for a capped
collection (tried on 6.0.5)."""


@contextmanager
def mongo_errors(operation: str) -> Iterator[None]:
    """Turn the driver's exceptions into ours, the most specific first. The block is a span of the trace, if there is one."""
    try:
        with span(operation, "mongodb"):
            yield
    except pymongo_errors.OperationFailure as error:
        kind = CODES.get(error.code or 0, errors.RequestRefused)
        if NEVER in str(error):
            kind = errors.RequestRefused
        name = (error.details or {}).get("codeName", "")
        code = f"{error.code} {name}".strip()
        raise kind(f"MongoDB refused {operation}: {_first_line(error)}", operation=operation, code=code) from error
    except (pymongo_errors.NetworkTimeout, pymongo_errors.ExecutionTimeout) as error:
        raise errors.TimedOut(f"MongoDB did not answer {operation} in time", operation=operation) from error
    except pymongo_errors.ServerSelectionTimeoutError as error:
        text = f"no usable MongoDB for {operation}: {_first_line(error)}. Is there a primary, and is the address right?"
        raise errors.Unavailable(text, operation=operation) from error
    except pymongo_errors.ConnectionFailure as error:
        raise errors.Unavailable(f"the connection to MongoDB broke in {operation}", operation=operation) from error
    except (pymongo_errors.ConfigurationError, pymongo_errors.InvalidURI) as error:
        text = f"the MongoDB address cannot be used: {_first_line(error)}"
        raise errors.RequestRefused(text, operation=operation) from error


_COMMAND = re.compile(r"""execute command \{ ?"?(\w+)"?: ("[^"]*"|[^,{} ]*).*""", re.DOTALL)
_NOISE = (
    re.compile(r",? ?\{ ?_data: ?[^}]*\}"),  # a resume token
    re.compile(r",? ?\$?(lsid|clusterTime|\$clusterTime|signature|operationTime): ?\{.*", re.DOTALL),
    re.compile(r" dup key: \{.*", re.DOTALL),  # quotes the document
)


def _first_line(error: Exception) -> str:
    """What happened, in a line: without the topology that pymongo appends, and without the command, its session and hashes that
    MongoDB quotes, which may hold values of documents."""
    text = str(error).split(", full error:")[0].split(", Timeout:")[0]
    text = _COMMAND.sub(lambda found: f"execute {found[1]} of {found[2].strip(chr(34))}".removesuffix(" of 1"), text)
    for noise in _NOISE:
        text = noise.sub("", text)
    return (text.splitlines() or [""])[0].rstrip(" ,:")[:300]
