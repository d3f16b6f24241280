"""Regular expressions of a real mongod and ours, side by side; and those that explode elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Code, Regex
from docferry.core.mql.expressions.patterns import MOST_STATES, compile_pattern
from docferry.core.mql.filters import compile_filter
from docferry.errors import CallRefused
from docferry.sandbox import SandboxStack
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection
from support.examples import examples
from support.pace import Pace

Things = Collection[dict[str, Any]]
TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "aab",
    "Ab",
    "a\n",
    "\na",
    "a\nb",
    "b\nab\n",
    "a b",
    "a_b",
    "1a",
    "é",
    "aé",
    "a.b",
    "aaaa",
    " ",
    "\t",
    "ba\n\n",
]
ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "A",
        ".",
        "\\.",
        "\\d",
        "\\w",
        "\\s",
        "\\S",
        "\\W",
        "[ab]",
        "[^a]",
        "[a-c1]",
        "\\n",
        "^",
        "$",
        "\\b",
        "\\B",
        "\\A",
        "(?:)",
        " ",
    ]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=2).map("|".join),
        inner.map(lambda one: f"({one})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,1}", "*?", "+?"])).map(
            lambda one: f"(?:{one[0]}){one[1]}"
        ),
    ),
    max_leaves=6,
)
OPTIONS = st.sets(st.sampled_from("ims")).map(lambda one: "".join(sorted(one)))


@pytest.fixture(scope="module")
def things(stack: SandboxStack) -> Iterator[Things]:
    with MongoClient[dict[str, Any]](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        database = client[f"patterns{uuid.uuid4().hex}"]
        database.things.insert_many([{"_id": at, "a": one} for at, one in enumerate(TEXTS)])
        database.things.insert_many([{"a": ["x", "ab"]}, {"a": Regex("ab")}, {"a": 5}, {"a": Code("ab")}, {"b": "ab"}])
        yield database.things
        client.drop_database(database.name)


def expect_same(things: Things, query: dict[str, Any]) -> None:
    ours = compile_filter(query)
    wanted = {str(one["_id"]) for one in things.find(query)}
    assert {str(one["_id"]) for one in things.find() if ours.matches(one)} == wanted, query


@examples(1)
@given(pattern=PATTERNS, options=OPTIONS)
def test_pattern_finds_what_mongodb_finds(things: Things, pattern: str, options: str) -> None:
    expect_same(things, {"a": {"$regex": pattern, "$options": options}})


@pytest.mark.parametrize(
    "query",
    [
        {"a": Regex("^a")},
        {"a": {"$in": [Regex("b$"), "é"]}},
        {"a": {"$nin": [Regex("a")]}},
        {"a": {"$not": Regex("a", "i")}},
        {"a": {"$all": [Regex("a"), Regex("b")]}},
        {"a": {"$regex": Regex("A"), "$options": "i"}},
        {"a": {"$elemMatch": {"$regex": "^x"}}},
        {"a": {"$regex": "a b", "$options": "x"}},
        {"a": {"$not": {"$regex": "a"}}},
    ],
    ids=str,
)
def test_forms_find_what_mongodb_finds(things: Things, query: dict[str, Any]) -> None:
    expect_same(things, query)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1",
        "(?=a)",
        "(?<!a)b",
        "a++",
        "(?>a)",
        "(?i:a)b",
        "[[:alpha:]]",
        r"\p{L}",
        "a{,2}",
        "(",
        r"\Qa\E",
        "(?P<x>a)",
        "a" * (MOST_STATES + 1),
    ],
)
def test_what_explodes_or_means_something_else_is_refused(pattern: str) -> None:
    with pytest.raises(CallRefused):
        compile_pattern(pattern)
    with pytest.raises(CallRefused):
        compile_pattern("é", "i")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(a*)*b", "a*a*a*a*a*b"])
def test_search_takes_time_that_grows_with_the_text(pattern: str) -> None:
    with Pace() as pace:
        assert not compile_pattern(pattern).search("a" * 20_000 + "!")
    assert pace.seconds < 10
