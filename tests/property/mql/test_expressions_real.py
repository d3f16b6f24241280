"""Expressions of a real mongod and ours, side by side: the same value, to its BSON type, or both refuse.

What is refused here by name is not compared; the operators that are known are all drawn.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.order import ABSENT
from docferry.core.mql.expressions import compile_expression, known, scope_of, variables_of
from docferry.errors import CallRefused, ExpressionRefused
from docferry.sandbox import SandboxStack
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure
from support.examples import examples
from support.mongodb_cases.expressions import CASES, DOCUMENTS, EXPRESSIONS

NOW = datetime(2024, 1, 1)
REFUSED = "refused"


@pytest.fixture(scope="module")
def database(stack: SandboxStack) -> Iterator[Database[Any]]:
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        yield client.get_database(f"expressions{uuid.uuid4().hex}", BSON_OPTIONS)


def theirs(database: Database[Any], document: dict[str, Any], expression: Any) -> Any:
    stages: list[dict[str, Any]] = [{"$documents": [{"$literal": document}]}, {"$replaceWith": {"r": expression}}]
    try:
        return next(iter(database.aggregate(stages)))
    except OperationFailure:
        return REFUSED


def ours(document: dict[str, Any], expression: Any) -> Any:
    try:
        found = compile_expression(expression)(scope_of(document, now=NOW))
    except ExpressionRefused:
        return REFUSED
    return {} if found is ABSENT else {"r": found}


def expect_same(database: Database[Any], document: dict[str, Any], expression: Any) -> bool:
    """Whether it could be compared."""
    document = bson.decode(bson.encode(document), BSON_OPTIONS)
    expression = bson.decode(bson.encode({"": expression}), BSON_OPTIONS)[""]
    try:
        mine = ours(document, expression)
    except CallRefused:
        return False
    found = theirs(database, document, expression)
    same = mine == found if REFUSED in (mine, found) else bson.encode(mine) == bson.encode(found)
    assert same, (document, expression, mine, found)
    return True


@examples(1)
@given(asked=st.lists(st.tuples(DOCUMENTS, EXPRESSIONS), min_size=8, max_size=8))
def test_expressions_give_what_mongodb_gives(database: Database[Any], asked: list[tuple[dict[str, Any], Any]]) -> None:
    for document, expression in asked:
        expect_same(database, document, expression)


@pytest.mark.parametrize("expression", CASES, ids=repr)
def test_case_gives_what_mongodb_gives(database: Database[Any], expression: Any) -> None:
    document = {
        "n": 7,
        "l": Int64(2**40),
        "d": 2.5,
        "m": Decimal128("3.10"),
        "s": "Añb c",
        "t": "a,b",
        "o": {"x": 1, "y": [1, 2.0]},
        "a": [3, 1, 1.0, None, "z"],
        "docs": [{"k": 2, "v": "b"}, {"k": 1, "v": "a"}, {"k": 2}],
        "at": datetime(2024, 2, 29, 13, 5, 6, 7000),
        "id": ObjectId("65a0b0c0d0e0f0a0b0c0d0e0"),
        "b": True,
        "z": None,
    }
    assert expect_same(database, document, expression)


def test_every_known_operator_is_drawn() -> None:
    text = Counter(word for one in CASES for word in str(one).split("'"))
    assert [one for one in known() if one not in text] == []


def test_variables_of_let_are_seen() -> None:
    variables = variables_of({"x": {"$add": [1, 2]}}, now=NOW)
    scope = scope_of({"a": 4}, now=NOW, variables=variables)
    assert compile_expression({"$multiply": ["$a", "$$x"]})(scope) == 12
    with pytest.raises(CallRefused, match=r"the variable \$\$y"):
        compile_expression("$$y")(scope)
    with pytest.raises(CallRefused, match=r"the operator \$function"):
        compile_expression({"$function": {}})
