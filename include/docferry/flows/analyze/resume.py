"""An analysis that was cut short goes on where it was: finished collections are not read again."""

from __future__ import annotations

import calendar
import time

from docferry.core.analyze.facts import CollectionFacts
from docferry.core.analyze.state import AnalysisRun, FinishedCollection
from docferry.flows.analyze.budget import Spent
from docferry.flows.analyze.job import Analysis, Missing

STALE_S = 24 * 3600
"""What was found so long ago is looked for again."""
_FORM = "%Y-%m-%dT%H:%M:%SZ"


def resumed(
    job: Analysis, server: str, spent: Spent, missing: Missing
) -> tuple[AnalysisRun, dict[str, CollectionFacts]]:
    """This run, and the collections that an earlier run of the same analysis has finished; what that had read is spent.

    What an unfinished collection has cost an earlier run is not known any more: it is read again, and counted then.
    """
    run = AnalysisRun(
        database=str(job.where),
        server=server,
        collections=tuple(job.collections),
        documents=job.budget.documents,
        began=time.strftime(_FORM, time.gmtime()),
    )
    if job.state is None:
        return run, {}
    found = job.state.read()
    if found is None or not found[1] or not found[0].same_as(run) or _age_s(found[0]) > STALE_S:
        job.state.begin(run, [])
        return run, {}
    earlier, finished = found
    job.state.begin(earlier, finished)  # without a line that was cut off
    last = finished[-1]
    spent.documents, spent.bytes, spent.server_bytes = last.documents, last.bytes, last.server_bytes
    spent.before_s, spent.yielded_s = last.seconds, last.yielded_s
    for one in finished:
        missing.facts.update({fact.source: fact for fact in one.missing})
    job.progress.say(
        f"going on: {len(finished)} collections were finished by a run that began at {earlier.began}; "
        f"{last.documents:,} documents and {last.seconds:,.0f} s of the budget are spent"
    )
    return earlier, {one.facts.name: one.facts for one in finished}


def keep_finished(job: Analysis, facts: CollectionFacts, spent: Spent, missing: Missing) -> None:
    """Remember a collection that has been read to the end of its sample."""
    if job.state is not None:
        job.state.keep(
            FinishedCollection(
                facts=facts,
                missing=tuple(missing.facts.values()),
                documents=spent.documents,
                bytes=spent.bytes,
                server_bytes=spent.server_bytes,
                seconds=spent.seconds,
                yielded_s=spent.yielded_s,
            )
        )


def _age_s(run: AnalysisRun) -> float:
    try:
        return time.time() - calendar.timegm(time.strptime(run.began, _FORM))
    except ValueError:
        return STALE_S + 1
