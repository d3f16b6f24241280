"""A plan leads to every document that the query finds in MongoDB, unless the index leaves it out; and which it misses is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from docferry.config import load_migration
from docferry.core.access.read_plan import ReadPlan, leads_to, plan_read
from docferry.core.mql.filters import compile_filter
from hypothesis import given
from hypothesis import strategies as st
from support.place import SHOP_FILE

SHOP = load_migration(SHOP_FILE)
USERS = SHOP.mapping("users")
NAMES = st.sampled_from(["", "a", "ann", "a#b", "~", "1", "é", "\U0001f600"])
CITIES = st.sampled_from(["Bern", "Rome", "a#b"])
DATES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000)
)


def plan(query: Mapping[str, Any]) -> ReadPlan:
    patterns = [one for one in SHOP.access_patterns if one.collection == "users"]
    return plan_read(USERS, patterns, query, compile_filter(query).equalities)


DOCUMENTS = st.fixed_dictionaries({
    "_id": st.integers(0, 9), "username": NAMES.filter(bool), "email": NAMES.filter(bool), "lastLoginAt": DATES,
    "status": st.just("active"), "profile": CITIES.map(lambda city: {"location": {"city": city}}),
})  # fmt: skip


def expect_lead(query: Mapping[str, Any], document: dict[str, Any]) -> None:
    assert compile_filter(query).matches(document)
    assert leads_to(USERS, plan(query), document)


@given(document=DOCUMENTS, others=st.lists(NAMES, max_size=3))
def test_plan_leads_to_what_is_found_by_a_key(document: dict[str, Any], others: list[str]) -> None:
    expect_lead({"username": document["username"]}, document)
    expect_lead({"username": {"$in": [*others, document["username"]]}}, document)
    expect_lead({"email": document["email"]}, document)


@given(
    document=DOCUMENTS,
    before=st.timedeltas(timedelta(0), timedelta(9)),
    after=st.timedeltas(timedelta(0), timedelta(9)),
)
def test_plan_leads_to_what_is_found_in_a_range(document: dict[str, Any], before: timedelta, after: timedelta) -> None:
    here = {"profile.location.city": document["profile"]["location"]["city"], "status": "active"}
    when = document["lastLoginAt"]
    low, high = when - min(before, when - datetime.min), when + min(after, datetime.max - when)
    for bounds in (
        {"$gte": low},
        {"$lte": high},
        {"$gte": low, "$lte": high},
        {"$gte": low, "$lt": high},
        {"$gt": low},
    ):
        if compile_filter(here | {"lastLoginAt": bounds}).matches(document):
            expect_lead(here | {"lastLoginAt": bounds}, document)
    expect_lead(here, document)
    expect_lead(here | {"lastLoginAt": when}, document)


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ({"profile.location.city": "Bern", "status": "active"}, {}),
        ({"profile.location.city": "Bern", "status": "active"}, {"lastLoginAt": None}),
        ({"profile.location.city": "Bern", "status": "active"}, {"lastLoginAt": datetime(2024, 1, 1), "status": ["active"]}),
        ({"email": "a"}, {"email": ["a", "b"]}),
    ],
    ids=["a field is missing", "a field is null", "`when` asks for a value", "an array has the value"],
)  # fmt: skip
def test_plan_does_not_lead_to_what_its_index_leaves_out(query: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {"_id": 1, "username": "ann", "status": "active", "profile": {"location": {"city": "Bern"}}} | document
    assert compile_filter(query).matches(whole)
    assert not leads_to(USERS, plan(query), whole)
