"""What the control room says of the ranges of ids of a collection's load."""

from __future__ import annotations

import json

import pytest
from docferry.errors import PreflightFailed
from docferry.flows.ledger.load_headers import DONE, Chunk, Counts, LoadHeader, LoadHeaders, create_chunk
from docferry.flows.reporting.ranges import MOST_RANGES, ranges_of
from docferry.testing.fakes import FakeLedger
from support.mappings import SHOP

RUN = "shop.backfill manual__2026-01-01T00:00:00+00:00"


def test_ranges_are_told_in_the_order_of_their_ids_with_the_run_that_claimed_them() -> None:
    ledger = FakeLedger()
    LoadHeaders(ledger).write(LoadHeader(collection="users", mapping="m", run=RUN, chunks=2))
    create_chunk(ledger, "users", Chunk(key="00001", label="ids from k", expected=5, lower=b"\x05\x00\x00\x00\x00"))
    counts = Counts(read=4, written=3, dead=1)
    create_chunk(ledger, "users", Chunk(key="00000", label="ids before k", expected=5, state=DONE, counts=counts))
    told = ranges_of(SHOP, ledger, "users")
    assert (told["run"], told["chunks"], told["done"]) == (RUN, 2, 1)
    first, second = told["ranges"]
    assert (first["label"], first["state"], first["read"], first["letters"]) == ("ids before k", "done", 4, 1)
    assert (second["label"], second["state"], second["expected"]) == ("ids from k", "pending", 5)
    json.dumps(told)


def test_a_collection_that_was_never_loaded_has_none_and_one_that_the_file_does_not_name_is_refused() -> None:
    assert ranges_of(SHOP, FakeLedger(), "users")["ranges"] == []
    with pytest.raises(PreflightFailed, match="none of the file's"):
        ranges_of(SHOP, FakeLedger(), "secrets")


def test_of_very_many_the_first_are_shown_and_all_are_counted() -> None:
    ledger = FakeLedger()
    for number in range(MOST_RANGES + 1):
        create_chunk(ledger, "users", Chunk(key=f"{number:05d}", state=DONE))
    told = ranges_of(SHOP, ledger, "users")
    assert (len(told["ranges"]), told["chunks"], told["done"]) == (MOST_RANGES, MOST_RANGES + 1, MOST_RANGES + 1)
