"""Measures beside a flow, and publishes, in a thread of its own. Whatever fails here is counted and said; the flow goes on."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from docferry.errors import MigrationError, TableMissing
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.rooms.monitor import Totals, is_due, take_turn
from docferry.flows.reporting.measure import Measured, measure
from docferry.ports.metrics import MetricSink

LOCAL_S = 15.0
"""Between two looks for what is read on this machine: no more than it is scraped."""
LAST_S = 10.0
"""So long the end of a flow waits for its last measurements."""


@contextmanager
def monitored(job: Job, *, shared: MetricSink | None = None, local: Sequence[MetricSink] = ()) -> Iterator[None]:
    """Measure while the block runs, and once more at its end.

    `shared` is told by one of all the processes that work at the migration at a time, every `monitoring.every_s` seconds;
    `local` ones are this process's own. With neither, nothing is measured.
    """
    if shared is None and not local:
        yield
        return
    monitor = _Monitor(job, shared, local)
    monitor.start()
    try:
        yield
    finally:
        monitor.end()


class _Monitor:
    def __init__(self, job: Job, shared: MetricSink | None, local: Sequence[MetricSink]) -> None:
        self.job, self.shared, self.local = job, shared, local
        settings = job.migration.monitoring
        self.turn_s = settings.every_s if settings is not None else LOCAL_S
        self.every_s = min(LOCAL_S, self.turn_s) if local else self.turn_s
        self.before = Totals()
        self.failed = 0
        self.why = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docferry-monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Ends with a last look: what the flow came to."""
        self._closing.set()
        if self.shared is not None:
            self.shared.hurry()
        self._thread.join(LAST_S)
        if self._thread.is_alive():
            self.failed += 1
            self.why = self.why or f"the last look took longer than {LAST_S:.0f} s"
        self._say()

    def _run(self) -> None:
        while True:
            last = self._closing.is_set()
            try:
                self._look(last)
            except TableMissing:
                pass  # not provisioned yet: there is nothing to measure
            except MigrationError as error:
                self._fail(str(error))
            except Exception as error:  # noqa: BLE001 - told at the end: its message may quote a document, its place does not
                place = traceback.extract_tb(error.__traceback__)[-1]
                self._fail(f"{type(error).__name__}, a bug of ours, in {place.name} (line {place.lineno})")
            if last:
                return
            self._closing.wait(self.every_s)

    def _look(self, last: bool) -> None:
        ledger, owner = self.job.ledger, self.job.identity.name
        due = self.shared is not None and is_due(ledger, owner, self.turn_s, last=last)
        if not due and not self.local:
            return
        turn: list[Totals] = []

        def before(totals: Totals) -> Totals | None:
            if due and (taken := take_turn(ledger, owner, self.turn_s, totals, last=last)) is not None:
                turn.append(taken)
            return next(iter(turn), self.before if self.local else None)

        look = measure(self.job, before)
        if look is None:
            return
        self.before = look.totals
        for why in look.untold:
            self._fail(why)
        self._publish(look, [*self.local, *([self.shared] if self.shared is not None and turn else [])])

    def _publish(self, look: Measured, sinks: Sequence[MetricSink]) -> None:
        for sink in sinks:
            sink.publish(self.job.migration.name, look.measurements, look.totals.at_ms)

    def _fail(self, why: str) -> None:
        self.failed += 1
        self.why = why

    def _say(self) -> None:
        for sink in (self.shared, *self.local):
            if sink is not None and sink.lost:
                self.job.progress.say(f"{sink.lost} values of metrics were lost, the last because: {sink.why_lost}")
        if self.failed:
            self.job.progress.say(f"metrics could not be measured {self.failed} time(s), the last because: {self.why}")
