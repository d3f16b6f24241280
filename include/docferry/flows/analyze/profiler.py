"""MongoDB's profiler, switched on for a bounded time where that was asked for, and put back: at once, or by the next analysis."""

from __future__ import annotations

import time
from collections.abc import Callable

from docferry.errors import Stopped
from docferry.flows.analyze.job import Analysis
from docferry.ports.analyze import ProfilerLevel

ALL = 2
"""Each call is written down. The threshold of slow calls is left as it is: it decides about the server's log."""
LOOK_EVERY_S = 0.5


def put_back(job: Analysis) -> bool:
    """Put back what an analysis that was killed has left on; whether there was anything.

    Raises: AccessDenied, if this user may not; ConfigError.
    """
    was = job.profiler.read() if job.profiler is not None else None
    if was is None or job.profiler is None:
        return False
    if was.database != job.database:
        return False
    _restore(job, was)
    job.profiler.forget()
    return True


def profile_calls(job: Analysis, pause: Callable[[float], None] = time.sleep) -> None:
    """Write down the application's calls for as long as the job says. Raises: Stopped; AccessDenied, if this user may not."""
    if job.profiler is None or not job.profile_s:
        return
    level = job.source.profiler()
    if level == ALL:
        job.progress.say("the profiler is on already: it is left as it is")
        return
    was = ProfilerLevel(database=job.database, level=level)
    job.profiler.keep(was)
    try:
        job.source.set_profiler(ALL)
        job.progress.say(
            f"the profiler of {job.database} is on for {job.profile_s:g} s; then it is put back to level {level}"
        )
        _wait(job, pause)
    finally:
        _restore(job, was)
        job.profiler.forget()


def _wait(job: Analysis, pause: Callable[[float], None]) -> None:
    until = time.monotonic() + job.profile_s
    while (left := until - time.monotonic()) > 0:
        if job.stop.is_set():
            raise Stopped("stopped while the profiler was on; it has been put back")
        pause(min(LOOK_EVERY_S, left))


def _restore(job: Analysis, was: ProfilerLevel) -> None:
    """Only what an analysis has set: a person who has changed it meanwhile has the last word."""
    if job.source.profiler() == ALL:
        job.source.set_profiler(was.level)
        job.progress.say(f"the profiler of {was.database} is put back to level {was.level}")
