"""The wheel and the sdist, built from a copy of what they are made of: nothing is left behind in the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from support.place import ROOT

_BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def copy_of_sources(to: Path) -> Path:
    """pyproject.toml, the README, and all of include/ and some tests: demo, shop and tests must stay out."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "include", to / "include", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "unit" / "house", to / "tests" / "unit" / "house", ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, to / name)
    return to


def build(kind: str, sources: Path, to: Path) -> Path:
    """`kind`: wheel or sdist, by the build backend of pyproject.toml as it is installed here."""
    command = [sys.executable, "-c", _BUILD, f"build_{kind}", str(to)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return to / done.stdout.splitlines()[-1]
