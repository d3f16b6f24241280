"""Looks at a finished DAG run in Airflow's UI with a real browser."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from docferry.embedded.airflow import AirflowApi
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1500, "height": 1000}
WAIT_MS = 30_000


def find_browser() -> str | None:
    """Debian's chromium, or what goes by a similar name."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@dataclass
class Seen:
    """The words on the two pages, as a person can read them."""

    grid: str
    ranges: str


def look(api: AirflowApi, dag_id: str, run_id: str, mapped_task: str, picture: Path) -> Seen:
    """Take a picture of the run's grid, and read the grid and the list of a mapped task's instances."""
    browser_path = find_browser()
    assert browser_path is not None
    run = f"{api.url}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        context.add_cookies([{"name": "_token", "value": api.access_token(), "url": api.url}])
        page = context.new_page()
        page.goto(f"{run}/tasks/{quote(mapped_task)}/mapped")
        page.get_by_text("ids before").first.wait_for(timeout=WAIT_MS)
        ranges = page.inner_text("body")
        page.goto(run)
        page.get_by_text("ids before").first.wait_for(timeout=WAIT_MS)
        page.get_by_label("Expand all task groups").first.click()
        page.get_by_text("finish", exact=True).first.wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(1_500)  # the panels slide
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(picture))
        grid = page.inner_text("body")
        browser.close()
    return Seen(grid=grid, ranges=ranges)
