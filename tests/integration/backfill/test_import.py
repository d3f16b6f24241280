"""The load by import: rows in S3 become a table, validate as equal, and what AWS refuses becomes a dead letter."""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from docferry.adapters.aws.data.import_rows import S3ImportRows
from docferry.config import load_migration
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.importing import Importing, import_collections
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.provision.run import complete_table
from docferry.testing.jobs import Quiet
from docferry.wiring import Connections, desired, who
from support.cli.shop import Shop, fill, fresh, refused

__all__ = ["fresh"]
pytestmark = pytest.mark.xdist_group("import")


@pytest.fixture
def shop(fresh: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for name, value in fresh.env.items():
        monkeypatch.setenv(name, value)
    bucket = f"rows-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
    fill(fresh)
    fresh.change_file(
        target={"account": "123456789012"}, backfill={"strategy": "import", "import_to": f"s3://{bucket}/rows"}
    )
    return fresh


def rows_left(shop: Shop) -> int:
    migration = load_migration(shop.file)
    return S3ImportRows(boto3.Session(), migration.backfill.import_to, migration.name).count(shop.table)


def loaded(
    shop: Shop, rows: type[S3ImportRows] = S3ImportRows, complete: Callable[..., Any] | None = None
) -> list[CollectionReport]:
    """As the command does it, with these rows."""
    migration = load_migration(shop.file)
    connections = Connections(mongo_uri=shop.env["DOCFERRY_MONGO_URI"], session=boto3.Session(region_name="us-east-1"))
    stop, wanted = threading.Event(), desired(migration)
    with connections.job(migration, who(), Quiet(), stop) as job:
        estate = connections.estate(migration)
        importing = Importing(
            rows=rows(connections.session, migration.backfill.import_to, migration.name),
            specs={one.name: one for one in wanted.tables},
            complete=complete or (lambda spec: complete_table(wanted, estate, spec, progress=Quiet(), stop=stop)),
            poll_s=0.1,
        )
        return connections.run(
            migration, lambda target: import_collections(job, target, importing, list(migration.mappings))
        )


def test_rows_become_a_table_that_is_equal_and_complete(shop: Shop) -> None:
    made = shop.run("provision")
    assert made.code == 0, made.err
    assert f"table {shop.table}: is made by the import" in made.out
    assert shop.table not in shop.dynamodb.list_tables(Limit=100)["TableNames"]
    planned = shop.run("backfill", "--dry-run")
    assert "Recommended: import" in planned.out, planned.err

    ran = shop.run("backfill", "--json")
    assert ran.code == 0, ran.err
    told = {one["collection"]: one for one in ran.json["collections"]}
    assert (told["products"]["read"], told["products"]["written"], told["products"]["dead"]) == (4, 3, 1)
    assert sum(one["items"] for one in told.values()) == len(shop.dump())
    table = shop.dynamodb.describe_table(TableName=shop.table)["Table"]
    assert table["StreamSpecification"]["StreamEnabled"] is True
    backups = shop.dynamodb.describe_continuous_backups(TableName=shop.table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    tags = {one["Key"] for one in shop.dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"]}
    assert {"Project", "docferry:owner:cli"} <= tags
    assert rows_left(shop) == 0
    assert "nothing to do" in shop.run("provision").out
    assert shop.run("backfill").out.count("was complete: nothing changed") == 4

    shop.database["users"].update_one({"username": "users-0"}, {"$set": {"username": "moved"}})
    assert shop.run("replicate", "--until-caught-up").code == 0
    assert "EQUAL: every document and every item was compared" in shop.run("validate").out


class Spoiled(S3ImportRows):
    """One item of an order is no item for DynamoDB."""

    spoiled = 0

    def write(self, table: str, name: str, data: bytes) -> None:
        lines = gzip.decompress(data).split(b"\n")
        for number, line in enumerate(lines):
            if b'"ORDER_ITEM"' in line and not Spoiled.spoiled:
                Spoiled.spoiled += 1
                row = json.loads(line)
                row["Item"]["spoiled"] = {"SS": []}
                lines[number] = json.dumps(row).encode()
                break
        super().write(table, name, gzip.compress(b"\n".join(lines)))


def test_a_row_that_aws_refuses_is_a_dead_letter_with_its_document_and_nothing_of_it_is_there(shop: Shop) -> None:
    assert shop.run("provision").code == 0
    reports = {one.collection: one for one in loaded(shop, Spoiled)}
    counts = reports["orders"].counts
    assert (counts.read, counts.written, counts.dead, counts.superseded) == (3, 2, 1, 0)
    migration = load_migration(shop.file)
    connections = Connections(mongo_uri=shop.env["DOCFERRY_MONGO_URI"], session=boto3.Session(region_name="us-east-1"))
    (letter,) = list_letters(connections.ledger(migration), "orders")
    assert "the import refused an item" in letter.message
    there = {pk for (pk, _), item in shop.dump().items() if "_deleted" not in item and pk.startswith("ORDER#")}
    assert len(there) == 2
    assert f"ORDER#{letter.id}" not in there
    replayed = shop.run("dead-letters", "--replay")  # the row was spoiled, not the document; a product stays dead
    assert "orders: {'letters': 1, 'stored': 1" in replayed.out, replayed.err
    assert shop.run("replicate", "--until-caught-up").code == 0
    ran = shop.run("validate")
    assert ran.code == 0, ran.out


def test_a_run_that_dies_behind_the_import_is_continued_and_reads_nothing_again(shop: Shop) -> None:
    class Killed(Exception):
        """Where AWS has made the table."""

    def die(spec: Any) -> None:
        raise Killed

    assert shop.run("provision").code == 0
    with pytest.raises(Killed):
        loaded(shop, complete=die)
    before = rows_left(shop)
    assert before > 0

    class NoMore(S3ImportRows):
        def write(self, table: str, name: str, data: bytes) -> None:
            raise AssertionError("read again")

    reports = loaded(shop, NoMore)
    assert sum(one.counts.written for one in reports) == 12
    assert rows_left(shop) == 0


def test_a_table_that_is_there_is_refused(shop: Shop) -> None:
    shop.change_file(backfill={"strategy": "batch"})
    assert shop.run("provision").code == 0
    shop.change_file(backfill={"strategy": "import"})
    refused(shop.run("backfill"), 3, f"table {shop.table}", "exists: an import makes a new table")
    assert shop.dump() == {}
    assert "Recommended: batch" in shop.run("backfill", "--dry-run").out
