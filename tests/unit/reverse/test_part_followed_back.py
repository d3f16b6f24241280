"""The way back of a collection of which a part is migrated: what is MongoDB's alone is neither replaced nor removed."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from support.filtered.world import with_filter
from support.reverse import rig as module
from support.reverse.rig import Back, hurry

NOTE: dict[str, Any] = {"_id": 1, "kind": "order", "text": "mine"}
APART: dict[str, Any] = {"_id": 1, "kind": "draft", "text": "MongoDB's"}


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> Back:
    hurry(monkeypatch)
    whole = module.MIGRATION
    monkeypatch.setattr(module, "MIGRATION", with_filter(whole, "notes", {"kind": "order"}))
    made = Back()
    made.start()
    return made


def notes(back: Back) -> list[dict[str, Any]]:
    return list(back.sink.all_of("notes").values())


def test_the_part_is_followed(back: Back) -> None:
    back.sink.put("notes", bson.encode(APART | {"_id": 9}))
    back.put("notes", NOTE)
    assert back.follow().books.counted()["applied"] == 1
    back.remove("notes", 1)
    back.follow()
    assert notes(back) == [APART | {"_id": 9}]
    assert back.letters() == []


def test_an_insert_of_an_id_that_mongodb_has_outside_is_a_letter(back: Back) -> None:
    back.sink.put("notes", bson.encode(APART))
    back.put("notes", NOTE)
    back.follow()
    (letter,) = back.letters()
    assert (letter.collection, letter.id, letter.reason) == ("notes", "~i1", "OutsideFilter")
    assert notes(back) == [APART]
    back.remove("notes", 1)
    back.follow()
    assert notes(back) == [APART]
    assert back.letters() == []


def test_what_another_writer_has_put_past_the_filter_is_a_letter(back: Back, monkeypatch: pytest.MonkeyPatch) -> None:
    filtered = module.MIGRATION
    monkeypatch.setattr(module, "MIGRATION", with_filter(filtered, "notes", {}))
    back.put("notes", APART)
    monkeypatch.setattr(module, "MIGRATION", filtered)
    back.follow()
    assert [letter.reason for letter in back.letters()] == ["OutsideFilter"]
    assert notes(back) == []
