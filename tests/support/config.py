"""Migration files that are refused."""

from __future__ import annotations

import pytest
from docferry.config import parse_migration
from docferry.errors import ConfigError, Problem


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_migration(text.encode() if isinstance(text, str) else text)
    return caught.value.problems
