"""Every error docferry raises, in one tree. Retryability belongs to the type, never to the call site.

MigrationError(retryable=False)
├ ConfigError(problems)
├ DocumentError(namespace, id, path)        dead-lettered and counted; the run fails above a threshold
│  ├ UnsupportedType · UnmappedField · TooDeep · ItemTooLarge
│  ├ KeyNotRepresentable · KeyTooLong · KeyCollision · ImagesLost · RefusedByStore
│  └ DuplicateKey · TornDocument · ItemsUnreadable        on the way back to MongoDB
├ StoreError(operation, code)               adapters only, raise … from
│  ├ TransientStoreError(retryable=True)    Throttled · Unavailable · TimedOut · IteratorExpired
│  └ PermanentStoreError                    AccessDenied · TableMissing · ConditionFailed · RequestRefused
│     └ WritesFenced · StreamTrimmed
├ PreflightFailed(problems)                 what only the server knows says no
├ EstateDrift(differences)                  a table is not what the file says, and may not be changed unasked
├ LeaseHeld(name, holder) · LeaseLost(name)
├ ResumeTokenLost                           the oplog no longer holds the position: backfill again
├ StreamEnded(reason, collections)          drop, rename, dropDatabase, invalidate, images missing: backfill again
├ NotApplied(left, within_s)                MongoDB does not hold yet what DynamoDB does
├ HoldFailed(steps)                         the leader was not changed, and everything is as it was
├ DrillFailed(command, code)                a command of a rehearsal failed
├ FenceFailed(in_the_way)                   MongoDB's fence was not up by the deadline
├ FenceBroken(strays)                       somebody wrote to MongoDB behind the fence
├ RetryExhausted(attempts, elapsed_s)       cause chained
├ TooManyDeadLetters(collection, share)
├ ValidationFailed(summary)
├ PointFailed(point, why)                   a rollback point could not be made; nothing lists as one
├ SteppedBack(why, mode, examples)          flipped reads went past a bound, and the mode is the one of before
├ MoveRefused                               the mode cannot become that one from here
├ WritesHeld                                writes waited for a change of the leader that did not end in time
├ KeyTaken(collection, key)             while DynamoDB leads: the key belongs to another document
├ TornRead                              a document's items do not fit together: MongoDB has it whole
├ LeaderUnknown                             this process may not write: it does not know which database leads
├ CallRefused(what, suggestion)             the client cannot do this call, or not in this mode
├ DocumentNotFound                          nothing is there to be updated; nothing was written
├ NotAsExpected                             the document is not as the write expects it; nothing was written
├ UpdateRefused(code)                       the write error that MongoDB gives for the same update
├ Stopped                                   asked to stop; a re-run continues
└ InvariantBroken                           our bug; never caught

No error carries a document body. Each one survives pickling, because Airflow moves errors between processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class MigrationError(Exception):
    """Base of all docferry errors. `retryable` says whether the same call may work later."""

    retryable = False
    hint = ""

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.context, self.__dict__)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip() if self.hint else self.message


def _rebuild(cls: type[MigrationError], message: str, context: dict[str, Any], state: dict[str, Any]) -> MigrationError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a file or a server. `line` is 1-based, None where there is no file."""

    where: str
    what: str
    suggestion: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: {self.where}" if self.line else self.where
        return f"{place}: {self.what}" + (f" ({self.suggestion})" if self.suggestion else "")


def _join(problems: Sequence[Problem]) -> str:
    return "\n".join(f"  - {problem}" for problem in problems)


class ConfigError(MigrationError):
    """The migration file is refused. `problems` holds every reason, not just the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{source}: {len(problems)} problem(s); nothing was touched\n{_join(problems)}")
        self.source, self.problems = source, tuple(problems)


class PreflightFailed(MigrationError):
    """The servers cannot carry this migration as the file describes it."""

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{subject}: {len(problems)} problem(s); nothing was touched\n{_join(problems)}")
        self.problems = tuple(problems)


class DocumentError(MigrationError):
    """One document cannot be stored. It becomes a dead letter; the rest goes on."""

    def __init__(self, message: str, *, namespace: str = "", id: str = "", path: str = "") -> None:
        super().__init__(message)
        self.namespace, self.id, self.path = namespace, id, path

    @property
    def reason(self) -> str:
        return type(self).__name__


class UnsupportedType(DocumentError):
    """A value that is no BSON value, or a deprecated BSON type that drivers cannot tell apart."""


class UnmappedField(DocumentError):
    """A field that the mapping does not name, where `unmapped: refuse` is set."""


class TooDeep(DocumentError):
    """Nested past what DynamoDB stores."""


class ItemTooLarge(DocumentError):
    """An item over 400 KB."""


class KeyNotRepresentable(DocumentError):
    """A field of the table key is missing, null, empty or of a kind that no key can hold."""


class KeyTooLong(DocumentError):
    """A partition key over 2,048 bytes or a sort key over 1,024."""


class KeyCollision(DocumentError):
    """Two items would own one key."""


class ImagesLost(DocumentError):
    """A change too large to come with its images: what the document's items were called before is not known."""


class RefusedByStore(DocumentError):
    """DynamoDB refused this one item, though the request was well formed."""


class DuplicateKey(DocumentError):
    """A unique index of MongoDB holds the same for another document. `holder` is its id as BSON, None if it is not known."""

    holder: bytes | None = None


class TornDocument(DocumentError):
    """The items of a document do not fit together, at every look: the root's digest is not that of its children."""


class ItemsUnreadable(DocumentError):
    """Items that make no document, or one that would have another key than they have."""


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


class TableMissing(PermanentStoreError):
    """The table or index does not exist."""

    hint = "Run provision first."


class ConditionFailed(PermanentStoreError):
    """A conditional write found something else than it expected."""


class RequestRefused(PermanentStoreError):
    """The server says that the request itself is wrong."""


class WritesFenced(PermanentStoreError):
    """MongoDB takes no writes of the application: it has been fenced. Nothing was written."""


class StreamTrimmed(PermanentStoreError):
    """Records of a DynamoDB stream that were not read yet are gone: it keeps them for 24 hours, and none once it is off."""

    hint = (
        "Some changes will never reach MongoDB by the stream: before going back compare all documents, mend MongoDB from "
        "DynamoDB, and record a new start."
    )


class EstateDrift(MigrationError):
    """An existing resource differs from the migration file."""

    def __init__(self, differences: Sequence[str]) -> None:
        listing = "\n".join(f"  - {line}" for line in differences)
        super().__init__(
            f"the estate differs from the file in {len(differences)} place(s); none of these was changed\n{listing}"
        )
        self.differences = tuple(differences)


class LeaseHeld(MigrationError):
    """Somebody else is doing this right now."""

    retryable = True

    def __init__(self, name: str, holder: str, expires_in_s: float) -> None:
        super().__init__(
            f"{name} is being worked on by {holder} (its lease ends in {expires_in_s:.0f} s unless it is renewed)"
        )
        self.name, self.holder, self.expires_in_s = name, holder, expires_in_s


class LeaseLost(MigrationError):
    """Our lease ran out or was taken over while we were away: stop writing at once."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the lease on {name} was lost while this process was away; this attempt has stopped writing")
        self.name = name


class ResumeTokenLost(MigrationError):
    """The oplog no longer holds the recorded stream position."""


class StreamEnded(MigrationError):
    """The change stream cannot go on over this event. `reason` is the event's name, or images_missing; `collections` are
    those that need a new load, none named: all; `position` is behind the event (a ports.StreamPosition)."""

    def __init__(self, message: str, *, reason: str, collections: Sequence[str] = (), position: Any = None) -> None:
        super().__init__(message)
        self.reason, self.collections, self.position = reason, tuple(collections), position


class NotApplied(MigrationError):
    """MongoDB does not hold, or not in time, what DynamoDB does. `left` names the documents, as (collection, id)."""

    retryable = True

    def __init__(self, left: Sequence[tuple[str, str]], within_s: float) -> None:
        named = ", ".join(f"{collection} {id}" for collection, id in left[:5])
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        super().__init__(
            f"MongoDB does not hold yet what DynamoDB does for {named}{more}, after {within_s:.0f} s. "
            f"Does reverse replication run, and has it dead letters? See `docferry reverse`."
        )
        self.left, self.within_s = tuple(left), within_s


class HoldFailed(MigrationError):
    """The leader could not be changed while writes waited. `steps` says how long each part took, in seconds; `stuck` why
    it could not go back, `went` where the mode has gone all the same; both empty if everything is as it was."""

    def __init__(self, why: str, steps: Mapping[str, float] | None = None, stuck: str = "", went: str = "") -> None:
        done = ", ".join(f"{name} after {seconds:.2f} s" for name, seconds in (steps or {}).items())
        after = "Everything is as it was before."
        if stuck:
            after = (
                f"It could NOT go back ({stuck}): writes wait until somebody does; mend that, then `docferry rollback`."
            )
        text = f"the leader was not changed: {why}. {after}"
        if went:
            text = f"the leader was changed, the mode is {went}; but then: {why}. See `docferry mode`."
        super().__init__(text + (f" ({done})" if done else ""))
        self.why, self.steps, self.stuck, self.went = why, dict(steps or {}), stuck, went


class DrillFailed(MigrationError):
    """A command of a rehearsal ended with `code`, and said what follows."""

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"docferry {command} ended with {code}: {said}")
        self.command, self.code = command, code


class FenceFailed(MigrationError):
    """The fence could not be raised by the deadline. `in_the_way` describes the transactions and operations that kept it
    from being raised; `taken_back` says whether everything is as it was before."""

    def __init__(self, message: str, *, in_the_way: Sequence[str] = (), taken_back: bool = True) -> None:
        self.in_the_way, self.taken_back = tuple(in_the_way), taken_back
        after = (
            "It was taken back: the application writes as before."
            if taken_back
            else "It could NOT be taken back: MongoDB may refuse the application's writes until the fence is lifted, "
            "which any process can do from the ledger's record."
        )
        listing = "".join(f"\n  - {one}" for one in self.in_the_way)
        super().__init__(f"{message}. {after}" + (f" In its way:{listing}" if listing else ""))


class FenceBroken(MigrationError):
    """Writes are in the oplog behind the fence, and they are not docferry's: DynamoDB must not lead. `strays` say where, when
    and by whom."""

    def __init__(self, since: str, strays: Sequence[str]) -> None:
        listing = "\n".join(f"  - {one}" for one in strays)
        super().__init__(
            f"{len(strays)} write(s) of others are in MongoDB's oplog behind the fence of {since}; keep MongoDB leading, and "
            f"find who passed it\n{listing}"
        )
        self.since, self.strays = since, tuple(strays)


class RetryExhausted(MigrationError):
    """A transient error that did not go away. The cause is chained."""

    def __init__(self, operation: str, attempts: int, elapsed_s: float, last: str = "") -> None:
        super().__init__(f"{operation} still failed after {attempts} attempts in {elapsed_s:.1f} s: {last}")
        self.operation, self.attempts, self.elapsed_s = operation, attempts, elapsed_s


class TooManyDeadLetters(MigrationError):
    """More documents were dead-lettered than the file allows."""

    def __init__(self, collection: str, dead: int, read: int, allowed_share: float) -> None:
        super().__init__(
            f"{collection}: {dead} of {read} documents are dead letters, more than the allowed {allowed_share:.2%}. "
            f"See `docferry dead-letters`; raise backfill.dead_letter_share in the file only if they are understood."
        )
        self.collection, self.dead, self.read = collection, dead, read


class ValidationFailed(MigrationError):
    """The two databases differ. `summary` holds counts only."""

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.summary = dict(summary)


class PointFailed(MigrationError):
    """A rollback point could not be made. Nothing lists as one, and nothing of the live data was touched."""

    def __init__(self, point: str, why: str) -> None:
        super().__init__(f"the rollback point {point} was not made: {why}")
        self.point, self.why = point, why


class SteppedBack(MigrationError):
    """Reads from DynamoDB went past a bound; the mode is the one of before. `examples` say where, never what."""

    def __init__(self, why: str, mode: str, examples: Sequence[str] = ()) -> None:
        listing = "".join(f"\n  - {one}" for one in examples)
        super().__init__(f"{why}; the mode is {mode} again" + (f". For example:{listing}" if listing else ""))
        self.why, self.mode, self.examples = why, mode, tuple(examples)


class MoveRefused(MigrationError):
    """The mode cannot become that one from where it is."""


class WritesHeld(MigrationError):
    """A write waited while the leader was being changed, and that did not end in time. Nothing was written."""

    retryable = True


class KeyTaken(MigrationError):
    """The key is another document's. The application sees pymongo's DuplicateKeyError."""

    def __init__(self, collection: str, key: Mapping[str, Any]) -> None:
        super().__init__(f"{collection}: another document has the same {', '.join(key)}")
        self.collection, self.key = collection, dict(key)


class TornRead(MigrationError):
    """The items of a document do not fit together: they are of different times."""

    retryable = True


class LeaderUnknown(MigrationError):
    """DynamoDB led when this process last heard, and it has not reached the ledger since. Nothing was written."""

    retryable = True


class CallRefused(MigrationError):
    """The client cannot do this call (in this mode). `what` names it, `suggestion` what to declare or use instead."""

    def __init__(self, what: str, suggestion: str) -> None:
        super().__init__(f"the client cannot do this call: {what}; {suggestion}")
        self.what, self.suggestion = what, suggestion


class DocumentNotFound(MigrationError):
    """There is no document where one was to be changed. Nothing was written."""


class NotAsExpected(MigrationError):
    """The document is there, and not as the write expects it (`expect`). Nothing was written."""


class UpdateRefused(MigrationError):
    """MongoDB refuses this update of this document. `code` is MongoDB's own; nothing was written."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stopped(MigrationError):
    """Asked to stop. All that was acknowledged is checkpointed; run again to continue."""

    retryable = True


class InvariantBroken(MigrationError):
    """Our own bug. Never caught."""
