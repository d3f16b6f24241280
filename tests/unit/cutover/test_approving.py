"""An answer counts on evidence of now alone, and one that does not count is kept with the reason."""

from __future__ import annotations

import pytest
from docferry.core.settings import CutoverSettings
from docferry.errors import PreflightFailed
from docferry.flows.cutover import flip
from docferry.flows.cutover.approving import give_approval
from docferry.flows.ledger.approvals import FLIP_READS, evidence_of, list_answers, list_approvals
from docferry.flows.ledger.modes import read_mode
from support.cutover.refusal_cases import old_report
from support.cutover.refusing import DUAL, Ready


@pytest.mark.parametrize(
    ("evidence", "by", "settings", "reason"),
    [
        ("f" * 64, "anna", {}, "is not the last validation report"),
        ("", "anna", {"approvers": ("bert",)}, "anna is none of those"),
        ("", "me", {"four_eyes": True}, "me has approved it already"),
    ],
)
def test_answer_that_does_not_count_is_kept_with_the_reason(
    evidence: str, by: str, settings: dict[str, object], reason: str
) -> None:
    world = Ready(DUAL)
    before, digest = list_approvals(world.ledger), evidence or evidence_of(world.ledger).digest
    with pytest.raises(PreflightFailed, match=reason):
        give_approval(world.ledger, FLIP_READS, digest, by, "CHG-1", CutoverSettings(**settings))  # type: ignore[arg-type]
    assert list_approvals(world.ledger) == before
    (kept,) = list_answers(world.ledger)
    assert (kept.by, kept.why, kept.phase, kept.evidence) == (by, "CHG-1", FLIP_READS, digest)
    assert reason in kept.what


def test_approval_that_was_given_in_time_is_refused_once_its_report_is_old_and_nothing_changes() -> None:
    world = Ready(DUAL)
    old_report(world)
    mode = read_mode(world.ledger)
    with pytest.raises(PreflightFailed, match="27 h old, and so are the approvals"):
        flip.flip_reads(world.job(), 1, 0.0)
    with pytest.raises(PreflightFailed, match="27 h old"):
        give_approval(world.ledger, FLIP_READS, evidence_of(world.ledger).digest, "anna", "CHG-1", CutoverSettings())
    assert read_mode(world.ledger) == mode
