"""One event of the change stream, as the server projected it, into a ChangeEvent.

An event that brings out an error which no code foresees must not stop the stream: it would stop every run at the same place. As
long as it says of which document it is, it goes on as one whose images were lost, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.timestamp import Timestamp

from docferry import errors
from docferry.core.mapping.raw import id_of
from docferry.ports.flows import ChangeEvent, StreamPosition

THEN = (
    "`docferry provision` (a collection that was made anew has no change stream images), `docferry backfill --again`, "
    "then `docferry replicate`, and while that runs `docferry repair` for what was deleted "
    "meanwhile and `docferry dead-letters --replay` for what was mended"
)
AGAIN = f"It needs a new load, which may run under live traffic: {THEN}"


def change_of(
    event: Mapping[str, Any], operation: str, collection: str, time: Timestamp, n: int, behind: StreamPosition
) -> ChangeEvent:
    """The change with its images. Raises: StreamEnded if the server has none; InvariantBroken if it names no document."""
    try:
        return _with_images(event, operation, collection, time, n, behind)
    except errors.MigrationError:
        raise
    except Exception as error:  # noqa: BLE001 - told in the dead letter
        unforeseen = errors.Unforeseen.of(error, 1)
        return bare_change_of(event, operation, collection, time, n, behind, unforeseen)


def bare_change_of(
    event: Mapping[str, Any],
    operation: str,
    collection: str,
    time: Timestamp,
    n: int,
    behind: StreamPosition,
    error: errors.DocumentError | None = None,
) -> ChangeEvent:
    """The change without its images; `error` says why, if not because of their size. Raises InvariantBroken as above."""
    return ChangeEvent(
        collection=collection,
        operation=operation,
        id=_id_in(event, collection, time),
        time=time,
        n=n,
        images_lost=True,
        error=error,
        position=behind,
    )


def _id_in(event: Mapping[str, Any], collection: str, time: Timestamp) -> bytes:
    try:
        return id_of(bytes(event["key"].raw))  # from about 4 KB on pymongo gives a memoryview
    except Exception as error:
        kind = type(error).__name__
        raise errors.InvariantBroken(
            f"an event of {collection} at {time.time}, {time.inc} does not say of which document it is ({kind}): what it "
            "changed cannot be accounted for; please report it"
        ) from error


def _with_images(
    event: Mapping[str, Any], operation: str, collection: str, time: Timestamp, n: int, behind: StreamPosition
) -> ChangeEvent:
    after, before = event.get("after"), event.get("before")
    lost = (after is None and operation != "delete") or (before is None and operation != "insert")
    if lost:
        raise errors.StreamEnded(
            f"{collection}: the stream came to a change whose image is missing: images were switched off, or have expired. "
            f"Reads stay with MongoDB. Run provision, which switches them on. {AGAIN}",
            reason="images_missing",
            collections=(collection,),
            position=behind,
        )
    return ChangeEvent(
        collection=collection,
        operation=operation,
        id=_id_in(event, collection, time),
        time=time,
        n=n,
        before=bytes(before.raw) if before is not None else None,
        after=bytes(after.raw) if after is not None and operation != "delete" else None,
        touched=tuple(event["paths"]) if operation == "update" else None,
        position=behind,
    )
