"""Vectors of what the ledger holds: modes, and how an instance registers, acknowledges, and ends. And of versions."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

from bson.timestamp import Timestamp

from docferry.adapters.aws.ledger import DynamoLedger
from docferry.client.membership import LEASE_S
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.journal import FIRST_LANES
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.versions import N_MAX, VERSION_MAX, snapshot_version, version_of, version_text
from docferry.ports.flows import Record

TABLE, MIGRATION, ID = "DocferryLedger", "shop", "0123456789abcdef0123456789abcdef"
NOW, LEASE_MS = 1_705_333_530_000, int(LEASE_S * 1000)


def versions() -> Any:
    """Of the n-th event at a time; `n` null: of a snapshot at it. `next`: what a leading DynamoDB gives."""
    cases = [(1, 1, 0), (1705333530, 7, 0), (1705333530, 7, 3), (2**32 - 1, 2**32 - 1, N_MAX)]
    floor = snapshot_version(Timestamp(1705333530, 7))
    return {
        "events": [
            {"seconds": seconds, "increment": inc, "n": n, "version": version_text(version_of(Timestamp(seconds, inc), n))}
            for seconds, inc, n in cases
        ]
        + [{"seconds": 1705333530, "increment": 7, "n": None, "version": version_text(floor)}],
        "next": [
            {"stored": stored and version_text(stored), "floor": version_text(floor), "next": _next(stored, floor)}
            for stored in (None, floor - 5, floor + 40)
        ],
        "most": version_text(VERSION_MAX),
    }  # fmt: skip


def _next(stored: int | None, floor: int) -> str:
    return version_text(max(stored or 0, floor) + 1)


# --- modes -----------------------------------------------------------------------------------------------------------

_DUAL: Final = ModeState().move(Mode.DUAL_WRITE, 10)
_READS: Final = _DUAL.move(Mode.DYNAMODB_READS, 100)
_HOLD: Final = _READS.hold(Mode.DYNAMODB_ONLY, NOW + 10_000)
_ONLY: Final = _HOLD.go_ahead(snapshot_version(Timestamp(1705333530, 7)), journal=True)
_BACK: Final = _ONLY.hold(Mode.MONGO_ONLY, NOW + 60_000)
STATES: Final = (ModeState(), _DUAL, _READS, _HOLD, _ONLY, _BACK, _BACK.go_ahead(0), _ONLY.move(Mode.FINAL))
SHARE_KEYS: Final = (
    "",
    "USER#ann",
    "USER#bob",
    "EMAIL#ann@example.com",
    "\u540d\u524d",
    *(f"USER#{n}" for n in range(40)),
)


def modes() -> Any:
    """The mode's record, and what it means. `bucket`: a key is one of p % if this is less than p."""
    return {
        "states": [{"body": state.to_body(), "leader": str(state.leader), **_flags(state)} for state in STATES],
        "percent": [{"share_key": share_key, "bucket": _bucket(share_key)} for share_key in SHARE_KEYS],
    }


def _flags(state: ModeState) -> Mapping[str, Any]:
    return {name: value for name, value in state.flags().items() if name != "mode"}


def _bucket(share_key: str) -> int:
    return next(number for number in range(100) if ModeState(percent=number + 1).chosen(share_key))


# --- an instance -----------------------------------------------------------------------------------------------------


class _Recorder:
    """Stands where boto3's client would, and keeps what it is asked to write."""

    meta = SimpleNamespace(endpoint_url="https://dynamodb.us-east-1.amazonaws.com")

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str, **options: Any) -> _Recorder:
        return self

    def put_item(self, **request: Any) -> None:
        self.asked.append(("PutItem", request))

    def transact_write_items(self, **request: Any) -> None:
        self.asked.append(("TransactWriteItems", request))

    def delete_item(self, **request: Any) -> None:
        self.asked.append(("DeleteItem", request))


def write_request(section: str, key: str, body: Mapping[str, Any], expect: int | None, mode: int | None = None) -> Any:
    """What one write of the ledger sends. `expect`: the revision that was read; `mode`: that of the mode, to stay as it is."""
    recorder = _Recorder()
    ledger = DynamoLedger(recorder, TABLE, MIGRATION)
    before = Record(section, key, expect, {}) if expect is not None else None
    unchanged = [Record(*MODE, mode, {})] if mode is not None else []
    ledger.write(section, key, body, expect=before, unchanged=unchanged)
    ((operation, request),) = recorder.asked
    put: dict[str, Any] = request["TransactItems"][0]["Put"] if operation == "TransactWriteItems" else request
    put["Item"] |= {"nonce": {"S": "NONCE"}} | ({"rev": {"N": "NOW_US"}} if expect is None else {})
    _name_times(put["Item"]["body"]["M"])
    return {"operation": operation, "request": request}


def _name_times(body: dict[str, Any]) -> None:
    for name in ("registered", "beat", "until"):
        if name in body:
            later = int(body[name]["N"]) - NOW
            body[name] = {"N": f"NOW+{later}" if later else "NOW"}


def instance(epoch: int, mode: Mode, **more: Any) -> Instance:
    """The instance of the vectors, as it is now."""
    return Instance(
        id=ID, name="shop@host pid 7", mark="", epoch=epoch, registered_ms=NOW, beat_ms=NOW, until_ms=NOW + LEASE_MS,
        mode=str(mode), region="us-east-1", lanes=FIRST_LANES, **({"at": (0, 0)} | more),
    )  # fmt: skip


STEPS: Final[tuple[tuple[str, ModeState, Instance | None], ...]] = (
    ("no process has been here: the first one makes the mode's record", ModeState(), None),
    ("it registers, under the epoch of now", ModeState(), instance(0, Mode.MONGO_ONLY)),
    ("the lease is renewed", ModeState(), instance(0, Mode.MONGO_ONLY)),
    ("the mode changes while a write of epoch 0 is in flight: no acknowledgement", _DUAL, instance(0, Mode.DUAL_WRITE)),
    ("that write has ended: epoch 1 is acknowledged", _DUAL, instance(1, Mode.DUAL_WRITE)),
    ("writes are held; none is in flight", _HOLD, instance(3, Mode.HOLD)),
    ("DynamoDB leads", _ONLY, instance(4, Mode.DYNAMODB_ONLY)),
    ("writes are held on the way back: it says where its lanes end", _BACK, instance(5, Mode.HOLD, at=(8, 3))),
    ("it ends", _BACK, instance(5, Mode.HOLD, at=(9, 4), ended=True)),
)
MODE_REVISION, FIRST_REVISION = 100, 200


def ledger() -> Any:
    """One instance's life: the mode as it then is, and what is written. The mode's revisions count from 100, its own from 200."""
    found, revision, epoch = [], None, 0
    for event, state, one in STEPS:
        if one is None:
            request = write_request(*MODE, state.to_body(), None)
        elif revision is None:
            request = write_request(INSTANCES, ID, one.to_body(), None, MODE_REVISION + state.epoch)
            revision = FIRST_REVISION
        else:
            request = write_request(INSTANCES, ID, one.to_body(), revision)
            revision += 1
        epoch = state.epoch
        found.append({"event": event, "mode": state.to_body(), "epoch": epoch, **request})
    return {"lease_ms": LEASE_MS, "trusted_ms": LEASE_MS * 8 // 10, "steps": found}
