"""What an analysis asks of the outside world: MongoDB, read only, sketches, and an application's source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from docferry.core.analyze.state import AnalysisRun, FinishedCollection
from docferry.core.source.calls import PassedOver
from docferry.core.source.program.syntax import Program


class Distinct(Protocol):
    """How many different values there are, roughly, in little memory."""

    def add(self, value: bytes) -> None: ...

    def estimate(self) -> float: ...


class Heavy(Protocol):
    """The most frequent values, each with a lower bound of how often it came."""

    def add(self, value: str) -> None: ...

    def top(self, most: int) -> Sequence[tuple[str, int]]: ...


class Quantiles(Protocol):
    """A distribution of numbers."""

    def add(self, value: float) -> None: ...

    def at(self, share: float) -> float: ...

    @property
    def count(self) -> int: ...

    @property
    def max(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketches:
    """How sketches are made."""

    distinct: Callable[[], Distinct]
    heavy: Callable[[], Heavy]
    quantiles: Callable[[], Quantiles]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerLevel:
    """How the profiler of a database was set."""

    database: str
    level: int


class ProfilerMemory(Protocol):
    """How the profiler was before it was switched on, remembered by more than this process. Raises ConfigError."""

    def read(self) -> ProfilerLevel | None: ...

    def keep(self, was: ProfilerLevel) -> None: ...

    def forget(self) -> None: ...


class AnalysisState(Protocol):
    """Where finished collections outlive the process. Raises ConfigError if it cannot be written."""

    def read(self) -> tuple[AnalysisRun, list[FinishedCollection]] | None:
        """What an earlier run has left, whichever it was; None if there is nothing that can be read."""

    def begin(self, run: AnalysisRun, finished: list[FinishedCollection]) -> None:
        """Forget everything else, and keep this."""

    def keep(self, one: FinishedCollection) -> None:
        """One more collection, at once."""

    def forget(self) -> None:
        """The analysis is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Documents of `collection` whose `path` holds `field` of the documents that are asked for."""

    collection: str
    path: str
    field: str


class AnalysisSource(Protocol):
    """MongoDB for an analysis. Reads only, secondary preferred. Each method raises AccessDenied where the user may not."""

    def server(self) -> str:
        """The server's version and kind, in words."""

    def collections(self) -> Sequence[Mapping[str, Any]]:
        """`listCollections` entries: name, type, options. System collections are left out."""

    def stats(self, collection: str) -> Mapping[str, Any]:
        """`collStats`: count, avgObjSize, storageSize, totalIndexSize."""

    def indexes(self, collection: str) -> Sequence[Mapping[str, Any]]:
        """`listIndexes` entries."""

    def index_uses(self, collection: str) -> Mapping[str, tuple[int, str]]:
        """`$indexStats`: index name -> (uses, since when)."""

    def latencies(self, collection: str) -> Mapping[str, tuple[int, float]]:
        """`$collStats` latencyStats: reads, writes, commands -> (operations, mean milliseconds), since the server started."""

    def uptime_s(self) -> float: ...

    def sample(self, collection: str, documents: int, count: int) -> Iterator[Sequence[bytes]]:
        """Pages of raw documents: all of them if there are no more than asked for, else a random sample."""

    def found(self, collection: str, path: str, values: Sequence[Any]) -> int:
        """How many of these values some document of the collection has at that path."""

    def fan_out(self, collection: str, path: str, value: Any, most: int) -> int:
        """How many documents have that value at that path, counted up to `most`."""

    def fan_outs(self, collection: str, path: str, values: Sequence[Any]) -> list[int]:
        """How many documents have each of these values at that path, those that there are: one pass over the collection."""

    def repeated(self, collection: str, path: str, most: int) -> int:
        """How many values of a field are in more than one document, counted up to `most`."""

    def profiler(self) -> int:
        """The profiler's level for this database: 0 off, 1 slow calls, 2 all."""

    def set_profiler(self, level: int) -> None:
        """The one thing that an analysis changes, and only on request."""

    def profiled(self) -> Iterator[Mapping[str, Any]]:
        """`system.profile` entries of this database, newest first, a bounded number."""

    def running(self) -> Sequence[Mapping[str, Any]]:
        """One `$currentOp` sample of this database's operations."""

    def ping_ms(self) -> float:
        """How long the server takes for a ping now."""

    def find_ids(
        self, collection: str, query: Mapping[str, Any], sort: Sequence[tuple[str, int]], limit: int
    ) -> tuple[list[Any], float]:
        """The `_id` of each document that a query gives, which are read whole; and seconds."""

    def count_related(
        self, collection: str, query: Mapping[str, Any], related: Related, limit: int
    ) -> tuple[dict[Any, int], float]:
        """For each document that a query gives, by `_id`, how many of another collection lead to it ($lookup); and seconds."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of an application. `path` is relative to the directory that is looked at, with `/`."""

    path: str
    text: str = field(repr=False)


class SourceTree(Protocol):
    """An application's source, read only. What it passes over is known once `files` has been read to its end."""

    directory: str
    passed_over: Sequence[PassedOver]
    """Files that could not be read, or are beyond a bound."""
    skipped: Sequence[PassedOver]
    """Directories of packages and of generated files."""

    def files(self) -> Iterator[SourceFile]: ...


class SourceParser(Protocol):
    """Makes a program of a file, without running or importing anything."""

    def __call__(self, path: str, text: str) -> Program:
        """Raises SyntaxError, ValueError or RecursionError for what cannot be read."""
