"""Builds what MWAA, Astronomer and an image for Kubernetes take, in a directory of its own.

    python -m deploy [--to build/dist] [--migrations include/migrations] [--airflow 3.3.2] [--python 3.11]

    docferry-0.1.0-py3-none-any.whl    the library
    mwaa/                              plugins.zip (with the wheel in it), requirements.txt, startup.sh, dags/
    image/                             Dockerfile with all that it copies: apache/airflow, or Astronomer's runtime

Nothing of it is signed or uploaded. docs/deploy.md says what to do with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import click
from docferry.sandbox.airflow import repository

FILES = Path(__file__).parent / "files"
EXTRAS = "docferry[cli,analyze]"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info")
OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file of an archive: the same sources make the same archive."""


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option("--to", default="build/dist", show_default=True, type=click.Path(path_type=Path), help="Made anew.")
@click.option(
    "--migrations",
    default=repository() / "include" / "migrations",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The directory of your migration files; the repository's examples by default.",
)
@click.option("--airflow", default=version("apache-airflow"), show_default=True, help="Airflow's version.")
@click.option("--python", default="3.11", show_default=True, help="The version of Python there.")
def main(to: Path, migrations: Path, airflow: str, python: str) -> None:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    wheel = make_wheel(to)
    words = {
        "@AIRFLOW@": airflow,
        "@PYTHON@": python,
        "@WHEEL@": wheel.name,
        "@DOCFERRY@": f"{EXTRAS}=={version('docferry')}",
    }
    _make_mwaa(to / "mwaa", wheel, migrations, words)
    _make_image(to / "image", wheel, migrations, words)
    print("\n".join(str(path) for path in sorted(to.rglob("*")) if path.is_file() and "dags" not in path.parts))


def make_wheel(to: Path) -> Path:
    """The library's wheel, from a copy: nothing is left behind among the sources."""
    root = repository()
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(root / "include" / "docferry", Path(scratch, "include", "docferry"), ignore=LEFT_OUT)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(root / name, scratch)
        words = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(to.resolve()), scratch)
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return next(to.glob("docferry-*.whl"))


def _make_mwaa(to: Path, wheel: Path, migrations: Path, words: dict[str, str]) -> None:
    """MWAA unpacks plugins.zip into a directory on sys.path, and gives no shell."""
    _copy("dags", to / "dags")
    shutil.copytree(migrations, to / "dags" / "migrations", ignore=LEFT_OUT)
    _write("mwaa-requirements.txt", to / "requirements.txt", words)
    _write("mwaa-startup.sh", to / "startup.sh", words)
    plugins = repository() / "plugins"
    files = {path.relative_to(plugins).as_posix(): path for path in plugins.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if "__pycache__" not in name}
    with zipfile.ZipFile(to / "plugins.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted((files | {wheel.name: wheel}).items()):
            entry = zipfile.ZipInfo(name, OLDEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _make_image(to: Path, wheel: Path, migrations: Path, words: dict[str, str]) -> None:
    _copy("dags", to / "dags")
    _copy("plugins", to / "plugins")
    shutil.copytree(migrations, to / "migrations", ignore=LEFT_OUT)
    shutil.copy(wheel, to)
    _write("image-requirements.txt", to / "requirements.txt", words)
    _write("Dockerfile", to / "Dockerfile", words)


def _copy(name: str, to: Path) -> None:
    shutil.copytree(repository() / name, to, ignore=LEFT_OUT)


def _write(name: str, to: Path, words: dict[str, str]) -> None:
    text = (FILES / name).read_text()
    for word, value in words.items():
        text = text.replace(word, value)
    to.write_text(text)


if __name__ == "__main__":
    main()
