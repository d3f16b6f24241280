"""Waiting for what the ledger says: for whatever must not begin before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from docferry.config import Migration
    from docferry.ports.flows import Ledger

log = logging.getLogger(__name__)

RETRIES = 20
"""Airflow counts a sensor that looks again before its slow scheduler has heard of the last look's end as one that failed."""


class LedgerSensor(BaseSensorOperator):
    """Waits for what the ledger says of a migration. A subclass looks. It holds no worker slot meanwhile.

    A migration that is not provisioned has no ledger yet, and is waited for, too.

    :param migration_file: Path of the migration file.
    """

    template_fields: Sequence[str] = ("migration_file",)

    def __init__(self, *, migration_file: str, **kwargs: Any) -> None:
        kwargs.setdefault("mode", "reschedule")
        kwargs.setdefault("retries", RETRIES)
        kwargs.setdefault("retry_exponential_backoff", False)
        super().__init__(**kwargs)
        self.migration_file = migration_file

    def poke(self, context: Context) -> bool:
        from docferry.config import load_migration
        from docferry.errors import TableMissing

        from docferry_airflow.hooks.connections import connections_from_airflow

        migration = load_migration(self.migration_file)
        try:
            return self.look(migration, connections_from_airflow(migration).ledger(migration))
        except TableMissing:
            log.info("%s has no ledger yet: %s", migration.name, TableMissing.hint)
            return False

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        """Whether it need not wait any more. What it waits for goes to the log."""
        raise NotImplementedError


class CollectionLoadedSensor(LedgerSensor):
    """Waits until collections have been loaded completely.

    :param collections: The collections; empty means all.
    """

    template_fields: Sequence[str] = ("migration_file", "collections")

    def __init__(self, *, collections: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections = collections

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        from docferry.flows.reporting.status import status_of

        for name in self.collections:
            migration.mapping(name)  # An unknown collection is an error, not a long wait.
        status = status_of(migration, ledger)
        waited_for = [
            one for one in status["collections"] if not self.collections or one["collection"] in self.collections
        ]
        for one in waited_for:
            log.info("%s: %s, %s of %s chunks", one["collection"], one["state"], one["chunks_done"], one["chunks"])
        return all(one["state"] == "complete" for one in waited_for)


class ReplicationNearSensor(LedgerSensor):
    """Waits until DynamoDB follows MongoDB closely: the DAG `replicate` must be on."""

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        from docferry.flows.cutover.reasons import lacking_replication
        from docferry.flows.replicate.opening import late_writes

        for name, what in late_writes(ledger, migration):
            log.info("replication begins when the load of %s is over: %s", name, what)
        lacking = list(lacking_replication(ledger))
        for one in lacking:
            log.info("replication %s: %s", one.what, one.suggestion)
        return not lacking


class ApplicationRunsSensor(LedgerSensor):
    """Waits until the application runs with docferry's client: until one of its processes at least is registered."""

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        from docferry.flows.ledger.modes import live_instances
        from docferry.wiring import who

        live = live_instances(ledger, who())
        log.info("%d instance(s) of the application are registered", len(live))
        return bool(live)


class MongoDBLeadsSensor(LedgerSensor):
    """Waits until MongoDB leads: for whatever makes DynamoDB follow it. A change of the leader is waited for, too."""

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        from docferry.core.cutover.modes import Mode
        from docferry.flows.ledger.modes import read_mode

        mode = read_mode(ledger)
        log.info("the mode is %s", mode)
        return mode.mode is not Mode.HOLD and not mode.leader.dynamodb_leads


class DynamoDBLeadsSensor(LedgerSensor):
    """Waits until DynamoDB leads: for whatever makes MongoDB follow it."""

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        from docferry.core.cutover.modes import Mode
        from docferry.flows.ledger.modes import read_mode

        mode = read_mode(ledger)
        log.info("the mode is %s", mode)
        return mode.leader is Mode.DYNAMODB_ONLY


class DynamoDBHasLedSensor(LedgerSensor):
    """Waits until DynamoDB has led for so long on end. A rollback meanwhile is waited for, too.

    :param hours: How long.
    """

    template_fields: Sequence[str] = ("migration_file", "hours")

    def __init__(self, *, hours: float | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hours = hours

    def look(self, migration: Migration, ledger: Ledger) -> bool:
        from docferry.flows.ledger.modes import dynamodb_has_led_s

        led_s = dynamodb_has_led_s(ledger)
        log.info("DynamoDB has led for %.2f of %s hours", led_s / 3600, self.hours)
        return led_s > 0 and led_s >= float(self.hours) * 3600
