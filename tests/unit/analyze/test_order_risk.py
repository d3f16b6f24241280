"""The report tells of subdocuments that are compared as a whole; of others it says nothing."""

from __future__ import annotations

import pytest
from docferry.core.analyze.facts import CollectionFacts, DatabaseFacts, IndexFacts, PathFacts, QueryShape
from docferry.core.analyze.risks import risks_of

BY_ADDRESS = QueryShape(collection="users", kind="find", equality=("address",), calls=50)
BY_CITY = QueryShape(collection="users", kind="find", equality=("address.city",), calls=50)
INDEX = IndexFacts(name="address_1", keys=(("address", "1"),))


@pytest.mark.parametrize(
    ("shape", "index", "evidence"),
    [
        (BY_ADDRESS, None, "50 calls ask by it"),
        (BY_CITY, INDEX, "index address_1 leads over it"),
        (BY_ADDRESS, INDEX, "50 calls ask by it; index address_1 leads over it"),
        (BY_CITY, None, None),
    ],
)
def test_subdocument_that_is_compared_as_a_whole_is_told(
    shape: QueryShape, index: IndexFacts | None, evidence: str | None
) -> None:
    paths = [
        PathFacts(path="address", present=1.0, types={"object": 1.0}),
        PathFacts(path="_id", present=1.0, types={}),
    ]
    users = CollectionFacts(
        name="users", kind="collection", paths=paths, shapes=(shape,), indexes=(index,) if index else ()
    )
    facts = DatabaseFacts(
        database="shop", server="MongoDB 6.0", began="2026-11-30", seconds=1.0, documents_read=9, bytes_read=9, yielded_s=0.0,
        collections=(users,),
    )  # fmt: skip
    found = [one.evidence for one in risks_of(facts) if "order: keep" in one.advice]
    assert found == ([evidence] if evidence is not None else [])
