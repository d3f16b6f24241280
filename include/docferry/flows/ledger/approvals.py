"""Who allowed a phase, on which evidence. A change of who serves asks for one; new evidence needs a new one.

The evidence is the last full validation: its digest is part of the record's key, so an approval of an older report is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from docferry.core.cutover.modes import ModeState
from docferry.errors import ConditionFailed, PreflightFailed, Problem
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reports import Direction, RecordedReport, latest_report
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

APPROVALS = "approvals"
FLIP_READS, STOP_MONGO_WRITES, FINALIZE = "flip_reads", "stop_mongo_writes", "finalize"
PHASES = (FLIP_READS, STOP_MONGO_WRITES, FINALIZE)
"""The phases that change who serves, and the one that gives up the way back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One approval."""

    phase: str
    evidence: str
    by: str
    why: str
    at_ms: int

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def evidence_of(ledger: Ledger) -> RecordedReport:
    """The report that an approval is about.

    Raises: PreflightFailed, if there is none, it did not find all equal, or was made while the other database led.
    """
    report = latest_report(ledger)
    problem = no_evidence(report, read_mode(ledger))
    if report is None or problem is not None:
        raise PreflightFailed("the evidence for an approval", [problem] if problem else [])
    return report


def no_evidence(report: RecordedReport | None, mode: ModeState) -> Problem | None:
    """Why a report proves nothing about the database that leads; None if it does."""
    advice = "docferry validate" if mode.leader.dynamodb_leads else "docferry validate, and repair"
    if report is None:
        return Problem(where="full validation", what="none has been recorded", suggestion=advice)
    if not report.ok:
        return Problem(where="full validation", what="the last one was not EQUAL", suggestion=advice)
    if what := of_another_leader(report, mode):
        return Problem(where="full validation", what=what, suggestion=advice)
    return None


def of_another_leader(report: RecordedReport, mode: ModeState) -> str:
    """In words, that a report was made while the other database led; "" if it was not."""
    if (report.direction is Direction.REVERSE) is mode.leader.dynamodb_leads:
        return ""
    return f"the last one judged the database that leads now: the mode is {mode}"


def approve(ledger: Ledger, phase: str, evidence: str, by: str, why: str) -> Approval:
    """Record an approval of a phase on this evidence; the first one stays.

    Raises: PreflightFailed, if the evidence is not the last report any more, or the phase is none.
    """
    problems = []
    if phase not in PHASES:
        problems.append(Problem(where="phase", what=f"there is no {phase} to approve", suggestion=", ".join(PHASES)))
    if evidence != evidence_of(ledger).digest:
        what = f"{evidence} is not the last validation report"
        problems.append(Problem(where="evidence", what=what, suggestion="look at the newer one, then approve that"))
    if problems:
        raise PreflightFailed("the approval", problems)
    found = Approval(phase=phase, evidence=evidence, by=by, why=why, at_ms=now_ms())
    body = {"phase": phase, "evidence": evidence, "by": by, "why": why, "at": found.at_ms}
    try:
        ledger.write(APPROVALS, f"{phase}#{evidence}", body, expect=None)
    except ConditionFailed:
        return approval_of(ledger, phase, evidence) or found
    return found


def approval_of(ledger: Ledger, phase: str, evidence: str) -> Approval | None:
    """The approval of a phase on this evidence, if there is one."""
    record = ledger.read(APPROVALS, f"{phase}#{evidence}")
    return None if record is None else _approval_in(record)


def list_approvals(ledger: Ledger) -> list[Approval]:
    """All that were ever given."""
    return [_approval_in(record) for record in ledger.list(APPROVALS)]


def _approval_in(record: Record) -> Approval:
    body = record.body
    return Approval(
        phase=body["phase"], evidence=body["evidence"], by=body["by"], why=body["why"], at_ms=int(body["at"])
    )


def require_approval(ledger: Ledger, phase: str) -> Approval:
    """The approval of a phase on the evidence of now. Raises PreflightFailed if there is none."""
    evidence = evidence_of(ledger).digest
    found = approval_of(ledger, phase, evidence)
    if found is None:
        what = f"has no approval on the last validation report ({evidence[:12]})"
        raise PreflightFailed(
            f"the phase {phase}", [Problem(where=phase, what=what, suggestion=f"docferry approve FILE {phase}")]
        )
    return found
