"""Looks at Airflow's UI with a real browser, and clicks in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from docferry.sandbox.airflow_api import AirflowApi
from playwright.sync_api import Page, TimeoutError, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1500, "height": 1000}
WAIT_MS = 180_000
RUN_MS = 400_000
LOADS, BUTTON_MS = 4, 30_000
SLIDE_MS = 1_500
"""The panels slide; a picture waits for that."""


def find_browser() -> str | None:
    """Debian's chromium, or what goes by a similar name."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def open_page(api: AirflowApi) -> Iterator[Page]:
    """A page of a browser that is logged in."""
    browser_path = find_browser()
    assert browser_path is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        context.add_cookies([{"name": "_token", "value": api.access_token(), "url": api.url}])
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        yield page
        browser.close()


@dataclass
class Seen:
    """The words on the two pages, as a person can read them."""

    grid: str
    ranges: str


def look(api: AirflowApi, dag_id: str, run_id: str, mapped_task: str, picture: Path) -> Seen:
    """Take a picture of the run's grid, and read the grid and the list of a mapped task's instances."""
    run = f"{api.url}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"
    with open_page(api) as page:
        page.goto(f"{run}/tasks/{quote(mapped_task)}/mapped")
        page.get_by_text("ids before").first.wait_for()
        ranges = page.inner_text("body")
        _expand_groups(page, run)
        page.get_by_text("finish", exact=True).first.wait_for()
        take(page, picture)
        return Seen(grid=page.inner_text("body"), ranges=ranges)


def _expand_groups(page: Page, run: str) -> None:
    """The page now and then comes up without its buttons: a person loads it again."""
    for _ in range(LOADS):
        page.goto(run)
        page.get_by_text("ids before").first.wait_for()
        button = page.get_by_label("Expand all task groups").first
        try:
            button.click(timeout=BUTTON_MS)
        except TimeoutError:
            continue
        return
    raise AssertionError(f"{LOADS} loads of {run} had no button to expand the task groups")


def take(page: Page, picture: Path) -> None:
    page.wait_for_timeout(SLIDE_MS)
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(picture))


def take_pages(api: AirflowApi, pages: Mapping[Path, tuple[str, str]]) -> None:
    """A picture of each page: its path on the API server, and words that are there once it is complete."""
    with open_page(api) as page:
        for picture, (path, words) in pages.items():
            page.goto(f"{api.url}{path}")
            page.get_by_text(words).first.wait_for()
            take(page, picture)


def trigger_by_clicks(api: AirflowApi, dag_id: str, pictures: Path) -> str:
    """Start a run as a person does, wait until the page says that it succeeded, and return its id. Three pictures tell how."""
    with open_page(api) as page:
        page.goto(f"{api.url}/dags/{quote(dag_id)}")
        page.get_by_role("button", name="Trigger").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("Single Run", exact=True).wait_for()
        take(page, pictures / "trigger.png")
        dialog.get_by_role("button", name="Trigger", exact=True).click()
        page.get_by_text("Dag Run Triggered").first.wait_for()
        page.wait_for_url(re.compile(r"/runs/manual__"))
        take(page, pictures / "started.png")
        beside_its_name = page.locator('div:has(> h2) > [data-testid="state-badge"]')
        beside_its_name.filter(has_text="Success").wait_for(timeout=RUN_MS)
        take(page, pictures / "succeeded.png")
        return unquote(re.sub(r".*/runs/([^/?]+).*", r"\1", page.url))
