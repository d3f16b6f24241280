"""Waiting for what the ledger says: for whatever must not run before the data is there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class CollectionLoadedSensor(BaseSensorOperator):
    """Waits until the ledger says that collections have been loaded completely.

    :param migration_file: Path of the migration file.
    :param collections: The collections; empty means all.
    """

    template_fields: Sequence[str] = ("migration_file", "collections")

    def __init__(self, *, migration_file: str, collections: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("mode", "reschedule")  # holds no worker slot while it waits
        super().__init__(**kwargs)
        self.migration_file = migration_file
        self.collections = collections

    def poke(self, context: Context) -> bool:
        from docferry.config import load_migration
        from docferry.flows.status import status_of

        from docferry_airflow.hooks.connections import connections_from_airflow

        migration = load_migration(self.migration_file)
        for name in self.collections:
            migration.mapping(name)  # An unknown collection is an error, not a long wait.
        status = status_of(migration, connections_from_airflow(migration).ledger(migration))
        waited_for = [
            one for one in status["collections"] if not self.collections or one["collection"] in self.collections
        ]
        for one in waited_for:
            log.info("%s: %s, %s of %s chunks", one["collection"], one["state"], one["chunks_done"], one["chunks"])
        return all(one["state"] == "complete" for one in waited_for)


class DynamoDBLeadsSensor(BaseSensorOperator):
    """Waits until DynamoDB leads: for whatever makes MongoDB follow it.

    :param migration_file: Path of the migration file.
    """

    template_fields: Sequence[str] = ("migration_file",)

    def __init__(self, *, migration_file: str, **kwargs: Any) -> None:
        kwargs.setdefault("mode", "reschedule")
        super().__init__(**kwargs)
        self.migration_file = migration_file

    def poke(self, context: Context) -> bool:
        from docferry.config import load_migration
        from docferry.core.modes import Mode
        from docferry.flows.modes import read_mode

        from docferry_airflow.hooks.connections import connections_from_airflow

        migration = load_migration(self.migration_file)
        mode = read_mode(connections_from_airflow(migration).ledger(migration))
        log.info("the mode is %s", mode)
        return mode.leader is Mode.DYNAMODB_ONLY
