"""Both connections of a migration file, as the library's `Connections`."""

from __future__ import annotations

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from docferry.config import Migration
from docferry.wiring import Connections

from docferry_airflow.hooks.aws import DocferryAwsHook
from docferry_airflow.hooks.mongo import DocferryMongoHook


def connections_from_airflow(migration: Migration) -> Connections:
    """What `source.connection` and `target.connection` name.

    Raises: AirflowFailException for a connection that does not exist: no later attempt would find it.
    """
    _require(migration.source.connection, "source.connection", migration.path, "mongo")
    _require(migration.target.connection, "target.connection", migration.path, "aws")
    mongo = DocferryMongoHook(mongo_conn_id=migration.source.connection)
    aws = DocferryAwsHook(aws_conn_id=migration.target.connection, region_name=migration.target.region)
    return Connections(mongo_uri=mongo.get_uri_with_options(), session=aws.get_session_with_endpoints())


def mongo_uri_from_airflow(connection: str, named_by: str) -> str:
    """The URI of a MongoDB connection, for what needs no migration file. Raises: AirflowFailException if there is none."""
    _require(connection, "mongo_connection", named_by, "mongo")
    return DocferryMongoHook(mongo_conn_id=connection).get_uri_with_options()


def _require(connection: str, field: str, path: str, kind: str) -> None:
    """Why for AWS, too: the provider would go on without a word, with whatever credentials the worker has."""
    try:
        BaseHook.get_connection(connection)
    except AirflowNotFoundException as missing:
        own = " (without fields it stands for the worker's own credentials)" if kind == "aws" else ""
        raise AirflowFailException(
            f"there is no Airflow connection {connection}, which {field} of {path} names: make one of type {kind}{own} "
            "under Admin, Connections, or name another in the file; then clear this task"
        ) from missing
