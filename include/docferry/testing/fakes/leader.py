"""The marker in memory."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace

from docferry.core.cutover.marker import Leads, Marker
from docferry.testing.fakes.faults import Faults


class FakeLeader:
    """LeaderMarker in memory. `faults[method]` make its calls raise: before they do anything, or after."""

    def __init__(self, stored: Marker | None = None) -> None:
        self.stored = stored
        self.faults: defaultdict[str, Faults] = defaultdict(Faults)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"FakeLeader({self.stored})"

    def read(self) -> Marker | None:
        self.faults["read"].before()
        return self.stored

    def write(self, marker: Marker) -> Marker:
        self.faults["write"].before()
        with self._lock:
            if self.stored is None or self.stored.revision < marker.revision:
                self.stored = replace(marker, token=self.stored.token if self.stored else 0)
            found = self.stored
        self.faults["write"].after()
        return found

    def rehearse(self) -> None:
        self.faults["rehearse"].before()

    def raise_token(self, token: int) -> bool:
        self.faults["raise_token"].before()
        with self._lock:
            if self.stored is None or self.stored.leader is not Leads.DYNAMODB or self.stored.token > token:
                return False
            self.stored = replace(self.stored, token=token)
        self.faults["raise_token"].after()
        return True
