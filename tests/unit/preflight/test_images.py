"""Switching images on: what is said before anything changes, what changes, and that a second run changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docferry.config import Migration, parse_migration
from docferry.errors import InvariantBroken, PreflightFailed
from docferry.flows.preflight.images import Switch, render_images, switch_images_on
from docferry.testing.fakes import FakeSource

FILE = b"""
migration: images
source: {database: myapp}
target: {region: us-east-1}
tables: {Shop: {}}
collections: {events: {}, logs: {}, later: {create: true}}
"""


class Listener:
    """Remembers what was said, and what was switched on by then."""

    def __init__(self, source: FakeSource) -> None:
        self.source, self.said, self.switched = source, "", [dict(source.images)]

    def say(self, text: str) -> None:
        self.said += text + "\n"
        self.switched.append(dict(self.source.images))

    def advance(self, *_: Any) -> None: ...


@pytest.fixture
def migration() -> Migration:
    return parse_migration(FILE, "images.yaml")


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource({"events": [{"_id": 1, "x": "y" * 1_000}], "logs": []})
    made.images = {"events": False, "logs": False}
    made.window_s, made.change_rate = 36_000.0, 50.0
    return made


def test_cost_is_said_before_anything_is_switched_on(migration: Migration, source: FakeSource) -> None:
    listener = Listener(source)
    report = switch_images_on(migration, source, progress=listener)
    assert all(seen == {"events": False, "logs": False} for seen in listener.switched)
    assert "events: change stream images to be switched on; a change keeps about 1," in listener.said
    assert "10.0 h" in listener.said
    assert "at most 1.84 GB" in listener.said  # 50 changes a second x 36,000 s x 1,022 bytes
    assert [one.switch for one in report.collections] == [Switch.SWITCHED_ON, Switch.SWITCHED_ON, Switch.MADE]
    assert all(source.collection_facts(one.collection).images for one in report.collections)
    assert report.changed_anything


def test_second_run_changes_and_says_nothing(migration: Migration, source: FakeSource) -> None:
    switch_images_on(migration, source, progress=Listener(source))
    listener = Listener(source)
    report = switch_images_on(migration, source, progress=listener)
    assert not report.changed_anything
    assert listener.said == ""
    assert render_images(report) == "change stream images: on for every collection"


def test_dry_run_shows_cost_and_changes_nothing(migration: Migration, source: FakeSource) -> None:
    report = switch_images_on(migration, source, dry_run=True, progress=Listener(source))
    assert source.images == {"events": False, "logs": False}
    assert not report.changed_anything
    assert "later: change stream images to be made, empty" in render_images(report)


def test_images_that_expire_are_counted_as_long_as_they_are_kept(migration: Migration, source: FakeSource) -> None:
    source.expire_s = 3_600.0
    assert switch_images_on(migration, source, dry_run=True, progress=Listener(source)).kept_s == 3_600.0


def test_unknown_rate_is_said_to_be_unknown(migration: Migration, source: FakeSource) -> None:
    source.change_rate = None
    report = switch_images_on(migration, source, dry_run=True, progress=Listener(source))
    assert report.most_bytes is None
    assert "could not be seen" in render_images(report)


def test_server_that_cannot_have_them_is_refused_before_anything_is_touched(
    migration: Migration, source: FakeSource
) -> None:
    source.facts = replace(source.facts, version=(5, 0, 9))
    with pytest.raises(PreflightFailed, match=r"5\.0\.9; pre-images need 6\.0"):
        switch_images_on(migration, source, progress=Listener(source))
    source.facts, source.kinds = FakeSource().facts, {"logs": "view"}
    with pytest.raises(PreflightFailed, match="logs: is a view"):
        switch_images_on(migration, source, progress=Listener(source))
    assert source.images == {"events": False, "logs": False}


def test_misspelt_collection_is_not_made(source: FakeSource) -> None:
    misspelt = parse_migration(FILE.replace(b"later: {create: true}", b"event: {}"), "images.yaml")
    with pytest.raises(PreflightFailed, match=r"there is no collection event .*did you mean events\?"):
        switch_images_on(misspelt, source, progress=Listener(source))
    assert "event" not in source.catalog().collections
    assert source.images == {"events": False, "logs": False}


def test_images_that_do_not_show_afterwards_are_an_error(
    migration: Migration, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSource, "enable_images", lambda *_: None)
    with pytest.raises(InvariantBroken, match="events: MongoDB accepted change stream images, and does not show them"):
        switch_images_on(migration, source, progress=Listener(source))
