"""Hypothesis strategies for whatever MongoDB can hold, to test a mapping with.

Every value has been through real BSON, so that only values are drawn that pymongo reads back (with
`docferry.core.bson_codec.options.BSON_OPTIONS`): a document that DBRef's rules turn into a DBRef is drawn as one, and so on.

    @given(documents_for(load_migration("shop.yaml").mapping("users")))
    def test_users_come_back(document): ...
"""

from docferry.testing.strategies.edges import EDGES
from docferry.testing.strategies.kinds import (
    AWKWARD_NAMES,
    BSON_KINDS,
    canonical_bson,
    kind_of,
    kinds_in,
    raw_document,
    raw_element,
    real,
)
from docferry.testing.strategies.mapped import documents_for
from docferry.testing.strategies.values import (
    binaries,
    bson_values,
    dates,
    dates_out_of_range,
    decimal128s,
    documents,
    doubles,
    field_names,
    ids,
    int32s,
    int64s,
    object_ids,
    regexes,
    scalars,
    texts,
    timestamps,
)

__all__ = [
    "AWKWARD_NAMES",
    "BSON_KINDS",
    "EDGES",
    "binaries",
    "bson_values",
    "canonical_bson",
    "dates",
    "dates_out_of_range",
    "decimal128s",
    "documents",
    "documents_for",
    "doubles",
    "field_names",
    "ids",
    "int32s",
    "int64s",
    "kind_of",
    "kinds_in",
    "object_ids",
    "raw_document",
    "raw_element",
    "real",
    "regexes",
    "scalars",
    "texts",
    "timestamps",
]
