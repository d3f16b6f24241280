"""Transactions in every mode: MongoDB's while it leads, DynamoDB's afterwards, with the same outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.backfill.rig import Rig
from support.client.rig import Db, Plain, empty
from support.client.transactions import TRANSACTIONS


@pytest.mark.parametrize("case", TRANSACTIONS)
def test_transaction_has_pymongos_outcome_under_each_leader(
    served: tuple[Rig, Db], expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db = served
    assert not isinstance(db, Plain)
    if db.manager.get_metrics()["configuration"]["mode"] == "DYNAMODB_READS":
        return  # what a session writes comes to DynamoDB by replication, of which there is none here
    empty(rig)
    assert TRANSACTIONS[case](db) == expected(case)
