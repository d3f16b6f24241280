"""An application's source in a directory: text files of known languages, within bounds. Nothing is imported or run."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from docferry.core.source.calls import PassedOver
from docferry.errors import ConfigError, Problem
from docferry.ports.analyze import SourceFile

PACKAGES = frozenset({"node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages", "vendor", ".yarn",
                      "__pypackages__"})  # fmt: skip
GENERATED = frozenset({"dist", "build", ".next", ".nuxt", "coverage", "__pycache__", ".tox", ".nox", ".mypy_cache", ".ruff_cache",
                       ".pytest_cache", ".git", ".hg", ".svn", ".svelte-kit", ".turbo", "htmlcov"})  # fmt: skip
ENVIRONMENTS = frozenset({"venv", ".venv", "virtualenv", ".virtualenv", ".env"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBounds:
    """How much of an application is read. Bytes are of one file, and of all of them."""

    files: int = 20_000
    file_bytes: int = 1_000_000
    bytes: int = 200_000_000


class SourceDirectory:
    """SourceTree. Links are not followed."""

    def __init__(self, directory: Path, endings: Collection[str], bounds: SourceBounds | None = None) -> None:
        """Raises ConfigError if it is no directory that can be read."""
        self._root, self._endings, self._bounds = directory, frozenset(endings), bounds or SourceBounds()
        self.directory = str(directory)
        self.passed_over: Sequence[PassedOver] = ()
        self.skipped: Sequence[PassedOver] = ()
        if not directory.is_dir() or not os.access(directory, os.R_OK | os.X_OK):
            raise ConfigError(
                "docferry analyze", [Problem(where=self.directory, what="is no directory that can be read")]
            )

    def __repr__(self) -> str:
        return f"SourceDirectory({self.directory!r})"

    def files(self) -> Iterator[SourceFile]:
        """In the order of their paths, as far as the bounds allow."""
        passed: list[PassedOver] = []
        skipped: list[PassedOver] = []
        self.passed_over, self.skipped = passed, skipped
        number = read = beyond = 0
        for path in self._paths(skipped, passed):
            name = path.relative_to(self._root).as_posix()
            if number >= self._bounds.files or read >= self._bounds.bytes:
                beyond += 1
                continue
            text, why = self._text(path)
            if why:
                passed.append(PassedOver(path=name, why=why))
                continue
            number, read = number + 1, read + len(text)
            yield SourceFile(path=name, text=text)
        if beyond:
            bound = f"{self._bounds.files:,} files or {self._bounds.bytes / 1e6:,.0f} MB"
            passed.append(PassedOver(path=".", why=f"{beyond:,} more files, beyond {bound}"))

    def _paths(self, skipped: list[PassedOver], passed: list[PassedOver]) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            name = os.path.relpath(error.filename or self.directory, self._root)
            passed.append(PassedOver(path=name, why=f"cannot be read: {error.strerror}"))

        for place, directories, names in os.walk(self._root, onerror=unreadable):
            kept = []
            for one in sorted(directories):
                path = Path(place, one)
                why = _not_its_own(path)
                if why:
                    skipped.append(PassedOver(path=path.relative_to(self._root).as_posix(), why=why))
                else:
                    kept.append(one)
            directories[:] = kept
            for one in sorted(names):
                path = Path(place, one)
                if path.suffix in self._endings and not one.endswith(".d.ts") and not path.is_symlink():
                    yield path

    def _text(self, path: Path) -> tuple[str, str]:
        """(the text, why it cannot be read)."""
        try:
            size = path.stat().st_size
            if size > self._bounds.file_bytes:
                return (
                    "",
                    f"{size / 1e6:,.1f} MB: more than {self._bounds.file_bytes / 1e6:,.1f} MB is taken for generated code",
                )
            return path.read_bytes().decode("utf-8-sig"), ""
        except UnicodeDecodeError:
            return "", "is no text in UTF-8"
        except OSError as error:
            return "", f"cannot be read: {error.strerror}"


def _not_its_own(path: Path) -> str:
    """Why a directory is not the application's; '' if it is."""
    if path.is_symlink():
        return "a link"
    if path.name in PACKAGES:
        return "packages of others"
    if path.name in ENVIRONMENTS or (path / "pyvenv.cfg").exists():
        return "a virtual environment"
    return "generated files, caches, or a repository's own" if path.name in GENERATED else ""
