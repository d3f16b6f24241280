"""A full validation under way: its lease and place, the suspects found up to it, and what a repair replaced."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.errors import InvariantBroken
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

VALIDATION = ("validate", "full")
"""Section and key of the record that is leased by the validation that runs."""
SUSPECTS, REPLACED = "validate-suspects", "replaced"
RUNNING, DONE = "running", "done"
PART_BYTES = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationProgress:
    """`run` names the parts that hold the suspects, `parts` of them; `so_far` is as `flows/validate/progress` encodes it, of the
    migration file with this `digest`."""

    state: str = ""
    run: str = ""
    digest: str = ""
    touched_ms: int = 0
    parts: int = 0
    overflow: int = 0
    so_far: bytes = field(default=b"", repr=False)


def progress_in(record: Record) -> ValidationProgress:
    """What the record says; `progress_in(lease.record)` of the one that is held."""
    body = record.body
    return ValidationProgress(
        state=str(body.get("state", "")),
        run=str(body.get("run", "")),
        digest=str(body.get("digest", "")),
        touched_ms=int(body.get("touched", 0)),
        parts=int(body.get("parts", 0)),
        overflow=int(body.get("overflow", 0)),
        so_far=body.get("so_far", b""),
    )


def validation_begun(run: str, digest: str, so_far: bytes) -> dict[str, Any]:
    """What the lease writes when a validation begins anew."""
    return {
        "state": RUNNING, "run": run, "digest": digest, "touched": now_ms(), "parts": 0, "overflow": 0, "so_far": so_far,
    }  # fmt: skip


def validation_checkpoint(so_far: bytes, parts: int, overflow: int) -> dict[str, Any]:
    """What the lease writes of one that runs: the parts are there already."""
    return {"so_far": so_far, "parts": parts, "overflow": overflow, "touched": now_ms()}


def validation_done() -> dict[str, Any]:
    return {"state": DONE, "so_far": b"", "parts": 0}


def write_suspects(ledger: Ledger, run: str, index: int, data: bytes) -> None:
    """One part, in the place of what an earlier attempt left there."""
    key = _part_key(run, index)
    ledger.write(SUSPECTS, key, {"data": data}, expect=ledger.read(SUSPECTS, key))


def read_suspects(ledger: Ledger, run: str, index: int) -> bytes:
    """Raises InvariantBroken if the part is not there."""
    record = ledger.read(SUSPECTS, _part_key(run, index))
    if record is None:
        raise InvariantBroken(f"part {index} of the suspects of an unfinished validation is gone")
    return bytes(record.body["data"])


def drop_suspects(ledger: Ledger) -> None:
    for record in ledger.list(SUSPECTS):
        ledger.delete(record)


def _part_key(run: str, index: int) -> str:
    return f"{run}#{index:06d}"


def keep_replaced(ledger: Ledger, table: str, key: str, data: bytes) -> None:
    """Keep what an item held before a repair made it a tombstone, under the item's `letter_key`, in parts."""
    name = f"{key}#{now_ms()}-{uuid.uuid4().hex[:8]}"  # two repairs may keep the same item within a millisecond
    for index, part in enumerate(parts_of(data)):
        ledger.write(f"{REPLACED}:{table}", f"{name}#{index * PART_BYTES:08d}", {"data": part}, expect=None)


def parts_of(data: bytes) -> Sequence[bytes]:
    """Cut to what a record of the ledger holds."""
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
