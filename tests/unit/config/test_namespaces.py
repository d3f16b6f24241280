"""Where collections are: the file's names and MongoDB's namespaces lead to each other."""

from __future__ import annotations

from docferry.core.namespaces import Namespaces
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text("ab.", min_size=1, max_size=4)
PLACES = st.tuples(st.sampled_from(["main", "past", "old"]), NAMES)
HERE = Namespaces("main", {"past_orders": ("past", "orders"), "log": ("old", "log")})


@given(place=PLACES, elsewhere=st.dictionaries(NAMES, PLACES.filter(lambda one: one[0] != "main"), max_size=4))
def test_each_collection_has_one_name_which_leads_back_to_it(
    place: tuple[str, str], elsewhere: dict[str, tuple[str, str]]
) -> None:
    where = Namespaces("main", elsewhere)
    assert where.place_of(where.name_of(*place)) == place
    assert all(where.place_of(name) == found for name, found in elsewhere.items())


def test_collection_of_the_default_database_that_bears_a_files_name_is_another_one() -> None:
    assert HERE.name_of("past", "orders") == "past_orders"
    assert HERE.name_of("main", "orders") == "orders"
    assert HERE.name_of("main", "past_orders") == "main$past_orders"
    assert HERE.databases == ("main", "past", "old")
    assert HERE.by_database(["orders", "past_orders"]) == {
        "main": {"orders": "orders"}, "past": {"orders": "past_orders"}, "old": {},
    }  # fmt: skip
    assert (HERE.shown("past_orders"), HERE.shown("x"), str(HERE)) == ("past.orders", "main.x", "main, past, old")
    assert HERE.several
    assert not Namespaces.at("main").several


def test_collections_of_other_databases_get_names_that_nothing_else_has() -> None:
    found = Namespaces.named("live", {"past": ["orders", "log"], "old": ["orders", "past_orders", "log"]}, ["orders"])
    assert found.elsewhere == {
        "past_orders": ("past", "orders"),
        "log": ("past", "log"),
        "old_orders": ("old", "orders"),
        "old_past_orders": ("old", "past_orders"),
        "old_log": ("old", "log"),
    }
