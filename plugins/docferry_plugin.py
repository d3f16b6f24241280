"""The one Airflow plugin of docferry. Everything else is in the package `docferry_airflow` beside it.

Every Airflow process executes this file, each task included, so it imports next to nothing.
"""

from __future__ import annotations

from functools import cached_property

from airflow.plugins_manager import AirflowPlugin


class DocferryPlugin(AirflowPlugin):
    """Registers the listener that makes the pools our DAGs name."""

    name = "docferry"

    @cached_property
    def listeners(self) -> list[object]:  # type: ignore[override] # imported when Airflow asks, not while it parses
        from docferry_airflow.pools import PoolListener

        return [PoolListener()]
