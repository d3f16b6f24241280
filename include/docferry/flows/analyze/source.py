"""The application's source: its driver calls, and what becomes of each. Reads files, and nothing else."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from docferry.core.analyze.facts import QueryShape
from docferry.core.source.calls import DriverCall, JudgedCall, PassedOver, SourceFindings
from docferry.core.source.program.finding import find_calls
from docferry.core.source.program.syntax import Program
from docferry.core.source.shapes import call_of_shape, seen_of
from docferry.errors import ConfigError, Problem, Stopped
from docferry.ports.analyze import SourceParser, SourceTree
from docferry.ports.flows import Progress, StopSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScan:
    """What it needs. `parsers`: a file's ending -> what reads it. `seen`: shapes that a profiler or a log has."""

    tree: SourceTree
    parsers: Mapping[str, SourceParser]
    progress: Progress
    stop: StopSignal
    seen: Sequence[QueryShape] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCalls:
    """The calls, not judged yet."""

    directory: str
    files: int
    calls: Sequence[DriverCall]
    passed_over: Sequence[PassedOver]
    skipped: Sequence[PassedOver]

    def judged(self, judge: Callable[[DriverCall], JudgedCall], by: str) -> SourceFindings:
        """What becomes of each; `by` says in words which migration file decides."""
        return SourceFindings(
            directory=self.directory,
            files=self.files,
            calls=tuple(judge(one) for one in self.calls),
            passed_over=self.passed_over,
            skipped=self.skipped,
            judged_by=by,
        )


def read_source(scan: SourceScan) -> SourceCalls:
    """The driver calls of an application, by file and line; behind them shapes that were seen and are in no file.

    Raises: Stopped; ConfigError if the directory has no file of a language that is read.
    """
    scan.progress.say(f"reading the source in {scan.tree.directory}: nothing of it is run")
    programs: list[Program] = []
    broken: list[PassedOver] = []
    for file in scan.tree.files():
        if scan.stop.is_set():
            raise Stopped("the source was not read to its end")
        parse = scan.parsers[os.path.splitext(file.path)[1]]
        try:
            programs.append(parse(file.path, file.text))
        except SyntaxError as error:
            broken.append(PassedOver(path=file.path, why=f"cannot be parsed: {error.msg}, line {error.lineno}"))
        except (ValueError, RecursionError) as error:
            broken.append(PassedOver(path=file.path, why=f"cannot be parsed: {type(error).__name__}"))
    if not programs and not broken:
        endings = ", ".join(sorted(scan.parsers))
        raise ConfigError(
            "docferry analyze", [Problem(where=scan.tree.directory, what=f"has no file of the application ({endings})")]
        )
    calls, cut = find_calls(programs)
    counted, others = seen_of(calls, scan.seen)
    broken += [PassedOver(path=one.path, why=one.trouble) for one in programs if one.trouble]
    return SourceCalls(
        directory=scan.tree.directory,
        files=len(programs) + len(broken),
        calls=[*counted, *map(call_of_shape, others)],
        passed_over=[*scan.tree.passed_over, *broken, *cut],
        skipped=scan.tree.skipped,
    )
