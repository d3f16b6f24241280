"""What shapes of calls cost a month: at the rate that was seen, the dearest first, with what makes them cheaper."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import load_migration
from docferry.config.price_book import load_price_book
from docferry.core.access.shape_costs import ShapeCost, advice_on_cost, shape_costs
from docferry.core.cutover.instances import Instance, instance_of
from docferry.core.cutover.spent_shapes import SpentBy
from support.place import ROOT

MAPPINGS = load_migration(ROOT / "include" / "migrations" / "shop.yaml").mappings
BOOK = load_price_book()
HOUR_MS = 3600 * 1000


def instance(name: str, since_ms: int, beat_ms: int, **spent: SpentBy) -> Instance:
    return Instance(
        id=name, name=name, mark="m", epoch=1, registered_ms=0, beat_ms=beat_ms, until_ms=beat_ms, spent=spent,
        spent_since_ms=since_ms,
    )  # fmt: skip


def costs(*instances: Instance) -> list[ShapeCost]:
    return shape_costs(instances, MAPPINGS, BOOK)


def test_processes_are_added_up_over_the_time_since_the_first_asked() -> None:
    reads, writes = SpentBy(100, 50.0, 0.0), SpentBy(10, 10.0, 60.0)
    one = instance("one", 1_000, 1_000 + HOUR_MS, finds=reads, updates=writes)
    other = instance("other", 1_000 + HOUR_MS // 2, 1_000 + 2 * HOUR_MS, finds=reads)
    silent = instance("silent", 0, 1_000 + 9 * HOUR_MS)
    dear, cheap = costs(one, other, silent)
    assert (dear.shape, dear.calls, dear.read_units, dear.write_units) == ("updates", 10, 1.0, 6.0)
    assert (cheap.shape, cheap.calls, cheap.read_units, cheap.write_units) == ("finds", 200, 0.5, 0.0)
    assert cheap.usd_month == pytest.approx(100 * BOOK.read_request_million / 1e6 * 365)  # of 730 hours two were seen
    assert "200 call(s) of 0.5 read and 0 write units, 0." in cheap.line()


def test_no_rate_is_told_of_a_moment() -> None:
    (found,) = costs(instance("one", 1_000, 2_000, finds=SpentBy(1, 1.0, 0.0)))
    assert found.usd_month is None
    assert found.line() == "finds: 1 call(s) of 1 read and 0 write units"
    assert costs(instance("silent", 0, HOUR_MS)) == []


@pytest.mark.parametrize(
    ("shape", "units", "advice"),
    [
        ("users.find(status) by a scan", 2.0, "each call reads the whole table: pin username, or give users an index"),
        ("orders.aggregate($match(a)) by a scan", 2.0, "each call reads the whole table: let the first $match"),
        ("orders.count_documents(userId) by index GSI1", 200.0, "each call reads much of a partition"),
        ("orders.find(userId) by index GSI1", 3.0, ""),
        ("users.find_one(username) by the table key", 90.0, "the documents are large"),
        ("users.find_one(username) by the table key", 1.0, ""),
        ("commit_transaction", 50.0, ""),
        ("other shapes", 50.0, ""),
    ],
)
def test_what_costs_much_has_its_advice(shape: str, units: float, advice: str) -> None:
    found = advice_on_cost(shape, units, MAPPINGS)
    assert found.startswith(advice)
    assert bool(found) == bool(advice)


def test_a_record_holds_what_was_spent_and_one_from_before_holds_nothing() -> None:
    one = instance("one", 1_000, 2_000, finds=SpentBy(3, 1.5, 0.0))
    body: dict[str, Any] = one.to_body()
    assert body["spent"] == {"finds": [3, 3, 0]}
    assert instance_of("one", body) == one
    for name in ("spent", "spent_since"):
        del body[name]
    assert instance_of("one", body).spent == {}
