"""Whether a page can be used by all, as far as axe-core can tell: names, roles, contrast, order of headings, regions."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


def violations(page: Page) -> list[str]:
    """Each in a line: the rule, and the elements that break it. The page's own policy forbids scripts from elsewhere, not the
    browser's owner, who evaluates this one."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found: list[dict[str, Any]] = page.evaluate(RUN)
    return [f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:5]]}" for one in found]
