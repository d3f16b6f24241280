"""The pages as a site: no broken link, no page left out, nothing asked of another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support.place import ROOT

LOADED = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=\"(?:https?:)?//[^\"]*\"")
ASKED = re.compile(r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"](?:https?:)?//")


def built(pages: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = ["sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-b", "html", "-d", str(site / "cache")]
    return subprocess.run(
        [sys.executable, "-m", *command, str(pages), str(site / "html")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_site_holds_every_page_and_asks_no_other_host(tmp_path: Path) -> None:
    done = built(ROOT / "docs", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    html = tmp_path / "html"
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {path.relative_to(html).with_suffix("") for path in html.rglob("*.html")} == set()
    asked = [(path.name, found) for path in html.rglob("*.html") for found in LOADED.findall(path.read_text())]
    asked += [(path.name, found) for path in html.rglob("*.css") for found in ASKED.findall(path.read_text())]
    assert asked == []


def test_broken_link_fails_the_site(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "conf.py").write_text(
        (ROOT / "docs" / "conf.py").read_text().replace("HERE / ", "HERE.parent / ")
    )
    (tmp_path / "pages" / "index.md").write_text("# One\n\n[two](two.md)\n")
    done = built(tmp_path / "pages", tmp_path)
    assert done.returncode == 1
    assert "two.md" in done.stderr
