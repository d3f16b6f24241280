"""Both connections of a migration file, as the library's `Connections`."""

from __future__ import annotations

from docferry.config import Migration
from docferry.wiring import Connections

from docferry_airflow.hooks.aws import DocferryAwsHook
from docferry_airflow.hooks.mongo import DocferryMongoHook


def connections_from_airflow(migration: Migration) -> Connections:
    """What `source.connection` and `target.connection` name. Raises AirflowNotFoundException for an unknown one."""
    mongo = DocferryMongoHook(mongo_conn_id=migration.source.connection)
    aws = DocferryAwsHook(aws_conn_id=migration.target.connection, region_name=migration.target.region)
    return Connections(mongo_uri=mongo.get_uri_with_options(), session=aws.get_session_with_endpoints())
