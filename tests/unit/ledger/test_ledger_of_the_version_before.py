"""A ledger that the version before wrote is read on: nothing in it is refused, lost or understood otherwise."""

from __future__ import annotations

import asyncio
import threading

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.modes import Mode
from docferry.errors import PreflightFailed
from docferry.flows.ledger.approvals import FLIP_READS, approve, evidence_of, unapproved
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.dead_letters import close_letter, letter_document, list_letters, read_letter
from docferry.flows.ledger.leases import Lease, take_or_create
from docferry.flows.ledger.load_headers import LoadHeaders, list_chunks
from docferry.flows.ledger.mapping_fingerprint import FORMAT, changed_mappings, require_mapping
from docferry.flows.ledger.modes import change_mode, list_moves, mode_in, mode_record, read_mode
from docferry.flows.ledger.positions import REPLICATION, read_replication, recorded_position
from docferry.flows.ledger.writers import open_loads, open_writers, unfinished_loads
from docferry.flows.replicate.opening import open_for_following
from docferry.flows.reporting.status import status_of
from docferry.ports.flows import Ledger
from docferry.testing.fakes import FakeLedger
from docferry.wiring import who
from support.ledger.old import fill, old_migration

MIGRATION = old_migration()
CHANGED = old_migration(changed=True)


@pytest.fixture
def ledger() -> Ledger:
    return fill(FakeLedger())


def lease_of(ledger: Ledger) -> Lease:
    return take_or_create(ledger, *REPLICATION, who(), 60.0)


def test_its_status_is_what_it_was(ledger: Ledger) -> None:
    found = status_of(MIGRATION, ledger)
    assert found["mode"] == "DUAL_WRITE"
    assert {
        one["collection"]: (one["state"], one["read"], one["written"], one["dead"]) for one in found["collections"]
    } == {
        "users": ("complete", 60, 58, 2),
        "orders": ("complete", 105, 104, 1),
        "products": ("complete", 24, 23, 1),
        "categories": ("complete", 20, 20, 0),
    }
    assert found["replication"]["applied_up_to"] == "1795941661:0000000001"
    assert (found["replication"]["ended"], found["replication"]["lag_s"], found["reverse"]) == ("", 0, None)


def test_its_mapping_is_accepted_by_the_same_file_and_refused_by_another(ledger: Ledger) -> None:
    require_mapping(MIGRATION, ledger)
    assert [one.where for one in changed_mappings(CHANGED, ledger)] == ["collections.users"]
    with pytest.raises(PreflightFailed, match="its mapping has changed"):
        require_mapping(CHANGED, ledger)


def test_replication_opens_it_where_it_was_and_renews_its_fingerprints(ledger: Ledger) -> None:
    lease = lease_of(ledger)
    position = open_for_following(ledger, MIGRATION, lease)
    lease.release()
    assert position == read_replication(ledger).position
    assert position.time == Timestamp(1795941661, 1)
    headers = LoadHeaders(ledger)
    for name in MIGRATION.mappings:
        header = headers.read(name)
        assert header is not None
        assert header.mapping.startswith(FORMAT)
        assert header.complete
    require_mapping(MIGRATION, ledger)
    assert [one.where for one in changed_mappings(CHANGED, ledger)] == ["collections.users"]


def test_replication_with_another_mapping_is_refused_and_renews_nothing(ledger: Ledger) -> None:
    lease = lease_of(ledger)
    with pytest.raises(PreflightFailed, match="its mapping has changed"):
        open_for_following(ledger, CHANGED, lease)
    lease.release()
    header = LoadHeaders(ledger).read("users")
    assert header is not None
    assert not header.mapping.startswith(FORMAT)


def test_its_load_is_over_and_nobody_writes(ledger: Ledger) -> None:
    assert unfinished_loads(ledger, MIGRATION) == []
    assert open_loads(ledger, MIGRATION, who()) == []
    assert open_writers(ledger, who()) == []
    chunks = [chunk for name in MIGRATION.mappings for chunk in list_chunks(ledger, name)]
    assert len(chunks) == 7
    assert all(chunk.done for chunk in chunks)
    position = recorded_position(ledger)
    assert position is not None
    assert position.scope == "database:myapp"


def test_its_mode_and_history_go_on(ledger: Ledger) -> None:
    assert [(one.before, one.after, one.by) for one in list_moves(ledger)] == [
        ("MONGO_ONLY", "DUAL_WRITE", "docferry@host pid 32546")
    ]
    record = mode_record(ledger)
    change_mode(ledger, record, mode_in(record).move(Mode.MONGO_ONLY, 0), who(), "why not")
    assert (read_mode(ledger).mode, read_mode(ledger).epoch, len(list_moves(ledger))) == (Mode.MONGO_ONLY, 2, 2)


def test_its_dead_letters_are_found_with_their_documents_and_can_be_closed(ledger: Ledger) -> None:
    letters = {name: list_letters(ledger, name) for name in MIGRATION.mappings}
    assert {name: [one.reason for one in found] for name, found in letters.items()} == {
        "users": ["KeyNotRepresentable"] * 2,
        "orders": ["TooDeep"],
        "products": [],
        "categories": [],
    }
    for name, found in letters.items():
        for letter in found:
            assert read_letter(ledger, name, letter.id) == letter
            assert str(bson.decode(letter_document(ledger, letter))["_id"]) == letter.id
            close_letter(ledger, letter)
    assert [one for name in MIGRATION.mappings for one in list_letters(ledger, name)] == []
    assert ledger.list("dead-parts:users") == []


def test_its_report_is_evidence_for_an_approval(ledger: Ledger) -> None:
    digest = evidence_of(ledger).digest
    approve(ledger, FLIP_READS, digest, "a person", "it was compared")
    assert unapproved(ledger, FLIP_READS, digest) is None


def test_its_budget_is_shared_on(ledger: Ledger) -> None:
    budget = LedgerBudget(ledger, "wcu", budget_of(MIGRATION), threading.Event())
    asyncio.run(asyncio.wait_for(budget.take(10.0), 5))
