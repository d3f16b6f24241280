"""Which versions were given while DynamoDB led: these are the truth, for as long as they are there."""

from __future__ import annotations

from bson.timestamp import Timestamp
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.versions import snapshot_version, version_of
from docferry.flows.ledger.reigns import Reign, read_reigns, record_reign
from docferry.testing.fakes import FakeLedger

FENCE, BACK = Timestamp(100, 3), Timestamp(160, 1)
FLOOR, END = snapshot_version(FENCE), snapshot_version(BACK)
WITHIN, BEFORE, AFTER = FLOOR + 1, version_of(FENCE, 7), version_of(Timestamp(160, 2), 0)


def in_mode(ledger: FakeLedger, mode: Mode, floor: int, **more: object) -> None:
    body = ModeState(mode=mode, floor=floor).to_body() | more
    ledger.write(*MODE, body, expect=ledger.read(*MODE))


def test_before_dynamodb_has_led_no_version_is_of_its_reign() -> None:
    assert WITHIN not in read_reigns(FakeLedger())


def test_while_dynamodb_leads_every_version_above_the_fence_is_of_its_reign() -> None:
    ledger = FakeLedger()
    in_mode(ledger, Mode.DYNAMODB_ONLY, FLOOR)
    reigns = read_reigns(ledger)
    assert [version in reigns for version in (BEFORE, FLOOR, WITHIN, AFTER)] == [False, False, True, True]


def test_a_reign_that_is_over_ends_where_mongodb_was_to_lead() -> None:
    ledger = FakeLedger()
    record_reign(ledger, FLOOR, END)
    in_mode(ledger, Mode.MONGO_ONLY, FLOOR)
    reigns = read_reigns(ledger)
    assert [version in reigns for version in (BEFORE, WITHIN, END, AFTER)] == [False, True, True, False]


def test_a_way_back_that_failed_ends_no_reign_and_the_next_one_does() -> None:
    ledger = FakeLedger()
    record_reign(ledger, FLOOR, END)
    in_mode(ledger, Mode.HOLD, FLOOR, behind="DYNAMODB_ONLY", ahead="MONGO_ONLY")
    assert AFTER in read_reigns(ledger)
    in_mode(ledger, Mode.DYNAMODB_ONLY, FLOOR)
    assert AFTER in read_reigns(ledger)
    record_reign(ledger, FLOOR, AFTER)
    in_mode(ledger, Mode.MONGO_ONLY, FLOOR)
    assert read_reigns(ledger).all == (Reign(floor=FLOOR, end=AFTER),)


def test_each_reign_is_kept() -> None:
    ledger, later = FakeLedger(), snapshot_version(Timestamp(300, 1))
    record_reign(ledger, FLOOR, END)
    in_mode(ledger, Mode.DYNAMODB_ONLY, later)
    reigns = read_reigns(ledger)
    assert [version in reigns for version in (WITHIN, AFTER, later, later + 1)] == [True, False, False, True]
