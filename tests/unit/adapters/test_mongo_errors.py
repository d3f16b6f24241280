"""What MongoDB says while members come and go may work later; what is not known is permanent, loudly."""

from __future__ import annotations

import pytest
from docferry.adapters.mongodb.errors import mongo_errors
from docferry.errors import RequestRefused, StoreError, TransientStoreError
from pymongo.errors import OperationFailure

RETRYABLE = (6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 10058)
"""Source: https://github.com/mongodb/specifications, retryable-reads and server-discovery-and-monitoring."""
STARTING = (211,)
"""KeyNotFound: seen from a member that had just been started again."""


def raised_for(code: int) -> StoreError:
    with pytest.raises(StoreError) as caught, mongo_errors("read a page"):
        raise OperationFailure("by the test", code)
    return caught.value


@pytest.mark.parametrize("code", [*RETRYABLE, *STARTING])
def test_what_members_say_while_they_come_and_go_may_work_later(code: int) -> None:
    error = raised_for(code)
    assert isinstance(error, TransientStoreError)
    assert (error.operation, error.code) == ("read a page", str(code))


def test_what_is_not_supported_is_permanent_whatever_its_code() -> None:
    with pytest.raises(RequestRefused), mongo_errors("read a page"):
        raise OperationFailure("Reading from capped collections with readConcern snapshot is not supported", 246)


def test_unknown_code_is_permanent() -> None:
    assert type(raised_for(999_999)) is RequestRefused
