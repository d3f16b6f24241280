"""Who allowed a phase, on which evidence. A change of who serves asks for one; new evidence needs a new one.

The evidence is the last full validation: its digest is part of the record's key, so an approval of an older report is none.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docferry.core.cutover.modes import ModeState
from docferry.core.settings import CutoverSettings
from docferry.errors import ConditionFailed, PreflightFailed, Problem
from docferry.flows.ledger.dead_letters import bounded
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reports import Direction, RecordedReport, latest_report
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

APPROVALS, ANSWERS = "approvals", "answers"
FLIP_READS, STOP_MONGO_WRITES, FINALIZE = "flip_reads", "stop_mongo_writes", "finalize"
PHASES = (FLIP_READS, STOP_MONGO_WRITES, FINALIZE)
"""The phases that change who serves, and the one that gives up the way back."""


ANYBODY = CutoverSettings()
"""Without a word in the file every person's approval counts, and one is enough."""
IN_AIRFLOW = " (Airflow)"
"""Behind the name of who answered in Airflow, which knows its users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One approval."""

    phase: str
    evidence: str
    by: str
    why: str
    at_ms: int

    @property
    def person(self) -> str:
        """Who it was, wherever it was said."""
        return self.by.removesuffix(IN_AIRFLOW)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswer:
    """An answer that gave no approval: `what` says that it was a rejection, or why it did not count."""

    phase: str
    evidence: str
    by: str
    why: str
    what: str
    at_ms: int


REJECTED = "rejected"


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
    judged = "DynamoDB" if mode.leader.dynamodb_leads else "MongoDB"
    return f"the last one judged {judged}, which leads now: the mode is {mode}"


def approve(
    ledger: Ledger, phase: str, evidence: str, by: str, why: str, cutover: CutoverSettings = ANYBODY
) -> Approval:
    """Record a person's approval of a phase on this evidence; the first one of each person stays.

    Raises: PreflightFailed, if the evidence is not the last report any more, the phase is none, the person is not one of the
            file's approvers, or four eyes are asked for and these two have looked before.
    """
    found = Approval(phase=phase, evidence=evidence, by=by, why=why, at_ms=now_ms())
    before = [one for one in approvals_of(ledger, phase, evidence) if one.person == found.person]
    problems = _not_approvable(found, before, cutover)
    if evidence != evidence_of(ledger).digest:
        what = f"{evidence} is not the last validation report"
        problems.append(Problem(where="evidence", what=what, suggestion="look at the newer one, then approve that"))
    if problems:
        raise PreflightFailed("the approval", problems)
    body = {"phase": phase, "evidence": evidence, "by": by, "why": why, "at": found.at_ms}
    if not before:
        with suppress(ConditionFailed):  # said twice at one time
            ledger.write(APPROVALS, f"{phase}#{evidence}#{found.person}", body, expect=None)
    return before[0] if before else found


def _not_approvable(found: Approval, before: Sequence[Approval], cutover: CutoverSettings) -> list[Problem]:
    problems = []
    if (phase := found.phase) not in PHASES:
        problems.append(Problem(where="phase", what=f"there is no {phase} to approve", suggestion=", ".join(PHASES)))
    if cutover.approvers and found.person not in cutover.approvers:
        what = f"{found.person} is none of those whose approval counts"
        problems.append(
            Problem(where="cutover.approvers", what=what, suggestion=f"ask one of {', '.join(cutover.approvers)}")
        )
    if before and cutover.four_eyes:
        what = f"{found.person} has approved it already, and four eyes are two persons'"
        problems.append(Problem(where=phase, what=what, suggestion="ask a second person"))
    return problems


def note_answer(ledger: Ledger, phase: str, evidence: str, by: str, why: str, what: str) -> None:
    """Keep an answer that gave no approval, for the audit trail. Raises StoreError."""
    now = now_ms()
    body = {"phase": phase, "evidence": evidence, "by": by, "why": bounded(why), "what": bounded(what), "at": now}
    ledger.write(ANSWERS, f"{now:013d}-{uuid.uuid4().hex[:8]}", body, expect=None)


def list_answers(ledger: Ledger) -> list[ApprovalAnswer]:
    """Those that gave no approval, the oldest first."""
    return [_answer_in(record) for record in ledger.list(ANSWERS)]


def approvals_of(ledger: Ledger, phase: str, evidence: str) -> list[Approval]:
    """The approvals of a phase on this evidence, first one first."""
    found = [_approval_in(record) for record in ledger.list(APPROVALS, f"{phase}#{evidence}")]
    return sorted((one for one in found if one.evidence == evidence), key=lambda one: one.at_ms)


def list_approvals(ledger: Ledger) -> list[Approval]:
    """All that were ever given."""
    return [_approval_in(record) for record in ledger.list(APPROVALS)]


def unapproved(ledger: Ledger, phase: str, evidence: str, cutover: CutoverSettings = ANYBODY) -> Problem | None:
    """What a phase lacks of approvals on this evidence; None if it may go on. The file of now says whose count."""
    given = [
        one for one in approvals_of(ledger, phase, evidence) if not cutover.approvers or one.person in cutover.approvers
    ]
    people = list(dict.fromkeys(one.person for one in given))
    if len(people) >= (2 if cutover.four_eyes else 1):
        return None
    has = f"the approval of {people[0]} alone" if people else "no approval"
    what = f"has {has} on the last validation report ({evidence[:12]})"
    if people:
        what += ", and needs a second person's"
    return Problem(where=phase, what=what, suggestion=f"docferry approve FILE {phase} --as NAME --why TICKET")


def _approval_in(record: Record) -> Approval:
    body = record.body
    return Approval(
        phase=body["phase"], evidence=body["evidence"], by=body["by"], why=body["why"], at_ms=int(body["at"])
    )


def _answer_in(record: Record) -> ApprovalAnswer:
    body = record.body
    return ApprovalAnswer(
        phase=body["phase"],
        evidence=body["evidence"],
        by=body["by"],
        why=body["why"],
        what=body["what"],
        at_ms=int(body["at"]),
    )
