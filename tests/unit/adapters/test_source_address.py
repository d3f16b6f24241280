"""An address that gives up each answer too soon is refused by the name of its option."""

from __future__ import annotations

import pytest
from docferry.adapters.mongodb.source import MongoSource
from docferry.errors import ConfigError


@pytest.mark.parametrize("option", ["socketTimeoutMS", "timeoutMS"])
def test_timeout_that_is_shorter_than_what_the_server_waits_is_refused_by_name(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}.*500 ms") as caught:
        MongoSource(f"mongodb://user:hidden@127.0.0.1:1/?{option}=500", "d")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("options", ["", "socketTimeoutMS=20000", "socketTimeoutMS=0"])
def test_timeout_that_is_long_enough_is_the_users_own(options: str) -> None:
    MongoSource(f"mongodb://127.0.0.1:1/?{options}", "d").close()
