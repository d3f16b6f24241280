"""What a test lets go wrong."""

from __future__ import annotations

import threading

from docferry.errors import (
    MigrationError,
)


class Faults:
    """What goes wrong next, in the order in which it was asked for. Shared by all fakes; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: list[MigrationError] = []
        self._after: list[MigrationError] = []
        self._always: MigrationError | None = None

    def fail_next(self, *errors: MigrationError) -> None:
        """The next calls raise these, one each, and do nothing."""
        with self._lock:
            self._before += errors

    def lose_next_answers(self, *errors: MigrationError) -> None:
        """The next changes are made, and then these are raised, one each: the caller cannot know."""
        with self._lock:
            self._after += errors

    def fail_always(self, error: MigrationError) -> None:
        """Every call raises this and does nothing, until `clear`."""
        self._always = error

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._before, self._after, self._always = [], [], None

    def before(self) -> None:
        if self._always is not None:
            raise self._always
        self._raise_first(self._before)

    def after(self) -> None:
        self._raise_first(self._after)

    def _raise_first(self, errors: list[MigrationError]) -> None:
        with self._lock:
            error = errors.pop(0) if errors else None
        if error is not None:
            raise error
