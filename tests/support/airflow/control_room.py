"""The control room in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from docferry.sandbox.airflow_api import AirflowApi
from playwright.sync_api import Page

from support.airflow.grid import open_page, take

PAGE = "/migrations/"


@dataclass
class Room:
    """The page, and what the browser complains of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def complain(self, what: str) -> None:
        if what:
            self.complaints.append(what)

    def text(self) -> str:
        return self.page.inner_text("body")

    def start(self, phase: str) -> str:
        """Start a phase by its form, and what the form says then."""
        self.page.get_by_role("button", name=f"Start ... {phase}").click()
        form = self.page.get_by_role("form")
        form.get_by_role("button", name="Start", exact=True).click()
        form.get_by_role("status").filter(has_text="tarted").wait_for()
        return form.get_by_role("status").inner_text()

    def documents_of_a_letter(self) -> str:
        """Choose the first dead letter, and ask for its document: that, or why it is not shown."""
        letters = self.page.get_by_role("region", name="Dead letters", exact=True)
        letters.get_by_role("button", name="List letters").click()
        letters.get_by_role("checkbox").first.check()
        letters.get_by_role("button", name="Show documents").click()
        said = letters.get_by_role("status").filter(has_text="may not").or_(letters.locator("pre")).first
        said.wait_for()
        return said.inner_text()


@contextmanager
def open_room(api: AirflowApi) -> Iterator[Room]:
    """The page with the first state in it. What it loads from elsewhere, and errors in its console, are complaints."""
    with open_page(api) as page:
        room = Room(page)
        page.on("console", lambda said: room.complain(said.text if said.type == "error" else ""))
        page.on("pageerror", lambda error: room.complain(str(error)))
        page.on("request", lambda sent: room.complain("" if sent.url.startswith((api.url, "data:")) else sent.url))
        page.goto(f"{api.url}{PAGE}")
        page.get_by_role("heading", name="Who did what").wait_for()
        yield room


def pictures_of(room: Room, directory: Path) -> list[Path]:
    """Wide and narrow, light and dark."""
    found = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        for width in (1280, 390):
            room.page.emulate_media(color_scheme=scheme)
            room.page.set_viewport_size({"width": width, "height": 900})
            found.append(directory / f"control-room-{width}-{scheme}.png")
            take(room.page, found[-1])
    return found
