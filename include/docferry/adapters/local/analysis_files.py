"""The files that an analysis leaves in a directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from docferry.core.analyze.report import Report, render_html, render_json, render_markdown
from docferry.errors import ConfigError, Problem

REPORT = "report.html"
PROPOSAL = "migration.yaml"


@dataclass(frozen=True, slots=True)
class AnalysisDirectory:
    """Where an analysis leaves its files. Each is whole or absent: a reader sees the one before until it is complete."""

    path: Path

    def write(self, report: Report, proposal: str) -> dict[str, Path]:
        """The report in its three forms, and the proposed migration file; name -> path. Raises: ConfigError if the directory
        cannot be written."""
        made = {
            REPORT: render_html(report),
            "report.md": render_markdown(report),
            "report.json": render_json(report),
            PROPOSAL: proposal,
        }
        return self.leave(made)

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
