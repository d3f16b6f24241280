"""How MongoDB's profiler was set before an analysis switched it on: a file that outlives a killed process."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from docferry.errors import ConfigError, Problem
from docferry.ports.analyze import ProfilerLevel

FILE = "profiler-was.json"


class ProfilerNote:
    """`ports.analyze.ProfilerMemory` in a directory. It is there before the profiler is switched on."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def __repr__(self) -> str:
        return f"ProfilerNote({str(self._path)!r})"

    def read(self) -> ProfilerLevel | None:
        try:
            return ProfilerLevel(**json.loads(self._path.read_text()))
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as error:
            what, advice = "is not as it was written", "look at db.getProfilingStatus(), set it, and remove the file"
            raise ConfigError(
                "docferry analyze", [Problem(where=str(self._path), what=what, suggestion=advice)]
            ) from error

    def keep(self, was: ProfilerLevel) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(asdict(was)))
        except OSError as error:
            problem = Problem(where=str(self._path.parent), what=f"cannot be written: {error.strerror}")
            raise ConfigError("docferry analyze", [problem]) from error

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
