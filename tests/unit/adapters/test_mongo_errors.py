"""What MongoDB says while members come and go may work later; what is not known is permanent, loudly."""

# ruff: noqa: E501 - one case a line

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


SESSION = (
    'lsid: { id: UUID("0d6d3b0a-0000-0000-0000-000000000000") }, $clusterTime: { clusterTime: Timestamp(1669719600, 1), '
    'signature: { hash: BinData(0, 5A5A), keyId: 7171717171 } }, $db: "d" }'
)
NOISY = {
    "a command": (
        'not authorized on d to execute command { find: "users", filter: { email: "secret@x" }, ' + SESSION,
        "not authorized on d to execute find of users",
    ),
    "a command of the database": (
        'not authorized on d to execute command { aggregate: 1, pipeline: [ { $changeStream: { startAfter: { _data: "82AB" } } } ], '
        + SESSION,
        "not authorized on d to execute aggregate",
    ),
    "a session": ("cannot do that, " + SESSION, "cannot do that"),
    "a token": (
        'cannot resume stream; the resume token was not found. {_data: "826384F1F3000000012B0229296E04"}',
        "cannot resume stream; the resume token was not found.",
    ),
    "a document": (
        'E11000 duplicate key error collection: d.users index: email_1 dup key: { email: "secret@x" }',
        "E11000 duplicate key error collection: d.users index: email_1",
    ),
    "nothing": ("Unrecognized expression '$x'", "Unrecognized expression '$x'"),
}


@pytest.mark.parametrize("what", NOISY)
def test_message_holds_what_happened_and_no_session_hash_or_value(what: str) -> None:
    text, kept = NOISY[what]
    with pytest.raises(StoreError) as caught, mongo_errors("read a page"):
        raise OperationFailure(text, 13)
    assert str(caught.value).startswith(f"MongoDB refused read a page: {kept}")
    for word in ("secret", "lsid", "clusterTime", "5A5A", "7171", "82"):
        assert word not in str(caught.value)


def test_message_of_several_lines_or_none_is_one() -> None:
    for text in ("", "first\nsecond"):
        with pytest.raises(StoreError) as caught, mongo_errors("read a page"):
            raise OperationFailure(text, 13)
        assert "\n" not in str(caught.value)
