"""Reverse replication on fakes."""

from __future__ import annotations

from typing import Any

import pytest

from support.reverse.rig import Back, hurry

ANN: dict[str, Any] = {"_id": 1, "name": "ann", "mail": "a", "addresses": [{"street": "one"}, {"street": "two"}]}


BOB: dict[str, Any] = {"_id": 2, "name": "bob", "mail": "b"}


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> Back:
    hurry(monkeypatch)
    made = Back()
    made.start()
    return made
