"""What a flow knows of its caller: where to report, when to stop, and under which identity it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Told what happens while it happens. Never given a document."""

    def say(self, text: str) -> None:
        """One line for a person."""

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        """`done` of about `total` documents (or steps) of `subject` so far."""


class StopSignal(Protocol):
    """Set when the caller wants us to stop; loops look at it at least once a second."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is working: a name for people, and a mark by which others can tell that this process has ended.

    `ended(mark)` is True only if the process behind a mark has been proved dead (same host, no such process).
    """

    name: str
    mark: str
    ended: Callable[[str], bool]
