"""The one Airflow plugin of docferry. Everything else is in the package `docferry_airflow` beside it.

Every Airflow process executes this file, each task included, so it imports next to nothing.
"""

from __future__ import annotations

from functools import cached_property

from airflow.plugins_manager import AirflowPlugin


class DocferryPlugin(AirflowPlugin):
    """Registers the listener that makes the pools our DAGs name, the control room, and the pages and links of reports."""

    name = "docferry"
    # Without the slash at its end the address is taken for one of Airflow's own pages.
    external_views = [  # noqa: RUF012 - Airflow's own kind
        {
            "name": "Migrations",
            "href": "migrations/",
            "destination": "nav",
            "url_route": "migrations",
            "nav_top_level": True,
        },
    ]

    @cached_property
    def listeners(self) -> list[object]:  # type: ignore[override] # imported when Airflow asks, not while it parses
        from docferry_airflow.pools import PoolListener

        return [PoolListener()]

    @cached_property
    def operator_extra_links(self) -> list[object]:  # type: ignore[override]
        from docferry_airflow.reports import ChunksLink, LettersLink, ReportLink, RoomLink, ValidationLink

        return [ReportLink(), RoomLink(), LettersLink(), ChunksLink(), ValidationLink()]

    @cached_property
    def fastapi_apps(self) -> list[object]:  # type: ignore[override] # the API server alone asks for it
        from docferry_airflow.control_room import web
        from docferry_airflow.reports import PREFIX, make_app

        return [
            {"app": make_app(), "url_prefix": PREFIX, "name": "docferry"},
            {"app": web.make_app(), "url_prefix": web.PREFIX, "name": "docferry control room"},
        ]
