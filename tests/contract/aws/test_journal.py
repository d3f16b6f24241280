"""What the journal promises, in memory and in DynamoDB: one entry a slot for ever, and lanes read as they are now."""

from __future__ import annotations

import uuid

import boto3
import pytest
from docferry.adapters.aws.journal import DynamoJournal
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.core.cutover.journal import Entry, EntryKind, LaneName, Wrote
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import InvariantBroken
from docferry.ports.flows import Journal
from docferry.testing.fakes import FakeJournal
from support.tables import create_table

LANE, OTHER = LaneName("one", 0), LaneName("one", 1)


@pytest.fixture
def journal(session: boto3.Session | None) -> Journal:
    if session is None:
        return FakeJournal()
    table = f"Journal{uuid.uuid4().hex}"
    create_table(session, table)
    return DynamoJournal(session, table, "one")


def write(nonce: str) -> Entry:
    wrote = Wrote(table="Shop", key=("USER#ä", "PROFILE"), version="0" * 22, expires_s=7)
    return Entry(kind=EntryKind.WRITE, nonce=nonce, wrote=(wrote, wrote))


def test_slot_is_taken_once(journal: Journal) -> None:
    assert journal.put(LANE, 1, write("a")) is None
    assert journal.put(LANE, 1, Entry(kind=EntryKind.SEAL, nonce="b")) == write("a")
    assert journal.read(LANE, 0, 10) == [(1, write("a"))]


def test_entry_that_is_sent_again_is_the_same_one(journal: Journal) -> None:
    void = Entry(kind=EntryKind.VOID, nonce="a")
    assert [journal.put(LANE, 1, void), journal.put(LANE, 1, void)] == [None, None]


def test_lane_is_read_behind_a_slot_in_order_and_up_to_a_limit(journal: Journal) -> None:
    for slot in (11, 2, 9, 10, 1, 3):
        journal.put(LANE, slot, write(str(slot)))
    journal.put(OTHER, 4, write("other"))
    journal.put(LaneName("one0", 0), 4, write("other"))
    assert [slot for slot, _ in journal.read(LANE, 2, 10)] == [3, 9, 10, 11]
    assert [slot for slot, _ in journal.read(LANE, 2, 2)] == [3, 9]
    assert journal.read(LANE, 11, 10) == []
    assert journal.read(LaneName("nobody", 0), 0, 10) == []


@pytest.mark.parametrize(
    "session", ["ministack", pytest.param("dynamodb_local", marks=pytest.mark.dynamodb_local)], indirect=True
)
def test_mode_that_requires_a_journal_is_of_a_schema_that_older_docferrys_do_not_read(session: boto3.Session) -> None:
    table = f"Ledger{uuid.uuid4().hex}"
    create_table(session, table)
    ledger, client = DynamoLedger(session, table, "one"), session.client("dynamodb")

    def schema() -> str:
        (item,) = client.scan(TableName=table)["Items"]
        return str(item["schema"]["N"])

    state = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1, journal=True)
    required = ledger.write(*MODE, state.to_body(), expect=None)
    assert schema() == "2"
    assert ledger.read(*MODE) == required
    back = ledger.write(*MODE, ModeState(epoch=2).to_body(), expect=required)
    assert schema() == "1"
    ledger.write(*MODE, {**state.to_body(), "requires": ["journal", "what is to come"]}, expect=back)
    with pytest.raises(InvariantBroken, match="requires what is to come"):
        ledger.read(*MODE)
