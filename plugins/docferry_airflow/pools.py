"""The pools that keep our tasks from overrunning either database.

Airflow never schedules a task whose pool does not exist; it only warns. So a missing pool is made when Airflow starts.
One that is there is left alone: its size is the administrator's (Admin > Pools).
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

MONGO_READ = "mongo_read"
DYNAMO_WRITE = "dynamo_write"
SLOTS = 8
POOLS = {
    MONGO_READ: "docferry: tasks that mainly read MongoDB (plan, prepare, validate)",
    DYNAMO_WRITE: "docferry: tasks that write to DynamoDB (load, repair)",
}


class PoolListener:
    """Makes missing pools when a component of Airflow starts that has its database: scheduler, triggerer, processor."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        # A task starts, too, and may not touch the database. A Job does not know its kind yet at this point.
        if type(component).__module__ == "airflow.jobs.job":
            create_missing_pools()


def create_missing_pools() -> None:
    """Needs Airflow's database, so never call it in a task or while a DAG file is parsed."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError

    for name, description in POOLS.items():
        try:
            with create_session() as session:
                if session.scalar(select(Pool).where(Pool.pool == name)) is None:
                    session.add(Pool(pool=name, slots=SLOTS, description=description, include_deferred=False))
        except IntegrityError:
            log.debug("another component has just made pool %s", name)
