"""What the control room is told, from a ledger."""

from __future__ import annotations

import json
from dataclasses import replace

from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import ItemTooLarge, TableMissing
from docferry.flows.ledger.approvals import APPROVALS
from docferry.flows.ledger.dead_letters import open_letter
from docferry.flows.ledger.load_headers import COMPLETE, Counts, LoadHeader, LoadHeaders
from docferry.flows.ledger.modes import change_mode, mode_record
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.room import MOST_SHOWN, room_of
from docferry.ports.flows import Identity, Record
from docferry.testing.fakes import FakeLedger
from support.mappings import SHOP

ME = Identity(name="anna", mark="m", ended=lambda mark: False)


class Asked(FakeLedger):
    """Notes which sections are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[str] = []

    def list(self, section: str, prefix: str = "") -> list[Record]:
        self.sections.append(section)
        return super().list(section, prefix)


class Unprovisioned(FakeLedger):
    def read(self, section: str, key: str) -> None:
        raise TableMissing("there is no table")


def test_a_migration_that_is_not_provisioned_yet_is_no_error() -> None:
    told = room_of(SHOP, Unprovisioned())
    assert (told["migration"], told["provisioned"]) == ("shop", False)


def test_a_new_ledger_says_that_mongodb_leads_and_nothing_was_done() -> None:
    told = room_of(SHOP, FakeLedger())
    assert (told["leads"]["leader"], told["leads"]["mode"], told["validation"], told["replication"]) == (
        "MongoDB", "MONGO_ONLY", None, None,
    )  # fmt: skip
    assert [one["state"] for one in told["collections"]] == ["new"] * len(SHOP.mappings)
    assert told["audit"] == []
    json.dumps(told)


def test_a_loaded_collection_is_told_without_its_chunks() -> None:
    ledger = Asked()
    header = LoadHeader(collection="users", mapping="f1-x", started_ms=1_000, finished_ms=3_000, chunks=5_000)
    LoadHeaders(ledger).write(replace(header, state=COMPLETE, counts=Counts(read=10, written=9, dead=1, items=30)))
    open_letter(ledger, "users", ItemTooLarge("too large", id="~i1", path="x"), b"\x05\x00\x00\x00\x00", 1)
    users = next(one for one in room_of(SHOP, ledger)["collections"] if one["collection"] == "users")
    assert (users["documents"], users["items"], users["rate"], users["chunks_done"], users["letters"]) == (
        10,
        30,
        5.0,
        5_000,
        1,
    )
    assert [section for section in ledger.sections if section.startswith("chunks:")] == []


def test_the_audit_trail_has_moves_and_approvals_newest_first_and_an_end() -> None:
    ledger = FakeLedger()
    record = mode_record(ledger)
    record = change_mode(ledger, record, ModeState().move(Mode.DUAL_WRITE), ME, "it is time")
    body = {"phase": "flip_reads", "evidence": "e" * 64, "by": "bert", "why": "all equal", "at": now_ms() + 5}
    ledger.write(APPROVALS, "flip_reads#e", body, expect=None)
    told = room_of(SHOP, ledger)["audit"]
    assert [(one["by"], one["what"], one["why"]) for one in told] == [
        ("bert", "flip_reads was approved on report eeeeeeeeeeee", "all equal"),
        ("anna", "MONGO_ONLY became DUAL_WRITE", "it is time"),
    ]
    for number in range(MOST_SHOWN + 10):
        ledger.write(APPROVALS, f"flip_reads#{number}", body | {"at": number}, expect=None)
    assert len(room_of(SHOP, ledger)["audit"]) == MOST_SHOWN


def test_a_hold_says_how_long_writes_may_still_wait_and_that_it_is_overdue() -> None:
    for left_s in (5.0, -5.0):
        ledger = FakeLedger()
        held = ModeState(mode=Mode.DYNAMODB_READS, percent=100).hold(Mode.DYNAMODB_ONLY, now_ms() + int(left_s * 1000))
        ledger.write(*MODE, held.to_body(), expect=None)
        assert abs(room_of(SHOP, ledger)["leads"]["hold_left_s"] - left_s) < 1


def test_unserved_calls_of_all_processes_come_with_what_to_write_instead() -> None:
    ledger = FakeLedger()
    for number in range(2):
        one = Instance(
            id=f"i{number}",
            name=f"app {number}",
            mark="m",
            epoch=0,
            registered_ms=1,
            until_ms=1,
            unserved={"users.aggregate": 3},
            beat_ms=now_ms(),
        )
        ledger.write(INSTANCES, one.id, one.to_body(), expect=None)
    told = room_of(SHOP, ledger)
    (unserved,) = told["unserved"]
    assert (unserved["shape"], unserved["calls"]) == ("users.aggregate", 6)
    assert unserved["instead"]
