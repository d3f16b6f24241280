"""A person's answer to the question whether a phase may go on: on evidence of now, and every answer is kept."""

from __future__ import annotations

from docferry.core.settings import CutoverSettings
from docferry.errors import PreflightFailed
from docferry.flows.cutover.reasons import too_old
from docferry.flows.ledger.approvals import Approval, approve, evidence_of, note_answer
from docferry.flows.ledger.reports import RecordedReport
from docferry.ports.flows import Ledger


def fresh_evidence(ledger: Ledger) -> RecordedReport:
    """The report that an approval is about.

    Raises: PreflightFailed, if there is none, it did not find all equal, was made while the other database led, or is too old.
    """
    report = evidence_of(ledger)
    if (old := too_old(report)) is not None:
        raise PreflightFailed("the evidence for an approval", [old])
    return report


def give_approval(ledger: Ledger, phase: str, evidence: str, by: str, why: str, cutover: CutoverSettings) -> Approval:
    """Record an approval of what the person has seen. One that does not count is kept as well, with the reason.

    :param evidence: The digest of the report that the person was shown.
    Raises: PreflightFailed, as `fresh_evidence` and `approve`.
    """
    try:
        fresh_evidence(ledger)
        return approve(ledger, phase, evidence, by, why, cutover)
    except PreflightFailed as refused:
        note_answer(ledger, phase, evidence, by, why, f"did not count: {refused}")
        raise
