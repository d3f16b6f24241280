"""What the way back rests on: the processes that wrote, and what was found equal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from docferry.core.cutover.instances import Instance
from docferry.core.versions import version_time
from docferry.errors import Problem
from docferry.flows.cutover.refusals import Asked
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.approvals import no_evidence
from docferry.flows.ledger.modes import list_instances, live_instances, read_mode
from docferry.flows.ledger.reports import latest_report
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import REPORT_AGE_S, SIGNATURE_LIVES_S

WITHOUT_JOURNAL = "journal"
"""Waived where the journals are broken: the way back goes by the streams alone, and says that it is not proved."""
WITHOUT_VALIDATION = "validation"
"""Waived, where instances are: an emergency, in which MongoDB leads without having been compared. The mode's history says so."""


def has_journals(job: Job, waived: Sequence[str]) -> bool:
    """Whether the journals are to prove the way back."""
    return read_mode(job.ledger).journal and WITHOUT_JOURNAL not in waived


def vanished(asked: Asked) -> Iterator[Problem]:
    """Every instance that vanished and may have a request on its way."""
    journals = has_journals(asked.job, asked.waived)
    for one in vanished_instances(asked.job):
        if (journals and one.lanes) or one.id in asked.waived:
            continue  # struck off and sealed: whatever it has sent can be waited for in its lanes, or never happens
        left_s = one.until_ms / 1000 + SIGNATURE_LIVES_S - time.time()
        what = (
            "disappeared without ending its registration; a request that it signed may still arrive for "
            f"{left_s / 60:.0f} min"
        )
        advice = f"wait for it, or waive it if it is known to be gone: --waive {one.id}"
        yield Problem(where=f"instance {one.name}", what=what, suggestion=advice)


def ended_without_a_word(job: Job) -> list[Instance]:
    """Instances that did not say that they end, nor what they wrote last; their last signed requests may still be alive."""
    live = {one.id for one in live_instances(job.ledger, job.identity)}
    limit = now_ms() - int(SIGNATURE_LIVES_S * 1000)
    return [one for one in list_instances(job.ledger) if not one.ended and one.id not in live and one.until_ms > limit]


def vanished_instances(job: Job) -> list[Instance]:
    """Those of them whose process is not proved dead."""
    return [one for one in ended_without_a_word(job) if not job.identity.ended(one.mark)]


def unvalidated(asked: Asked) -> Iterator[Problem]:
    """No report says that MongoDB holds what DynamoDB does, since it leads this time."""
    if WITHOUT_VALIDATION in asked.waived:
        return
    report, mode = latest_report(asked.job.ledger), read_mode(asked.job.ledger)
    problem = no_evidence(report, mode)
    what = problem.what if problem is not None else ""
    if report is not None and not what:
        age_s, floor_s = (now_ms() - report.at_ms) / 1000, version_time(mode.floor).time
        if report.at_ms / 1000 < floor_s:
            what = "the last one is from before DynamoDB led this time"
        elif age_s > REPORT_AGE_S:
            what = f"is {age_s / 3600:.0f} h old"
    advice = (
        "docferry validate, while docferry reverse runs; in an emergency: --waive "
        f"{WITHOUT_VALIDATION}, which the history of the mode keeps"
    )
    if what:
        yield Problem(where="full validation", what=what, suggestion=advice)


def reverse_letters(asked: Asked) -> Iterator[Problem]:
    if found := list_reverse_letters(asked.job.ledger):
        what = f"has {len(found)} dead letter(s): MongoDB does not hold these documents as DynamoDB does"
        yield Problem(where="reverse replication", what=what, suggestion="docferry status")
