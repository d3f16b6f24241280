"""Whose approval counts, and how many are needed."""

from __future__ import annotations

import pytest
from bson.timestamp import Timestamp
from docferry.core.settings import CutoverSettings
from docferry.errors import PreflightFailed
from docferry.flows.ledger.approvals import APPROVALS, FLIP_READS, approvals_of, approve, evidence_of, unapproved
from docferry.flows.ledger.reports import ValidationReport, record_report
from docferry.flows.ledger.times import now_ms
from docferry.testing.fakes import FakeLedger
from support.config import problems_of
from support.place import ROOT


@pytest.fixture
def ledger() -> FakeLedger:
    """With a report that found all equal."""
    made = FakeLedger()
    report = ValidationReport(
        migration="shop", at_ms=now_ms(), sample=None, collections=(), unchecked=0, differences=(), suspects={},
        extra_keys={}, foreign_keys={}, versions=frozenset(), read_from=Timestamp(1, 1),
    )  # fmt: skip
    record_report(made, report)
    return made


def test_one_persons_approval_is_enough_where_the_file_says_nothing(ledger: FakeLedger) -> None:
    evidence = evidence_of(ledger).digest
    assert unapproved(ledger, FLIP_READS, evidence) is not None
    approve(ledger, FLIP_READS, evidence, "anna", "CHG-1")
    assert unapproved(ledger, FLIP_READS, evidence) is None
    assert unapproved(ledger, FLIP_READS, "f" * 64) is not None


def test_approval_of_a_person_beside_the_files_list_is_refused_and_one_that_counted_before_counts_no_more(
    ledger: FakeLedger,
) -> None:
    evidence = evidence_of(ledger).digest
    only_bert = CutoverSettings(approvers=("bert",))
    with pytest.raises(PreflightFailed, match="anna is none of those"):
        approve(ledger, FLIP_READS, evidence, "anna", "CHG-1", only_bert)
    approve(ledger, FLIP_READS, evidence, "anna", "CHG-1")
    assert unapproved(ledger, FLIP_READS, evidence, only_bert) is not None


def test_the_same_person_twice_is_one_wherever_it_was_said(ledger: FakeLedger) -> None:
    evidence = evidence_of(ledger).digest
    two = CutoverSettings(four_eyes=True)
    approve(ledger, FLIP_READS, evidence, "anna (Airflow)", "first", two)
    with pytest.raises(PreflightFailed, match="anna has approved it already"):
        approve(ledger, FLIP_READS, evidence, "anna", "again", two)
    assert approve(ledger, FLIP_READS, evidence, "anna", "again").why == "first"
    lacking = unapproved(ledger, FLIP_READS, evidence, two)
    assert lacking is not None
    assert "needs a second person's" in str(lacking)
    approve(ledger, FLIP_READS, evidence, "bert", "agreed", two)
    assert unapproved(ledger, FLIP_READS, evidence, two) is None


def test_an_approval_of_the_version_before_counts(ledger: FakeLedger) -> None:
    evidence = evidence_of(ledger).digest
    body = {"phase": FLIP_READS, "evidence": evidence, "by": "docferry@host pid 1", "why": "old", "at": 1}
    ledger.write(APPROVALS, f"{FLIP_READS}#{evidence}", body, expect=None)
    assert [one.by for one in approvals_of(ledger, FLIP_READS, evidence)] == ["docferry@host pid 1"]
    assert unapproved(ledger, FLIP_READS, evidence) is None


def test_four_eyes_with_one_approver_are_refused_by_the_file() -> None:
    text = (ROOT / "include" / "migrations" / "events.yaml").read_text()
    (problem,) = problems_of(text + "\ncutover: {approvers: [anna], four_eyes: true}\n")
    assert problem.where == "cutover.approvers"
