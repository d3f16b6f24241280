"""A read that differs while replication is behind is late, however long; one that differs behind it is a mismatch."""

from __future__ import annotations

from typing import Any

from bson.timestamp import Timestamp
from docferry.client.reads.suspicion import NOTHING, Suspicion

CHANGED, LATER, MUCH_LATER = Timestamp(100, 1), Timestamp(100, 2), Timestamp(190, 1)


def looks(*seen: tuple[dict[Any, int], Timestamp | None], began: float = 0.0, settle_s: float = 3.0) -> list[bool]:
    """One look a second, each with MongoDB's values where they differ, and how far replication is; MongoDB has the same clock."""
    suspicion = Suspicion(began, settle_s)
    return [
        suspicion.is_proved(values, began + number, Timestamp(100 + number, 1), applied)
        for number, (values, applied) in enumerate(seen)
    ]


def test_a_difference_is_late_as_long_as_replication_is_behind() -> None:
    """A primary was killed: replication stands still for half a minute, and all reads differ meanwhile."""
    assert not any(looks(*[({"status": 1}, CHANGED)] * 30))


def test_a_difference_that_stays_behind_replication_is_a_mismatch() -> None:
    assert looks(*[({"status": 1}, LATER)] * 6) == [False, False, False, False, False, True]


def test_a_value_that_changes_again_is_as_young_as_its_last_change() -> None:
    assert not any(looks(*[({"status": number}, LATER) for number in range(30)]))


def test_a_field_that_differs_all_the_time_is_found_beside_one_that_is_written_all_the_time() -> None:
    assert any(looks(*[({"visits": number, "status": 1}, LATER) for number in range(6)]))


def test_one_look_is_not_enough_for_a_change_may_come_between_the_two_reads() -> None:
    behind = [({"status": 1}, CHANGED)] * 5
    assert not any(looks(*behind, ({"status": 1}, MUCH_LATER), ({"status": 2}, MUCH_LATER)))


def test_where_replication_has_never_run_a_difference_that_stays_is_one() -> None:
    assert looks(*[({"status": 1}, None)] * 5) == [False, False, False, False, True]


def test_nothing_is_decided_while_it_is_not_known_how_far_replication_is() -> None:
    assert not any(looks(*[({"status": 1}, NOTHING)] * 30))
