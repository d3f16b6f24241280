"""Rows of an import as bytes, AWS's log of errors, and which way of loading is recommended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.config.price_book import load_price_book
from docferry.core.imports.estimate import choose_load
from docferry.core.imports.rows import RowError, encode_rows, row_error, row_of
from docferry.errors import ConfigError

BOOK = load_price_book(None)
FILE = """
migration: m
source: {database: d}
target: {account: "111122223333"}
tables: {Plain: {}}
collections: {docs: {}}
backfill: {strategy: import, import_to: "s3://rows/here"}
"""


def test_a_row_is_found_again_by_its_line() -> None:
    items = [{"PK": {"S": "a\nb"}}, {"PK": {"S": "c"}}]
    data = encode_rows(json.dumps(one).encode() for one in items)
    assert [row_of(data, index) for index in range(2)] == items


def test_an_entry_of_the_log_names_the_row_and_why() -> None:
    message = {"itemS3Pointer": {"bucket": "b", "key": "k", "itemIndex": 3}, "errorMessages": ["one", "two"]}
    assert row_error(json.dumps(message)) == RowError("k", 3, "one; two")
    assert row_error("START") is None
    assert row_error('{"itemS3Pointer": {}}') is None


def choose(**changes: Any) -> Any:
    given = {"units": 1e8, "hours": 5.0, "stored_bytes": 1e10, "documents": 10**7, "impossible": (), "fits": True}
    return choose_load(BOOK, **{**given, **changes})


def test_the_cheaper_way_is_recommended_and_what_cannot_be_is_not() -> None:
    found = choose()
    assert (round(found.batch_usd, 2), round(found.import_usd, 2)) == (62.5, 1.55)
    assert found.recommended == "import"
    few = choose(units=1e6, stored_bytes=1e11)
    assert few.recommended == "batch"
    assert choose(units=1e6, stored_bytes=1e11, fits=False).recommended == "import"
    refused = choose(impossible=("the table is there",))
    assert (refused.recommended, refused.why) == ("batch", "the table is there")
    assert "Recommended: batch (the table is there)" in refused.line()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('import_to: "s3://rows/here"', 'import_to: "rows"'), "write backfill.import_to"),
        (('account: "111122223333"', "region: us-east-1"), "needs target.account"),
        (("Plain: {}", "Plain: {shared: true}"), "shared with other migrations"),
        (("docs: {}", "docs: {overflow: s3}"), "puts parts beside a table"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(change: tuple[str, str], told: str) -> None:
    assert parse_migration(FILE.encode()).backfill.strategy == "import"
    with pytest.raises(ConfigError, match=told):
        parse_migration(FILE.replace(*change).encode())
