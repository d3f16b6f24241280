"""What a load costs by batch puts and by import, and which of the two is the better one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.cost.prices import PriceBook
from docferry.core.cost.workload import GB

OBJECT_DOCUMENTS = 1_000
"""Of an object, about."""
PUT_USD = 0.005 / 1_000
"""S3 Standard in us-east-1, a PUT. From memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadChoice:
    """USD and hours of the same load both ways. `impossible`: why it cannot be an import. AWS names no rate for its part of an
    import, so of that only what comes before it is known: reading, which no write budget slows down."""

    batch_usd: float
    batch_hours: float
    import_usd: float
    import_gb: float
    impossible: Sequence[str] = ()
    fits: bool = True

    @property
    def recommended(self) -> str:
        if self.impossible:
            return "batch"
        return "import" if self.import_usd < self.batch_usd or not self.fits else "batch"

    @property
    def why(self) -> str:
        if self.impossible:
            return "; ".join(self.impossible)
        if not self.fits:
            return "by batch it takes longer than half of the oplog window"
        cheaper = "cheaper, and takes no write units" if self.recommended == "import" else "not dearer, and simpler"
        return f"it is {cheaper}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "batch_usd": round(self.batch_usd, 6), "batch_hours": round(self.batch_hours, 4),
            "import_usd": round(self.import_usd, 6), "import_gb": round(self.import_gb, 4),
            "recommended": self.recommended, "why": self.why,
        }  # fmt: skip

    def line(self) -> str:
        return (
            f"By batch: {self.batch_usd:,.2f} USD, {self.batch_hours:.2f} h. By import from S3: {self.import_usd:,.2f} USD for "
            f"{self.import_gb:,.2f} GB; for how long AWS imports it does not say. Recommended: {self.recommended} ({self.why})."
        )


def choose_load(
    book: PriceBook,
    *,
    units: float,
    hours: float,
    stored_bytes: float,
    documents: int,
    impossible: Sequence[str],
    fits: bool,
) -> LoadChoice:
    """`units`: write units by batch, indexes included. An import is paid by the rows' size, indexes and all."""
    return LoadChoice(
        batch_usd=units * book.write_request_million / 1e6,
        batch_hours=hours,
        import_usd=stored_bytes / GB * book.import_gb + documents / OBJECT_DOCUMENTS * PUT_USD,
        import_gb=stored_bytes / GB,
        impossible=tuple(impossible),
        fits=fits,
    )
