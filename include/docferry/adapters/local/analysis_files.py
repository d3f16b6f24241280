"""The files that an analysis leaves in a directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from docferry.adapters.local.analysis_state import AnalysisStateFile
from docferry.adapters.local.profiler_note import ProfilerNote
from docferry.core.analyze.report import Report, render_html, render_json, render_markdown
from docferry.errors import ConfigError, Problem

REPORT = "report.html"
PROPOSAL = "migration.yaml"


@dataclass(frozen=True, slots=True)
class AnalysisDirectory:
    """Where an analysis leaves its files. Each is whole or absent: a reader sees the one before until it is complete."""

    path: Path

    def write(self, report: Report, proposal: str) -> dict[str, Path]:
        """The report in its three forms, and the proposed migration file; name -> path. Of an analysis that was not cut short
        nothing else is kept. Raises: ConfigError if the directory cannot be written."""
        made = {
            REPORT: render_html(report),
            "report.md": render_markdown(report),
            "report.json": render_json(report),
            PROPOSAL: proposal,
        }
        written = self.leave(made)
        if not report.facts.stopped_early:
            self.state.forget()
        return written

    @property
    def state(self) -> AnalysisStateFile:
        """By what an analysis goes on that was cut short."""
        return AnalysisStateFile(self.path)

    @property
    def profiler(self) -> ProfilerNote:
        """How MongoDB's profiler was before it was switched on."""
        return ProfilerNote(self.path)

    def leave(self, files: Mapping[str, str]) -> dict[str, Path]:
        """Files by name -> text; name -> path. Raises: ConfigError if the directory cannot be written."""
        return {name: self._write(name, content) for name, content in files.items()}

    def _write(self, name: str, content: str) -> Path:
        path = self.path / name
        beside = path.with_name(f".{name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(content, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            problem = Problem(where=str(self.path), what=f"cannot be written: {error.strerror}")
            raise ConfigError("docferry analyze", [problem]) from error
        return path
