"""The composition root: puts the adapters behind the ports. The CLI and the Airflow operators both begin here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import boto3
from botocore.exceptions import ProfileNotFound

from docferry.adapters.dynamodb import DynamoTarget
from docferry.adapters.dynamodb_http import DynamoHttp
from docferry.adapters.estate import AwsEstate
from docferry.adapters.ledger import DynamoLedger
from docferry.adapters.mongo import MongoSource
from docferry.adapters.mongo_sink import MongoSink
from docferry.adapters.process import identity
from docferry.adapters.streams import DynamoStreams
from docferry.config import Migration
from docferry.core.estate import DesiredEstate, desired_estate
from docferry.errors import ConfigError, Problem
from docferry.ports import Identity

MONGO_URI = "DOCFERRY_MONGO_URI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """How to reach both databases. The URI holds the password and stays out of the repr."""

    mongo_uri: str = field(repr=False)
    session: boto3.Session = field(repr=False)

    def source(self, migration: Migration) -> MongoSource:
        return MongoSource(self.mongo_uri, migration.source.database)

    def sink(self, migration: Migration) -> MongoSink:
        return MongoSink(self.mongo_uri, migration.source.database)

    def streams(self, migration: Migration) -> DynamoStreams:
        return DynamoStreams(self.session)

    def ledger(self, migration: Migration) -> DynamoLedger:
        return DynamoLedger(self.session, migration.ledger.table, migration.name)

    def estate(self, migration: Migration) -> AwsEstate:
        return AwsEstate(self.session._session, migration.target.region)

    def target(self, migration: Migration) -> DynamoTarget:
        """Belongs to the event loop that first uses it; close it there."""
        return DynamoTarget(DynamoHttp(self.session), migration.backfill.concurrency)


def connections_from_environment(migration: Migration) -> Connections:
    """DOCFERRY_MONGO_URI and the standard AWS variables. Raises ConfigError, saying what is not set."""
    uri = os.environ.get(MONGO_URI, "")
    if not uri:
        raise ConfigError(
            "environment",
            [Problem(where=MONGO_URI, what="is not set", suggestion="mongodb://user:password@host/?replicaSet=…")],
        )
    try:
        session = boto3.Session(region_name=migration.target.region)
    except ProfileNotFound as error:
        raise ConfigError("environment", [Problem(where="AWS_PROFILE", what=str(error))]) from error
    return Connections(mongo_uri=uri, session=session)


def who(name: str = "") -> Identity:
    """This process, for leases."""
    return identity(name)


def desired(migration: Migration) -> DesiredEstate:
    """What AWS should hold for a migration."""
    return desired_estate(migration.tables, migration.ledger, migration.target, migration.dax)
