"""What MongoDB and AWS answer, by whether the same call may work later."""

from __future__ import annotations

from docferry.errors.base import MigrationError


class StoreError(MigrationError):
    """MongoDB or AWS answered with an error. `code` is the vendor's own."""

    def __init__(self, message: str, *, operation: str = "", code: str = "") -> None:
        super().__init__(message)
        self.operation, self.code = operation, code


class TransientStoreError(StoreError):
    """May work later."""

    retryable = True


class Throttled(TransientStoreError):
    """Asked to slow down."""


class ControlPlaneBusy(Throttled):
    """AWS is at work on the resource, or on as many as it takes at once: this passes by itself, in minutes or hours."""


class Unavailable(TransientStoreError):
    """No server, no primary, connection cut, or a 5xx."""


class TimedOut(TransientStoreError):
    """No answer in time. The write may or may not have happened."""


class IteratorExpired(TransientStoreError):
    """A shard's iterator lives 15 minutes: open another one behind the last record read."""


class PermanentStoreError(StoreError):
    """Will not work however often it is tried. Unknown vendor codes land here, loudly."""


class AccessDenied(PermanentStoreError):
    """Wrong password, missing permission, expired credentials."""


class QuotaUsedUp(PermanentStoreError):
    """The account may have no more of it."""

    hint = "Ask AWS for more (Service Quotas), or take it out of the file; then run the same again, which continues."


class TableMissing(PermanentStoreError):
    """The table or index does not exist."""

    hint = "Run `docferry provision` first."


class ConditionFailed(PermanentStoreError):
    """A conditional write found something else than it expected."""


class RequestRefused(PermanentStoreError):
    """The server says that the request itself is wrong."""


class WritesFenced(PermanentStoreError):
    """MongoDB takes no writes of the application: it has been fenced. Nothing was written."""


class StreamTrimmed(PermanentStoreError):
    """Records of a DynamoDB stream that were not read yet are gone: it keeps them for 24 hours, and none once it is off."""

    hint = (
        "Some changes will never reach MongoDB by the stream: before going back compare all documents, correct MongoDB from "
        "DynamoDB, and record a new start."
    )
