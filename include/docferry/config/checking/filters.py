"""What the form of a file cannot say of a collection's filter: one that not every path could honour."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.core.mapping.document_filter import SERVED, compile_document_filter
from docferry.core.settings import CollectionSettings
from docferry.errors import Problem


def filter_problems(path: Path_, settings: CollectionSettings, lines: Lines) -> Iterator[Problem]:
    """`path` is the collection's."""
    at: Path_ = (*path, "filter")
    if not settings.filter:
        return
    if settings.unmapped == "drop":
        what = "the fields that are not mapped are dropped, so whether a document is in could not be told once DynamoDB leads"
        yield problem_at(lines, at, what, "set unmapped: keep")
    try:
        compile_document_filter(settings.filter)
    except ValueError as error:
        yield problem_at(lines, at, str(error), f"served: {SERVED}")
