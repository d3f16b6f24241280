"""Which scratch tables a proof has made or was about to make: a file that outlives a killed process."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docferry.errors import ConfigError, PreflightFailed, Problem

FILE = "scratch-tables.json"


class ScratchManifest:
    """`ports.proof.Manifest` in a directory. A name is in the file before its table is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        return f"ScratchManifest({str(self._directory)!r})"

    @contextmanager
    def held(self) -> Iterator[None]:
        """For one process at a time; the lock goes with the process, however that ends.

        Raises: PreflightFailed while another process proves there; ConfigError if the directory cannot be written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = (self._directory / f".{FILE}.lock").open("w")
        except OSError as error:
            problem = Problem(where=str(self._directory), what=f"cannot be written: {error.strerror}")
            raise ConfigError("docferry analyze", [problem]) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                what, advice = (
                    "another process proves a model there",
                    "wait for its end, or take another directory (--out)",
                )
                problem = Problem(where=str(self._directory), what=what, suggestion=advice)
                raise PreflightFailed("docferry analyze --prove", [problem]) from error
            yield

    def names(self) -> dict[str, float]:
        """Table -> when it was asked for, in seconds since 1970."""
        try:
            return {str(name): float(at) for name, at in json.loads((self._directory / FILE).read_text()).items()}
        except FileNotFoundError:
            return {}

    def keep(self, names: dict[str, float]) -> None:
        """Replace the file's content; it is on the disk when this returns. Without names there is no file."""
        path = self._directory / FILE
        if not names:
            path.unlink(missing_ok=True)
            return
        beside = path.with_name(f".{FILE}.new")
        with beside.open("w") as file:
            json.dump(names, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
