"""Versions: MongoDB's clock, then the event's place in it."""

from __future__ import annotations

import pytest
from bson.timestamp import Timestamp
from docferry.core.versions import (
    DIGITS,
    N_MAX,
    VERSION_MAX,
    parse_version,
    snapshot_version,
    version_of,
    version_text,
    version_time,
)


def test_version_is_written_as_22_digits_of_cluster_time_and_n() -> None:
    assert version_text(version_of(Timestamp(0x65000000, 2), 3)) == "6500000000000002000003"
    assert version_text(0) == "0" * DIGITS
    assert version_text(VERSION_MAX) == "f" * DIGITS


def test_snapshot_comes_after_every_event_of_its_time_and_before_the_next() -> None:
    time, later = Timestamp(100, 1), Timestamp(100, 2)
    assert version_of(time, N_MAX - 1) < snapshot_version(time) < version_of(later, 0)
    assert version_time(snapshot_version(time)) == time


@pytest.mark.parametrize("n", [-1, N_MAX + 1])
def test_n_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(ValueError):
        version_of(Timestamp(1, 1), n)


@pytest.mark.parametrize("version", [-1, VERSION_MAX + 1])
def test_version_out_of_range_is_refused(version: int) -> None:
    with pytest.raises(ValueError):
        version_text(version)


def test_text_leads_back() -> None:
    assert parse_version(version_text(VERSION_MAX - 5)) == VERSION_MAX - 5
