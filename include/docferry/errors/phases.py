"""Why a phase of a migration ended without its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docferry.errors.base import MigrationError


class EstateDrift(MigrationError):
    """An existing resource differs from the migration file."""

    def __init__(self, differences: Sequence[str]) -> None:
        listing = "\n".join(f"  - {line}" for line in differences)
        super().__init__(
            f"the estate differs from the file in {len(differences)} place(s); none of these was changed\n{listing}"
        )
        self.differences = tuple(differences)


class LeaseHeld(MigrationError):
    """Another process is doing this right now."""

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
            f"Is reverse replication running, and does it have dead letters? See `docferry health`."
        )
        self.left, self.within_s = tuple(left), within_s


class JournalBroken(MigrationError):
    """The journal of writes to DynamoDB lacks entries, so it proves nothing: MongoDB may lack documents. Validate both sides in
    full while DynamoDB leads, before the way back (`docferry validate`, then `docferry rollback --waive journal`)."""


class HoldFailed(MigrationError):
    """The leader could not be changed while writes waited. `steps` says how long each part took, in seconds; `stuck` why
    it could not go back, `went` where the mode has gone all the same, `unsettled` why fence or marker do not fit that mode; all
    empty if everything is as it was."""

    def __init__(
        self,
        why: str,
        steps: Mapping[str, float] | None = None,
        stuck: str = "",
        went: str = "",
        unsettled: str = "",
    ) -> None:
        done = ", ".join(f"{name} after {seconds:.2f} s" for name, seconds in (steps or {}).items())
        after = "Everything is as it was before."
        if stuck:
            after = (
                f"It could NOT go back ({stuck}): writes wait until it has. Correct that, then run `docferry rollback`."
            )
        text = f"the leader was not changed: {why}. {after}"
        if went:
            text = f"the leader was changed, the mode is {went}; but then: {why}. See `docferry mode`."
        if unsettled:
            text = (
                f"{why}. The mode is {went}, but the fence or the marker on MongoDB could not be made to fit it ({unsettled}): "
                "`docferry health` tells; `docferry rollback` or a running replicator corrects it."
            )
        super().__init__(text + (f" ({done})" if done else ""))
        self.why, self.steps, self.stuck, self.went, self.unsettled = why, dict(steps or {}), stuck, went, unsettled


class DrillFailed(MigrationError):
    """A command of a rehearsal ended with `code`, and said what follows."""

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"docferry {command} ended with {code}: {said}")
        self.command, self.code = command, code


class FenceFailed(MigrationError):
    """The fence could not be raised by the deadline. `in_the_way` describes the transactions and operations that kept it
    from being raised; `taken_back` says whether everything is as it was before, `advice` what is to be said in its place."""

    def __init__(
        self, message: str, *, in_the_way: Sequence[str] = (), taken_back: bool = True, advice: str = ""
    ) -> None:
        self.in_the_way, self.taken_back = tuple(in_the_way), taken_back
        after = advice or (
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
            f"{len(strays)} write(s) of others are in MongoDB's oplog behind the fence of {since}; keep MongoDB as the "
            f"leader, and find out who wrote them\n{listing}"
        )
        self.since, self.strays = since, tuple(strays)


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
    """Reads from DynamoDB went past a bound; the mode is again what it was. `examples` say where, never what."""

    def __init__(self, why: str, mode: str, examples: Sequence[str] = ()) -> None:
        listing = "".join(f"\n  - {one}" for one in examples)
        super().__init__(f"{why}; the mode is {mode} again" + (f". For example:{listing}" if listing else ""))
        self.why, self.mode, self.examples = why, mode, tuple(examples)


class MoveRefused(MigrationError):
    """The mode cannot become that one from where it is."""
