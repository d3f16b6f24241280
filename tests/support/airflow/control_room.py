"""The control room in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from docferry.sandbox.airflow_api import AirflowApi
from playwright.sync_api import Locator, Page

from support.airflow.accessible import violations
from support.airflow.grid import open_page, take

PAGE = "/migrations/"
WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SMUGGLE = """async () => {
  const ran = window.ran = [];
  const script = document.createElement("script");
  script.textContent = "window.ran.push('inline script')";
  const elsewhere = document.createElement("script");
  elsewhere.src = "data:text/javascript,window.ran.push('script from elsewhere')";
  document.body.append(script, elsewhere);
  document.body.insertAdjacentHTML("beforeend", `<img src="nothing:" onerror="window.ran.push('handler')">`);
  document.body.insertAdjacentHTML("beforeend", `<a id="smuggled" href="javascript:window.ran.push('address')">x</a>`);
  document.getElementById("smuggled").click();
  await new Promise(done => setTimeout(done, 500));
  return ran;
}"""
OVERFLOW = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"


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

    def section(self, title: str) -> Locator:
        return self.page.get_by_role("region", name=title, exact=True)

    def start(
        self,
        phase: str,
        confirm: str = "",
        numbers: Mapping[str, str] | None = None,
        choices: Mapping[str, str] | None = None,
    ) -> str:
        """Start a phase by its form, and what the form says then."""
        self.page.get_by_role("button", name=f"Start {phase}", exact=True).or_(
            self.page.get_by_role("button", name=f"Start ... {phase}")
        ).click()
        form = self.page.get_by_role("form")
        for label, value in (numbers or {}).items():
            form.get_by_label(label).fill(value)
        for label, value in (choices or {}).items():
            form.get_by_label(label).select_option(label=value)
        if confirm:
            form.get_by_label("This changes who serves").fill(confirm)
        form.get_by_role("button", name="Start", exact=True).click()
        form.get_by_role("status").filter(has_text="tarted").wait_for()
        return form.get_by_role("status").inner_text()

    def request(self, phase: str) -> Locator:
        """The request for an approval of a phase, once it is there."""
        return self._asking(f"{phase}: may it go on?")

    def _asking(self, words: str) -> Locator:
        request = self.page.get_by_role("region", name=words)
        request.wait_for()
        return request

    def answer(self, phase: str, option: str, why: str) -> str:
        """What the page says of the answer."""
        return self.answer_to(f"{phase}: may it go on?", option, why)

    def answer_to(self, words: str, option: str, why: str) -> str:
        """The same, of a request with these words."""
        request = self._asking(words)
        request.get_by_label("Why").fill(why)
        request.get_by_role("button", name=option).click()
        said = request.get_by_role("status").filter(has_text="nswered")
        said.wait_for()
        return said.inner_text()

    def documents_of_a_letter(self) -> str:
        """Choose the first dead letter, and ask for its document: that, or why it is not shown."""
        letters = self.section("Dead letters")
        letters.get_by_role("button", name="List letters").click()
        letters.get_by_role("checkbox").first.check()
        letters.get_by_role("button", name="Show documents").click()
        said = letters.get_by_role("status").filter(has_text="may not").or_(letters.locator("pre")).first
        said.wait_for()
        return said.inner_text()


@contextmanager
def open_watched(api: AirflowApi, path: str) -> Iterator[Room]:
    """A page of which we keep what it loads from elsewhere, and errors in its console: its complaints."""
    with open_page(api) as page:
        room = Room(page)
        page.on("console", lambda said: room.complain(said.text if said.type in ("error", "warning") else ""))
        page.on("pageerror", lambda error: room.complain(str(error)))
        page.on("request", lambda sent: room.complain("" if sent.url.startswith((api.url, "data:")) else sent.url))
        page.goto(f"{api.url}{path}")
        yield room


@contextmanager
def open_room(api: AirflowApi, migration: str = "") -> Iterator[Room]:
    """The page with the first state in it."""
    with open_watched(api, f"{PAGE}#{migration}") as room:
        room.page.get_by_role("heading", name="Who did what").wait_for()
        yield room


def carried_out(page: Page) -> list[str]:
    """Which kinds of script that a text of a database could smuggle into the page the browser carries out."""
    found: list[str] = page.evaluate(SMUGGLE)
    return found


def faults_of(room: Room, directory: Path, name: str) -> list[str]:
    """What axe-core finds, and what does not fit: wide and narrow, light and dark. Leaves a picture of each."""
    found = []
    for scheme in SCHEMES:
        for width in WIDTHS:
            room.page.emulate_media(color_scheme=scheme)
            room.page.set_viewport_size({"width": width, "height": 900})
            room.page.evaluate("scrollTo(0, 0)")
            take(room.page, directory / f"{name}-{width}-{scheme}.png")
            found += [f"{width} {scheme}: {one}" for one in violations(room.page)]
            if (over := room.page.evaluate(OVERFLOW)) > 0:
                found.append(f"{width} {scheme}: {over} pixels too wide")
    room.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    return found


def pictures_directory(otherwise: Path) -> Path:
    """Where the tests leave pictures: `make pictures` names the directory of the docs'."""
    return Path(os.environ.get("DOCFERRY_PICTURES") or otherwise)
