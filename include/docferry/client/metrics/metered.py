"""What the client counts: for the ledger, where flips look at it, and for the application's own monitoring.

The default is OpenTelemetry, if its API is installed; else only the ledger's counts are kept.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Sequence
from typing import Any

from docferry.client.membership import Membership
from docferry.core.cutover.latency import TOOK, bucket_of
from docferry.ports.client import Metrics

NAMESPACE = "docferry.client"
READS = frozenset({"find", "find_one"})
"""What both databases answer: how long each takes is compared when reads are flipped."""
MOST_WAITING = 1_000
Took = tuple[str, str, float, str]
"""A call: of which database, the operation, its seconds, and its error's type."""


class NoMetrics:
    """Metrics that go nowhere."""

    def record(self, database: str, operation: str, seconds: float, error: str = "") -> None: ...

    def count(self, name: str, number: int = 1) -> None: ...


class OpenTelemetryMetrics:
    """Counts and latencies as instruments of OpenTelemetry's global meter."""

    def __init__(self, meter: Any) -> None:
        self._calls = meter.create_counter(f"{NAMESPACE}.calls", description="calls by database and operation")
        self._failures = meter.create_counter(f"{NAMESPACE}.failures", description="failed calls, by the error's type")
        self._seconds = meter.create_histogram(f"{NAMESPACE}.latency", unit="s")
        self._events = meter.create_counter(f"{NAMESPACE}.events")

    def record(self, database: str, operation: str, seconds: float, error: str = "") -> None:
        about = {"db.system": database, "db.operation": operation}
        self._calls.add(1, about)
        self._seconds.record(seconds, about)
        if error:
            self._failures.add(1, about | {"error.type": error})

    def count(self, name: str, number: int = 1) -> None:
        self._events.add(number, {"event": name})


def default_metrics() -> Metrics:
    """OpenTelemetry's if its API is there."""
    try:
        from opentelemetry import metrics
    except ImportError:
        return NoMetrics()
    return OpenTelemetryMetrics(metrics.get_meter(NAMESPACE))


class Metered:
    """Tells the application's metrics, and keeps the counts that go into the ledger.

    What a call took waits until the counts are read, as the membership does every few seconds, or too much waits: between
    two answers of a server nothing of ours is in the processor's caches, and each call of a function costs a microsecond or two.
    """

    def __init__(self, metrics: Metrics, membership: Membership) -> None:
        self._metrics, self._tally = metrics, membership.tally
        self.waiting: deque[Took] = deque()
        membership.tally.before_reading.append(self.settle)
        membership.on_fork.append(self.waiting.clear)
        atexit.register(_tell, metrics, self.waiting)

    def settle(self) -> None:
        """Tell what waits. Thread-safe."""
        tally = self._tally
        for database, operation, seconds, error in _tell(self._metrics, self.waiting):
            tally.count(f"{database}.{operation}")
            if operation in READS and not error:
                tally.count(f"{TOOK}{database}.{bucket_of(seconds)}")
            if error:
                tally.count(f"{database}.{operation}.failed")

    def count(self, name: str, number: int = 1) -> None:
        self._metrics.count(name, number)
        self._tally.count(name, number)


def _tell(metrics: Metrics, waiting: deque[Took]) -> Sequence[Took]:
    """What has waited, told to the application's metrics; at the end of a process, too."""
    told: list[Took] = []
    while waiting:
        try:
            one = waiting.popleft()
        except IndexError:  # another thread was quicker
            break
        metrics.record(*one)
        told.append(one)
    return told
