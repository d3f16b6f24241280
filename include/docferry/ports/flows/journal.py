"""The journal of writes while DynamoDB leads, as a process that does not write documents sees it (`core.cutover.journal`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from docferry.core.cutover.journal import Entry, LaneName


class Journal(Protocol):
    """The journal's table. Raises StoreError."""

    def put(self, lane: LaneName, slot: int, entry: Entry) -> Entry | None:
        """Put an entry if its slot is empty. None: it was, or this very entry is there; else what is there, which stays."""

    def read(self, lane: LaneName, after: int, limit: int) -> Sequence[tuple[int, Entry]]:
        """The first entries behind a slot, with their slots, in order; strongly consistent."""
