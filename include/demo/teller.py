"""How the demo speaks while it works."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.status import Status

SAY_EVERY_S = 3.0
TABLE_COLUMNS = 130


class Teller:
    """Says what is going on: on a terminal the last line moves, elsewhere a line comes every few seconds."""

    def __init__(self) -> None:
        # Without a terminal rich assumes 80 columns, and would cut the table's words.
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_COLUMNS)
        self._began = time.monotonic()
        self._told = 0.0
        self._status: Status | None = self.console.status("") if self.console.is_terminal else None

    def __enter__(self) -> Teller:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """A line that stays."""
        self._told = time.monotonic()
        self.console.print(f"[{self.seconds:5.0f} s] {text}", markup=False, soft_wrap=True)
        if self._status is not None:
            self._status.update(text)

    def show(self, text: str) -> None:
        """What is going on right now."""
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._told > SAY_EVERY_S:
            self.say(text)
