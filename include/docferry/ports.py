"""What flows and client ask of the outside world. `wiring` puts adapters behind these; tests put fakes.

Each protocol is one conversation: `Source` (MongoDB), `Target` (DynamoDB's data plane), `Ledger`, `Estate` (AWS's
control plane), `Progress` and `StopSignal` (whoever runs us).
"""

from __future__ import annotations

from typing import Protocol

# --- who runs us -----------------------------------------------------------------------------------------------------


class Progress(Protocol):
    """Told what happens while it happens. Never given a document."""

    def say(self, text: str) -> None:
        """One line for a person."""

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        """`done` of about `total` documents (or steps) of `subject` so far."""


class StopSignal(Protocol):
    """Set when whoever runs us wants us to stop; loops look at it at least once a second."""

    def is_set(self) -> bool: ...


# --- AWS's control plane (Estate) ------------------------------------------------------------------------------------
