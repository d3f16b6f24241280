"""One event of the change stream: whatever cannot be read of it, the stream goes on, or says why it cannot."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from docferry.adapters.mongodb.change_events import change_of
from docferry.core.mapping.raw import id_bytes
from docferry.errors import InvariantBroken, StreamEnded, Unforeseen
from docferry.ports.flows import ChangeEvent, StreamPosition

AT = Timestamp(7, 1)
BEHIND = StreamPosition(time=AT, token={"_data": "x"}, scope="database:d", n=1)


def raw(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document))


def event_of(**changes: Any) -> dict[str, Any]:
    found = {"key": raw({"_id": 1}), "before": raw({"_id": 1}), "after": raw({"_id": 1, "x": 2}), "paths": ["x"]}
    return found | changes


def read(event: dict[str, Any]) -> ChangeEvent:
    return change_of(event, "update", "docs", AT, 0, BEHIND)


def test_a_change_has_its_images_and_its_paths() -> None:
    change = read(event_of())
    assert (change.id, change.touched, change.images_lost) == (id_bytes(1), ("x",), False)
    assert change.after == bson.encode({"_id": 1, "x": 2})


@pytest.mark.parametrize("broken", [{"after": object()}, {"before": "text"}, {"paths": 7}])
def test_an_event_that_cannot_be_read_is_one_whose_images_are_lost_and_says_why(broken: dict[str, Any]) -> None:
    change = read(event_of(**broken))
    assert (change.id, change.images_lost, change.after, change.position) == (id_bytes(1), True, None, BEHIND)
    assert isinstance(change.error, Unforeseen)


@pytest.mark.parametrize("key", [None, "text", RawBSONDocument(bson.encode({"no": 1}))])
def test_an_event_that_names_no_document_ends_the_stream(key: Any) -> None:
    with pytest.raises(InvariantBroken, match="an event of docs at 7, 1 does not say of which document it is"):
        read(event_of(key=key))


def test_a_missing_image_ends_the_stream_behind_the_event() -> None:
    with pytest.raises(StreamEnded) as ended:
        read(event_of(after=None))
    assert (ended.value.reason, ended.value.position) == ("images_missing", BEHIND)


def test_ids_of_kilobytes_are_bytes_in_every_kind_of_event() -> None:
    """pymongo gives the raw bytes of a nested document as a memoryview from about 4 KB on."""
    long_id = "K" * 5_000
    outer = RawBSONDocument(bson.encode({"key": {"_id": long_id}}))
    for broken in ({}, {"after": object()}):
        assert read(event_of(key=outer["key"], **broken)).id == id_bytes(long_id)
