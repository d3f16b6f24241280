"""Whether a fence on MongoDB would hold, asked long before writes wait: by `check`, health, the dry run, and the switch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from docferry.core.cutover.fence_plan import FenceKind, against_each, no_access_control
from docferry.core.settings import ExternalFence
from docferry.errors import AccessDenied, PermanentStoreError, PreflightFailed, Problem, RequestRefused
from docferry.flows.fence.record import LIFT_S, external_plan, plan_fence
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger.rooms.fence import read_fence
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import LATE_LIFT_S

LATE_LIFT = "lift"
"""Waived: the process that may have a lift on its way is known to be gone."""


def late_lift(job: Job) -> Iterator[Problem]:
    """A lift that a process noted, and may send yet: it would open MongoDB under the next leader, until it is looked at."""
    late = read_fence(job.ledger).late(job.identity)
    left_s = (late[1] - now_ms()) / 1000 + LATE_LIFT_S if late is not None else 0.0
    if late is not None and left_s > 0:
        what = f"may be lifted yet by {late[0]}, which was about to when it was heard of last, and is not proved dead"
        advice = f"wait {left_s / 60:.0f} min; or, if it is known to be gone, waive it: --waive {LATE_LIFT}"
        yield Problem(where="the fence on MongoDB", what=what, suggestion=advice)


def no_fence(job: Job) -> list[Problem]:
    """Why no kind of fence would hold, whatever the ledger says. Reads only.

    Raises: StoreError, RetryExhausted, Stopped, if MongoDB cannot be asked at the moment.
    """
    try:
        plan_fence(job, LIFT_S)
    except PreflightFailed as error:
        return list(error.problems)
    except (AccessDenied, RequestRefused) as error:
        return [_untold(error)]
    return []


def _untold(error: PermanentStoreError) -> Problem:
    what = f"MongoDB does not tell what a fence would meet: {error}"
    advice = (
        "docferry's user needs clusterMonitor and userAdminAnyDatabase; a service that has no such commands (Atlas) is fenced "
        "by a command: cutover.fence: {external: [...]}, docs/cutover.md"
    )
    return Problem(where="cutover.fence", what=what, suggestion=advice)


def kinds_of_fence(job: Job) -> dict[FenceKind, tuple[Problem, ...]]:
    """For each kind of fence what keeps it from holding here; nothing if it would, whichever the file asks for. Reads only.

    Raises: StoreError, RetryExhausted, Stopped, if MongoDB cannot be asked at the moment.
    """
    settings = job.migration.cutover
    found: dict[FenceKind, tuple[Problem, ...]]
    try:
        facts = retrying("ask what a fence would meet", job.fence.facts, job.stop, LIFT_S)
        if without := no_access_control(facts):
            return dict.fromkeys(FenceKind, (without,))
        found = against_each(facts, settings)
    except (AccessDenied, RequestRefused) as error:
        found = dict.fromkeys((FenceKind.WRITE_BLOCK, FenceKind.REVOKE), (_untold(error),))
    return found | {FenceKind.EXTERNAL: _against_external(job)}


def _against_external(job: Job) -> tuple[Problem, ...]:
    if not isinstance(job.migration.cutover.fence, ExternalFence):
        advice = "cutover.fence: {external: [the command, its arguments]}; docs/cutover.md"
        return (Problem(where="cutover.fence", what="names no command", suggestion=advice),)
    try:
        external_plan(job, LIFT_S)
    except PreflightFailed as error:
        return error.problems
    return ()


def describe_kinds(kinds: Mapping[FenceKind, Sequence[Problem]]) -> list[str]:
    """A line for each kind of fence: whether it would hold here, and what is missing."""
    lines = [
        f"fence {kind}: {'would not hold: ' + '; '.join(one.what for one in lacking) if lacking else 'would hold'}"
        for kind, lacking in kinds.items()
    ]
    return lines if not all(kinds.values()) else [*lines, "fence: none of the kinds would hold on this server"]


def long_transactions(job: Job) -> list[Problem]:
    """Those in the way of a write block that have been open for longer than writes may wait: nothing tells that they end.

    Raises: as `no_fence`.
    """
    settings = job.migration.cutover
    try:
        if settings.kill_transactions or plan_fence(job, LIFT_S).kind is not FenceKind.WRITE_BLOCK:
            return []
    except (PreflightFailed, AccessDenied, RequestRefused):
        return []  # no fence: `no_fence` says so
    found = retrying("list open transactions", job.fence.open_transactions, job.stop, LIFT_S)
    advice = "end it, or let the switch kill what is in its way: cutover.kill_transactions: true"
    return [
        Problem(where="cutover.fence write_block", what=f"would wait for {one}", suggestion=advice)
        for one in found
        if one.open_s > settings.hold_s
    ]
