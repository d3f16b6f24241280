"""How the pages become a site (`make docs`). They are read as they stand, too: what only a site needs is added here."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
ELSEWHERE = re.compile(r"\[([^]]+)\]\((?:\.\./)+[A-Z]+\.md\)")
"""Links to pages of the repository that are not pages of the site."""
CHAPTERS = {
    "The night": [
        "first-migration",
        "tour",
        "night",
        "running",
        "monitoring",
        "deploy",
        "cutover",
        "rollback-points",
        "resources",
        "permissions",
    ],
    "The application": ["client", "client-calls", "client-flip"],
    "The decision": ["analyze", "cost", "consistency", "speed", "faq"],
    "Reference": ["mapping", "protocol", "architecture", "decisions/README"],
}

project = "docferry"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["vectors"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "docferry"
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    app.connect("source-read", _for_the_site)


def _for_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    # Drawings in Mermaid would ask another host for its script: the site shows their text.
    source[0] = source[0].replace("```mermaid", "```text")
    source[0] = ELSEWHERE.sub(r"`\1`", source[0])
    if page == root_doc:
        source[0] += "".join(_contents(title, pages) for title, pages in CHAPTERS.items())
    if page == "decisions/README":
        source[0] += _contents("", sorted(path.stem for path in (HERE / "decisions").glob("0*.md")))


def _contents(title: str, pages: list[str]) -> str:
    caption = f":caption: {title}\n" if title else ""
    return f"\n```{{toctree}}\n:hidden:\n{caption}\n" + "\n".join(pages) + "\n```\n"
