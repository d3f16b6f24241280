"""One Airflow for all tests of this directory, which `make test` gives to one process (tests/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docferry.sandbox import SandboxStack
from support.airflow.night import Night, open_night
from support.airflow.site import Site, open_site


@pytest.fixture(scope="package")
def site(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Started, and not awaited: what a test prepares takes its time, too."""
    with open_site(stack, tmp_path_factory.mktemp("migrations")) as opened:
        yield opened


@pytest.fixture(scope="package")
def night(site: Site) -> Iterator[Night]:
    with open_night(site) as opened:
        yield opened
