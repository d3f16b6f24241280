"""Waiting for what the ledger says: for DAGs of your own that must not run before the data is there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class CollectionLoadedSensor(BaseSensorOperator):
    """Waits until the ledger says that a collection has been loaded completely.

    :param migration_file: Path of the migration file.
    :param collection: The collection.
    """

    template_fields: Sequence[str] = ("migration_file", "collection")

    def __init__(self, *, migration_file: str, collection: str, **kwargs: Any) -> None:
        kwargs.setdefault("mode", "reschedule")  # holds no worker slot while it waits
        super().__init__(**kwargs)
        self.migration_file = migration_file
        self.collection = collection

    def poke(self, context: Context) -> bool:
        from docferry.config import load_migration
        from docferry.flows.status import status_of

        from docferry_airflow.hooks.connections import connections_from_airflow

        migration = load_migration(self.migration_file)
        migration.mapping(self.collection)  # An unknown collection is an error, not a long wait.
        status = status_of(migration, connections_from_airflow(migration).ledger(migration))
        found = next(one for one in status["collections"] if one["collection"] == self.collection)
        log.info("%s: %s, %s of %s chunks", self.collection, found["state"], found["chunks_done"], found["chunks"])
        return bool(found["state"] == "complete")
