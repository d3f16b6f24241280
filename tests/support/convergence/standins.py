"""What docferry asks for, and a run has no use for."""

from __future__ import annotations

from docferry.flows.ledger.load_headers import PENDING, chunk_section
from docferry.ports.flows import Record


class NoLimit:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


class ChunkLease:
    """What the loader asks of a lease."""

    key = "00000"

    def __init__(self) -> None:
        self.record = Record(chunk_section("docs"), self.key, 1, {"state": PENDING})

    def check(self) -> None: ...


def no_lease() -> None:
    """A repair that looks at no lease may stand still for as long as it likes."""
