"""The arguments of pymongo's calls are found by name as Python itself binds them, and refused where it refuses them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from docferry.adapters.mongodb.client.requests import arguments_by_name
from docferry.core.access.calls import SERVED_CALLS
from hypothesis import given
from hypothesis import strategies as st
from pymongo.collection import Collection

METHODS = sorted({*SERVED_CALLS, "insert_one", "insert_many", "find_one_and_update", "update_one"})
NAMES = ["filter", "update", "requests", "ordered", "pipeline", "session", "upsert", "collation", "key", "nobody_knows"]


def bound(method: str, arguments: list[int], options: dict[str, int]) -> Any:
    """As Python binds them; the class of the error if it does not."""
    try:
        found = inspect.signature(getattr(Collection, method)).bind(None, *arguments, **options).arguments
    except TypeError as error:
        return str(error)
    found.pop("self")
    return found.pop("kwargs", {}) | found


@given(
    st.sampled_from(METHODS),
    st.lists(st.integers(), max_size=14),
    st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=4),
)
def test_arguments_are_bound_as_python_binds_them(method: str, arguments: list[int], options: dict[str, int]) -> None:
    expected = bound(method, arguments, options)
    if isinstance(expected, str):
        with pytest.raises(TypeError) as refused:
            arguments_by_name(method, arguments, options)
        assert str(refused.value) == expected
    else:
        assert arguments_by_name(method, arguments, options) == expected
