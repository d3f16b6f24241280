"""What an application's call may end with in docferry's client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.errors.base import MigrationError


class WritesHeld(MigrationError):
    """A write waited while the leader was being changed, and that did not end in time. Nothing was written."""

    retryable = True


class KeyTaken(MigrationError):
    """The key, or a value of the unique `index`, is another document's. The application sees pymongo's DuplicateKeyError.

    `key` are the fields with their values, `pattern` the index's fields with their directions.
    """

    def __init__(
        self, collection: str, key: Mapping[str, Any], *, index: str = "", pattern: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(f"{collection}: another document has the same {', '.join(key)}")
        self.collection, self.key = collection, dict(key)
        self.index = index or ("_id_" if list(key) == ["_id"] else "_".join(f"{name}_1" for name in key))
        self.pattern = dict(pattern) if pattern is not None else dict.fromkeys(key, 1)


class TornRead(MigrationError):
    """The items of a document do not fit together: they are of different times."""

    retryable = True


class LeaderUnknown(MigrationError):
    """DynamoDB led when this process last heard, and it has not reached the ledger since. Nothing was written."""

    retryable = True


class WriteUnconfirmed(LeaderUnknown):
    """MongoDB has the write, and it is not certain that MongoDB led when it was made. If it did not, the write is lost: look, as
    after a lost answer, before the call is made again."""

    retryable = False


class MembershipBroken(MigrationError):
    """This process has ceased to follow the mode, by an unforeseen error (its cause), and its lease has run out.
    Nothing was written. It may pass; if it does not, restart the process and report the cause."""


class InstanceStruck(MigrationError):
    """This process was struck off while a change of the leader did not hear from it, or a copy of it runs. Nothing was written;
    it registers as another instance, and the client makes the call again."""


class CallRefused(MigrationError):
    """The client cannot do this call (in this mode). `what` names it, `suggestion` what to declare or use instead."""

    def __init__(self, what: str, suggestion: str) -> None:
        super().__init__(f"the client cannot do this call: {what}; {suggestion}")
        self.what, self.suggestion = what, suggestion


class NoAccessPattern(CallRefused):
    """No key, and no index that an access pattern of the file names, leads to what a query asks for."""


class ScanTooLarge(CallRefused):
    """A scan has used up the read units that the file allows it. Nothing was answered, and nothing written."""


class DocumentNotFound(MigrationError):
    """There is no document where one was to be changed. Nothing was written."""


class NotAsExpected(MigrationError):
    """The document is there, and not as the write expects it (`expect`). Nothing was written."""


class UpdateRefused(MigrationError):
    """MongoDB refuses this update of this document. `code` is MongoDB's own; nothing was written."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ExpressionRefused(UpdateRefused):
    """MongoDB refuses to evaluate an expression over this document. `code` is MongoDB's own."""
