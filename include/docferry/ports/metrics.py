"""Where measurements go: CloudWatch, a page that is scraped, Airflow's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from docferry.core.metric_data import Measurement


class MetricSink(Protocol):
    """Takes the measurements of one migration. What it cannot deliver it counts: it raises no StoreError.

    `lost` measurements were not delivered so far, for the last time because of `why_lost`.
    """

    lost: int
    why_lost: str

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None: ...

    def hurry(self) -> None:
        """The end is near: what fails from now on is not tried again."""
