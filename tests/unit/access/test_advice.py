"""Each shape that is counted has its advice, made of the shape alone."""

from __future__ import annotations

import pytest
from docferry.config import load_migration
from docferry.core.access.advice import UNTOLD, advice_on
from docferry.core.access.calls import COLLECTION_CALLS, DATABASE_CALLS, SERVED_CALLS, shape_of_call
from support.place import ROOT

MAPPINGS = load_migration(ROOT / "include" / "migrations" / "shop.yaml").mappings


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ("users.find(status)", "pin username, or give users an index whose partition key is made of status"),
        (
            "users.update_one(n $gt, status)",
            "pin username, or give users an index whose partition key is made of n, status",
        ),
        ("users.update_one(username; $where, a pipeline)", "do without $where; read the document, change it"),
        ("users.find(nothing)", "pin username"),
        ("users.find_one(username; session)", "nothing: sessions"),
        ("letters.find_one(_id)", "add letters to the file's collections"),
        ("orders.distinct status(n)", "pin _id, or give orders an index whose partition key is made of n"),
        ("orders.delete_many(userId; collation, hint)", "store the text as it is to be compared"),
        ("orders.aggregate($match(a, b), $group)", SERVED_CALLS["aggregate"].instead),
        ("database.command(ping)", DATABASE_CALLS["command"].instead),
        ("users.find(" + "a" * 189, "pin username"),
        ("other shapes", UNTOLD),
    ],
)
def test_shape_has_its_advice(shape: str, advice: str) -> None:
    assert advice_on(shape, MAPPINGS).startswith(advice)


@pytest.mark.parametrize("method", COLLECTION_CALLS)
def test_each_call_of_mongodbs_alone_has_its_own(method: str) -> None:
    shape = shape_of_call("orders", method, ([{"$match": {"a": 1}}],), {})
    assert advice_on(shape, MAPPINGS) == COLLECTION_CALLS[method].instead
