"""An address that gives up each answer too soon is refused by the name of its option."""

from __future__ import annotations

import pytest
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import parse_migration
from docferry.errors import ConfigError
from docferry.wiring import connections_from_environment


@pytest.mark.parametrize("option", ["socketTimeoutMS", "timeoutMS"])
def test_timeout_that_is_shorter_than_what_the_server_waits_is_refused_by_name(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}.*500 ms") as caught:
        MongoSource(f"mongodb://user:hidden@127.0.0.1:1/?{option}=500", "d")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("options", ["", "socketTimeoutMS=20000", "socketTimeoutMS=0"])
def test_timeout_that_is_long_enough_is_the_users_own(options: str) -> None:
    MongoSource(f"mongodb://127.0.0.1:1/?{options}", "d").close()


MIGRATION = parse_migration(b"migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n")


@pytest.mark.parametrize("around", ["{}\n", " {}", "\t{}\r\n"])
def test_white_space_around_the_address_is_no_part_of_it(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCFERRY_MONGO_URI", around.format("mongodb://user:hidden@h/?authSource=admin"))
    assert connections_from_environment(MIGRATION).mongo_uri == "mongodb://user:hidden@h/?authSource=admin"


@pytest.mark.parametrize(
    ("uri", "word"),
    [("mongodb://user:hid den@h/", "white space"), ("mongodb://u@h/\n?x=hidden", "white space"), (" \n", "is not set")],
)
def test_address_that_none_can_be_is_refused_without_being_shown(
    uri: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFERRY_MONGO_URI", uri)
    with pytest.raises(ConfigError, match=word) as caught:
        connections_from_environment(MIGRATION)
    assert "hid" not in str(caught.value)
