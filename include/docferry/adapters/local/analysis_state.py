"""The file by which an analysis goes on where an earlier run of it was cut short."""

from __future__ import annotations

from pathlib import Path

from docferry.core.analyze.state import AnalysisRun, FinishedCollection, decode_lines, encode_finished, encode_run
from docferry.errors import ConfigError, Problem

FILE = "analysis-state.jsonl"


class AnalysisStateFile:
    """`ports.analyze.AnalysisState` in the directory of the report."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def __repr__(self) -> str:
        return f"AnalysisStateFile({str(self._path)!r})"

    def read(self) -> tuple[AnalysisRun, list[FinishedCollection]] | None:
        try:
            return decode_lines(self._path.read_text(encoding="utf-8", errors="replace").splitlines())
        except FileNotFoundError:
            return None

    def begin(self, run: AnalysisRun, finished: list[FinishedCollection]) -> None:
        beside = self._path.with_name(f".{FILE}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text("".join(f"{line}\n" for line in (encode_run(run), *map(encode_finished, finished))))
            beside.replace(self._path)
        except OSError as error:
            raise self._refused(error) from error

    def keep(self, one: FinishedCollection) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(encode_finished(one) + "\n")
        except OSError as error:
            raise self._refused(error) from error

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> ConfigError:
        problem = Problem(where=str(self._path.parent), what=f"cannot be written: {error.strerror}")
        return ConfigError("docferry analyze", [problem])
