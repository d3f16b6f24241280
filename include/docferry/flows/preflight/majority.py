"""Waiting while MongoDB has no majority of data-bearing members, and saying why.

Nothing that such a set acknowledges is safe from a fail-over, so MongoDB holds its change stream and its snapshots back: no
error, only silence (with an arbiter it still has a primary and takes writes). A flow that waits for it must be told, and goes
on by itself when the member returns.
"""

from __future__ import annotations

import time

from docferry.errors import Stopped, TransientStoreError
from docferry.flows.preflight.mongodb import lacking_majority
from docferry.ports.flows import Progress, Source, StopSignal

LOOK_S = 5.0
REMIND_S = 60.0


class MajorityWatch:
    """Looks at the members for a flow that waits. `missing` says what is lacking, '' as far as is known nothing."""

    def __init__(self, source: Source, progress: Progress, subject: str) -> None:
        self._source, self._progress, self._subject = source, progress, subject
        self._looked = self._said = float("-inf")
        self.missing = ""

    def look(self) -> str:
        """What is lacking, asked at most every LOOK_S; told when it is new, every REMIND_S, and when it is over."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            try:
                self._tell(lacking_majority(self._source.server_facts()))
            except TransientStoreError:
                return self.missing  # no member answers: the flow that waits gets the same error, and reports it
        return self.missing

    def _tell(self, missing: str) -> None:
        before, self.missing = self.missing, missing
        now = time.monotonic()
        if missing and (missing != before or now - self._said >= REMIND_S):
            self._said = now
            self._progress.say(
                f"{self._subject} waits: MongoDB {missing}. It goes on when a member returns; see rs.status()"
            )
        elif before and not missing:
            self._progress.say(f"{self._subject} goes on: MongoDB has a majority of data-bearing members again")


def wait_for_majority(
    source: Source, progress: Progress, stop: StopSignal, subject: str, for_s: float | None = None
) -> None:
    """Return when a majority is there, or MongoDB cannot be asked, or after `for_s`: then the checks say what is wrong.

    Raises: Stopped.
    """
    watch = MajorityWatch(source, progress, subject)
    until = None if for_s is None else time.monotonic() + for_s
    while watch.look() and (until is None or time.monotonic() < until):
        if stop.is_set():
            raise Stopped(f"asked to stop while {subject} waited for MongoDB's members")
        time.sleep(0.25)
