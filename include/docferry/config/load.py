"""Reads a migration file into frozen settings. Every problem is reported at once, with its line and a suggestion.

The file holds no secret (connections are names) and is never evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from docferry.config.build import Migration, build
from docferry.config.checking.mappings import MappingChecker
from docferry.config.checking.settings import SettingsChecker
from docferry.config.schema import MigrationFile, follows, read_schema
from docferry.config.yaml_lines import Lines, read_yaml
from docferry.errors import ConfigError, Problem


def load_migration(path: str | Path) -> Migration:
    """Read a migration file. Raises ConfigError with all its problems; nothing but the file is touched."""
    source = str(path)
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(source, [Problem(where="file", what=f"cannot be read: {error.strerror}")]) from error
    return parse_migration(text, source)


def parse_migration(text: bytes, source: str = "<migration>") -> Migration:
    """The same from the file's bytes."""
    tree, lines, problems = read_yaml(text, source)
    if tree is None:
        raise ConfigError(source, problems)
    file, of_form, cut = read_schema(tree, lines)
    problems += of_form
    if file is not None:
        problems += [problem for problem in _check_file(file, lines) if not follows(problem, cut)]
    if problems or file is None:
        raise ConfigError(source, sorted(problems, key=lambda problem: problem.line or 0))
    return build(file, source, hashlib.sha256(text).hexdigest()[:16])


def _check_file(file: MigrationFile, lines: Lines) -> list[Problem]:
    found = SettingsChecker(file, lines).problems()
    return found + MappingChecker(file, lines).problems(sound=not found)


def migration_files(directories: Sequence[str | Path]) -> list[Path]:
    """The migration files in some directories, by name; other files are left alone."""
    found = {path.resolve() for directory in directories for path in Path(directory).glob("*.y*ml")}
    return sorted(found)
