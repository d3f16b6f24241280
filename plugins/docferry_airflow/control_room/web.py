"""The control room, as a FastAPI application of Airflow's API server: one page, and what the ledger says of a migration.

What a person does on the page (start a phase, answer an approval) the page asks of Airflow's own API, with the person's own
cookie: so Airflow decides who may, and notes who did. The one thing that is asked for here is to see the documents of dead
letters (`letter_routes`). An app of a plugin inherits no authentication, so each route here names its own.
"""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from docferry.config import Migration
    from docferry.flows.reporting.memory import RoomMemory
    from docferry.ports.flows import Ledger

PREFIX = "/migrations"
PAGE = Path(__file__).parent / "page"
SCRIPTS = ("room.js", "forms.js", "letters.js", "charts.js", "collections.js")
FILES = {"index.html": "text/html", "room.css": "text/css"} | dict.fromkeys(SCRIPTS, "text/javascript")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
OF = ".playbook"
"""The DAG that stands for a migration: who may see it may see the migration."""
OPEN_S = 60.0
"""For so long a connection of Airflow is not asked for again."""
_opening = threading.Lock()


def make_app() -> Any:
    """The page and its data. Each route refuses who is not logged in, and the data who may not see the migration's DAG."""
    # No public names: tests/airflow/control_room sees that they still refuse.
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import FileResponse

    from docferry_airflow.control_room.letter_routes import letters
    from docferry_airflow.page_headers import add_headers

    app = FastAPI(title="docferry", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)])
    app.include_router(letters)
    add_headers(app, HEADERS)

    @app.get("/api/{dag_id}", dependencies=[Depends(requires_access_dag("GET"))])
    def room(dag_id: str) -> Any:
        from docferry.flows.reporting.room import room_of

        return answer(dag_id, OF, lambda one, ledger: room_of(one, ledger, _remembered(one.path, one.digest)))

    @app.get("/api/{dag_id}/history", dependencies=[Depends(requires_access_dag("GET"))])
    def history(dag_id: str) -> Any:
        from docferry.flows.reporting.history import history_of

        return answer(dag_id, OF, lambda _, ledger: history_of(ledger))

    @app.get("/api/{dag_id}/chunks/{collection}", dependencies=[Depends(requires_access_dag("GET"))])
    def chunks(dag_id: str, collection: str) -> Any:
        from docferry.flows.reporting.ranges import ranges_of

        from docferry_airflow.dag_factory import load_task

        task = {"task": load_task(collection)}
        return answer(dag_id, OF, lambda migration, ledger: task | ranges_of(migration, ledger, collection))

    @app.get("/")
    def front() -> FileResponse:
        return page("index.html")

    @app.get("/{file}")
    def page(file: str) -> FileResponse:
        if file not in FILES:
            raise HTTPException(404, "there is no such page")
        return FileResponse(PAGE / file, media_type=FILES[file])

    return app


def answer(dag_id: str, suffix: str, ask: Callable[[Migration, Ledger], Any]) -> Any:
    """What is asked of the ledger of a DAG's migration, as a response. Raises HTTPException, in words for a person."""
    from docferry.errors import MigrationError, PreflightFailed
    from fastapi import HTTPException
    from fastapi.responses import JSONResponse

    migration = _migration_of(dag_id, suffix)
    if migration is None:
        raise HTTPException(404, f"{dag_id} is no DAG of a migration whose file is good")
    try:
        return JSONResponse(ask(migration, _ledger_of(migration)))
    except PreflightFailed as error:
        raise HTTPException(409, str(error)) from error
    except MigrationError as error:
        raise HTTPException(503, f"{type(error).__name__}: {error}") from error


def _migration_of(dag_id: str, suffix: str) -> Migration | None:
    from docferry_airflow.dag_factory import directories, migrations

    files = tuple(sorted((str(path), path.stat().st_mtime_ns) for one in directories() for path in one.glob("*.y*ml")))
    return next((one for one in _read(files, migrations) if f"{one.name}{suffix}" == dag_id), None)


@lru_cache(maxsize=1)
def _read(files: tuple[tuple[str, int], ...], read: Any) -> tuple[Migration, ...]:
    """The migrations, read again when a file has changed."""
    found: tuple[Migration, ...] = read()
    return found


def _ledger_of(migration: Migration) -> Ledger:
    with _opening:
        return _opened(migration.path, migration.digest, int(time.monotonic() / OPEN_S))


@lru_cache(maxsize=64)
def _remembered(path: str, digest: str) -> RoomMemory:
    """Of a migration as its file is: what the last look has seen, of any person."""
    from docferry.flows.reporting.memory import MOST_CHUNKS, RoomMemory

    return RoomMemory(MOST_CHUNKS)


@lru_cache(maxsize=64)
def _opened(path: str, digest: str, moment: int) -> Ledger:
    from docferry.config import load_migration

    from docferry_airflow.hooks.connections import connections_from_airflow

    migration = load_migration(path)
    return connections_from_airflow(migration).ledger(migration)
