"""Airflow's own list of DAGs with five migrations in the directory: 106 DAGs, which a person can still find."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page
from support.airflow.control_room import pictures_directory
from support.airflow.grid import open_page, take
from support.airflow.night import Night

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ORDERED = re.compile(r"^(\w+) (\d\d) (\w+)$", re.M)
PHASES = 21
THERE = ["playbook", "analyze", "drill", "provision", "backfill", "replicate", "validate"]


def listed(page: Page, url: str, first: str) -> list[tuple[str, str, str]]:
    """Migration, number and phase of the DAGs of a list, from the top."""
    page.goto(url)
    page.get_by_role("link", name=first, exact=True).wait_for()
    return ORDERED.findall(page.inner_text("body"))


@pytest.mark.parametrize("words", ["tags=shop", "name_pattern=shop"])
def test_tag_and_search_lead_to_the_dags_of_one_migration_in_the_playbooks_order(
    night: Night, words: str, tmp_path: Path
) -> None:
    viewer = night.person("victor")
    with open_page(viewer) as page:
        found = listed(page, f"{viewer.url}/dags?{words}&limit=50", "shop 00 playbook")
        take(page, pictures_directory(tmp_path) / "dags.png")
    assert [one[:2] for one in found] == [("shop", f"{number:02d}") for number in range(PHASES)]
    phases = [phase for _, _, phase in found]
    assert phases[: len(THERE)] == THERE
    assert (
        phases.index("flip_reads")
        < phases.index("stop_mongo_writes")
        < phases.index("rollback")
        < phases.index("purge")
    )


def test_list_of_all_has_migration_after_migration(night: Night) -> None:
    viewer = night.person("victor")
    with open_page(viewer) as page:
        found = listed(page, f"{viewer.url}/dags?limit=100", "first 00 playbook")
    assert found == sorted(found)
    assert [one[0] for one in found[: 2 * PHASES]] == ["first"] * PHASES + ["second"] * PHASES
