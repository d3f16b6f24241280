"""What a report shows of values: categories as they are, everything else by its form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bson import Binary, Decimal128
from docferry.adapters.sketches import sketches
from docferry.core.analyze.facts import PathFacts
from docferry.core.analyze.profile import Profile


def facts_of(values: list[Any]) -> PathFacts:
    profile = Profile(sketches(), lambda document: 1, 400_000)
    for number, value in enumerate(values):
        profile.add({"_id": number, "field": value}, 1)
    return next(one for one in profile.paths() if one.path == "field")


def test_dates_and_decimals_are_shown_as_people_write_them() -> None:
    """Not as Python does."""
    dates = facts_of([datetime(2026, 12, 30, 9, 33)] * 3)
    assert (dates.heavy[0].shown, dates.examples) == ("2026-12-30 09:33:00.000", ("9999-99-99 99:99:99.999",))
    assert facts_of([Decimal128("5.50")] * 3).heavy[0].shown == "5.50"


def test_long_value_is_masked_whatever_its_type() -> None:
    shown = facts_of([Binary(b"the document's own bytes, and more than forty")] * 3).heavy[0].shown
    assert "document" not in shown
