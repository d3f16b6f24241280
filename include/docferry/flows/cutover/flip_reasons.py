"""What the application's processes have counted, where it refuses a flip of the reads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from docferry.core.cutover.instances import Instance, unserved_by
from docferry.errors import Problem
from docferry.flows.cutover.flip_evidence import counts_of
from docferry.flows.cutover.refusals import Asked
from docferry.flows.ledger.modes import list_instances, live_instances, read_mode
from docferry.flows.preflight.thresholds import COMPARED_WITHIN_S

LOOK_S = 0.5


def unserved(asked: Asked) -> Iterator[Problem]:
    """What the application asked for that DynamoDB could not answer, also in processes that have ended."""
    for shape, count in sorted(unserved_by(list_instances(asked.job.ledger), asked.waived).items()):
        advice = f"declare an access pattern for it, or change the call; once no process makes it any more: --waive '{shape}'"
        yield Problem(where=shape, what=f"was called {count} time(s), and DynamoDB cannot answer it", suggestion=advice)


def compared(asked: Asked) -> Iterator[Problem]:
    """What the comparisons of DUAL_WRITE say. If it compares, little compared is no evidence."""
    job, bounds = asked.job, asked.bounds
    if not read_mode(job.ledger).validate_writes:
        return
    live = live_instances(job.ledger, job.identity)
    seen = counts_of(live)
    if live and seen.compared + seen.mismatches < bounds.reads:
        few = f"{seen.compared + seen.mismatches} of the application's reads have been compared; {bounds.reads} are needed"
        none = "none of the application's reads has been compared yet"
        yield Problem(
            where="shadow reads",
            what=few if seen.compared + seen.mismatches else none,
            suggestion="let it read for a while; or ask for fewer: --reads; or, if it never reads, compare nothing: "
            "docferry dual-write --compare 0",
        )
    if seen.differing:
        advice = "docferry validate, and repair; then restart the application's processes, which count anew"
        yield Problem(where="shadow reads", what="; ".join([seen.differing, *examples(live)]), suggestion=advice)


def await_comparisons(asked: Asked) -> None:
    """Processes tell what they have counted every few seconds: who flips right after dual writes began would be too quick."""
    job, until = asked.job, time.monotonic() + COMPARED_WITHIN_S
    while read_mode(job.ledger).validate_writes and time.monotonic() < until and not job.stop.is_set():
        live = live_instances(job.ledger, job.identity)
        seen = counts_of(live)
        if not live or seen.compared + seen.mismatches >= asked.bounds.reads:
            return
        time.sleep(LOOK_S)


def examples(instances: Sequence[Instance]) -> list[str]:
    """Where, never what."""
    return [example for one in instances for example in one.examples][-5:]
