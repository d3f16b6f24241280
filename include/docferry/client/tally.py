"""What one process counts: for its record in the ledger, where flips look at it. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from docferry.core.cutover.spent_shapes import OTHER, SpentBy, dearest

MOST_SHAPES = 100
MOST_EXAMPLES = 20


class Tally:
    """Counts since the process began."""

    def __init__(self) -> None:
        self.before_reading: list[Callable[[], None]] = []
        """Called before the counts are read: what has waited is counted by then."""
        self.begin()

    def begin(self) -> None:
        """Nothing is counted yet: in a fork, too, where the same object counts on."""
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._unserved: dict[str, int] = {}
        self._spent: dict[str, SpentBy] = {}
        self._spent_since_ms = 0
        self._examples: deque[str] = deque(maxlen=MOST_EXAMPLES)

    def count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def count_unserved(self, shape: str) -> None:
        """A call that DynamoDB could not have answered."""
        with self._lock:
            name = shape if shape in self._unserved or len(self._unserved) < MOST_SHAPES else "other shapes"
            self._unserved[name] = self._unserved.get(name, 0) + 1

    def count_spent(self, shape: str, read_units: float, write_units: float) -> None:
        """What DynamoDB said that a call of this shape has consumed."""
        with self._lock:
            self._spent_since_ms = self._spent_since_ms or time.time_ns() // 1_000_000
            name = shape if shape in self._spent or len(self._spent) < MOST_SHAPES else OTHER
            known = self._spent.get(name)
            if known is None:
                known = self._spent[name] = SpentBy()
            known.add(1, read_units, write_units)

    def give_example(self, what: str) -> None:
        """Where the databases were seen to differ, in words without values."""
        with self._lock:
            self._examples.append(what)

    @property
    def counts(self) -> Mapping[str, int]:
        for count in self.before_reading:
            count()
        with self._lock:
            return dict(self._counts)

    @property
    def unserved(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._unserved)

    @property
    def examples(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._examples)

    def recorded(self) -> dict[str, Any]:
        """What a record of the ledger holds of it, by the names of `Instance`: of what was spent the dearest."""
        with self._lock:
            spent, since_ms = dearest(self._spent), self._spent_since_ms
        return {
            "counts": self.counts,
            "unserved": self.unserved,
            "examples": self.examples,
            "spent": spent,
            "spent_since_ms": since_ms,
        }
