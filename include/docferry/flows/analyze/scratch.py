"""Scratch tables from their first thought to their last: what a killed run leaves, the next one removes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from docferry.core.estate.values import TableSpec
from docferry.errors import ControlPlaneBusy, Stopped, TimedOut
from docferry.ports.flows import Progress, StopSignal
from docferry.ports.proof import Manifest, ScratchTables

LATE_S = 900.0
"""So long, after it was signed, a request of a killed process may still make a table: AWS's own limit."""
READY_S = 300.0
POLL_S = 0.5


@dataclass(slots=True)
class Scratch:
    """The tables of one run, and those that earlier runs have left. Use it while the manifest is held."""

    tables: ScratchTables
    manifest: Manifest
    progress: Progress
    stop: StopSignal
    clock: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep
    _mine: set[str] = field(default_factory=set)

    def clean(self) -> list[str]:
        """Remove what earlier runs have left: all of the manifest, and what says that its time is over. Returns the names.

        A name that was asked for a moment ago, and of which there is no table yet, stays in the manifest: the table may come.
        """
        known, now = self.manifest.names(), self.clock()
        expired = [name for name in self.tables.names() if name not in known and self._is_expired(name, now)]
        there = [name for name in known if self.tables.status(name)]
        removed = [*there, *expired]
        if removed:
            self.progress.say(f"removing {len(removed)} scratch tables that an earlier run has left")
        self._remove(removed)
        self.manifest.keep({name: at for name, at in known.items() if name not in removed and now - at < LATE_S})
        return removed

    def make(self, specs: Sequence[TableSpec]) -> None:
        """Make tables and wait until they can be used. Raises: StoreError, Stopped, TimedOut."""
        asked = {spec.name: self.clock() for spec in specs}
        self._mine |= asked.keys()
        self.manifest.keep(self.manifest.names() | asked)
        for spec in specs:
            self.tables.create(spec)
        for spec in specs:
            self._await(spec.name, lambda name: self.tables.status(name) == "ACTIVE")

    def remove(self) -> None:
        """Remove what this run has made. What a request without an answer may still make stays in the manifest."""
        there = {name for name in self._mine if self.tables.status(name)}
        self._remove(there)
        names = self.manifest.names()
        self.manifest.keep({name: at for name, at in names.items() if name not in there})

    def _is_expired(self, name: str, now: float) -> bool:
        until = self.tables.until(name)
        return until is not None and until < now

    def _remove(self, names: Iterable[str]) -> None:
        gone = sorted(names)
        for name in gone:
            self._await(name, self._is_let_go, stoppable=False)
        for name in gone:
            self._await(name, lambda one: self.tables.status(one) in ("", "DELETING"), stoppable=False)

    def _is_let_go(self, name: str) -> bool:
        """A table that is being made cannot be removed yet."""
        try:
            self.tables.delete(name)
        except ControlPlaneBusy:
            return False
        return True

    def _await(self, name: str, done: Callable[[str], bool], stoppable: bool = True) -> None:
        deadline = self.clock() + READY_S
        while not done(name):
            if stoppable and self.stop.is_set():
                raise Stopped("stopped before the model was proved; its scratch tables are being removed")
            if self.clock() > deadline:
                raise TimedOut(f"the scratch table {name} was not ready in {READY_S:.0f} s", operation="scratch table")
            self.pause(POLL_S)
