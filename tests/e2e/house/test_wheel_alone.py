"""The wheel alone: installed where the repository is not, it rehearses the night."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from support.house.built import build, copy_of_sources

pytestmark = [pytest.mark.cutover, pytest.mark.slow, pytest.mark.timeout(1200)]

SHOP_FILE = "from importlib.resources import files; print(files('docferry.rehearsal') / 'shop.yaml')"


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel, and a directory that knows nothing of the repository."""

    home: Path
    env: Mapping[str, str]

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        program = str(self.home / "venv" / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]],
            cwd=self.home,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """With the extra `cli`, and nothing that the repository's own environment has."""
    home = tmp_path_factory.mktemp("alone")
    wheel = build("wheel", copy_of_sources(tmp_path_factory.mktemp("sources")), home)
    ours = (
        "PYTHON",
        "DOCFERRY_MONGO",
        "AWS_",
    )  # with our PYTHONPATH pip would take the repository for what is asked for
    alone = Installed(home, {name: value for name, value in os.environ.items() if not name.startswith(ours)})
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], env=alone.env, check=True)
    installed = alone.run("python", "-m", "pip", "install", "--quiet", f"{wheel}[cli]")
    assert installed.returncode == 0, installed.stderr
    return alone


@pytest.fixture(scope="module")
def stack(installed: Installed) -> Iterator[dict[str, str]]:
    """The variables of `docferry up --detach`."""
    up = installed.run("docferry", "up", "--detach", "--shop", "20")
    assert up.returncode == 0, up.stderr
    try:
        exports = (line.removeprefix("export ") for line in up.stdout.splitlines() if line.startswith("export "))
        yield dict(shlex.split(line)[0].partition("=")[::2] for line in exports)
    finally:
        down = installed.run("docferry", "down")
        assert (down.returncode, down.stdout.strip()) == (0, "stopped"), down.stderr


def test_wheel_says_its_version(installed: Installed) -> None:
    done = installed.run("docferry", "--version")
    assert done.stdout == f"docferry, version {version('docferry')}\n", done.stderr


def test_wheel_checks_a_file_against_its_own_sandbox(installed: Installed, stack: dict[str, str]) -> None:
    file = installed.run("python", "-c", SHOP_FILE).stdout.strip()
    assert file.startswith(str(installed.home))
    provisioned = installed.run("docferry", "provision", file, env=stack)
    assert provisioned.returncode == 0, provisioned.stderr
    checked = installed.run("docferry", "check", file, env=stack)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_wheel_rehearses_the_night(installed: Installed) -> None:
    done = installed.run("docferry", "drill")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost" in done.stdout
