"""What an application gives goes inside as it is, in the types that are used there."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from bson import Binary, UuidRepresentation
from bson.codec_options import CodecOptions
from docferry.client.type_border import TypeBorder

OPEN, AWARE = TypeBorder(), TypeBorder(CodecOptions(tz_aware=True, uuid_representation=UuidRepresentation.STANDARD))


@pytest.mark.parametrize("border", [OPEN, AWARE])
def test_fields_keep_their_order_and_so_does_an_id_that_is_not_the_first(border: TypeBorder) -> None:
    """MongoDB counts a replacement by an equal document as a change where its _id is not the first."""
    given: dict[str, Any] = {"b": 1, "_id": 2, "a": {"z": 1, "_id": 3, "c": [{"y": 1, "_id": 4}]}}
    inside = border.to_internal(given)
    assert (list(inside), list(inside["a"]), list(inside["a"]["c"][0])) == (
        ["b", "_id", "a"], ["z", "_id", "c"], ["y", "_id"],
    )  # fmt: skip
    assert [list(one) for one in border.to_internal([given])] == [["b", "_id", "a"]]


def test_values_have_the_types_of_inside() -> None:
    assert AWARE.to_internal({"_id": UUID(int=1)}) == {"_id": Binary(UUID(int=1).bytes, 4)}
