"""What an analysis of source finds: driver calls, as shapes without values. Pure values.

A filter, an update, a projection are Python values in pymongo's form. Where the source has something that only a running program
knows, there is `SOME`: one value of which nothing else is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class _Some:
    __slots__ = ()

    def __repr__(self) -> str:
        return "SOME"


SOME: Final = _Some()
"""A value that is not known. It stands for one value, never for a document of operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverCall:
    """One call of a driver. `method` is pymongo's name of it, `written` the name in the source.

    `collection` None and `filter` None are not known, and `unknown` says why. `options` are pymongo's own. `cursor` are methods
    of the cursor that are more than sort, skip, limit and projection. `of`: "collection", or "database" for one of its methods.
    `documents` are what is inserted, an `update` or a `pipeline` of None is not known or none is given.
    """

    file: str = ""
    line: int = 0
    driver: str = "pymongo"
    written: str = ""
    method: str
    of: str = "collection"
    collection: str | None = None
    filter: Mapping[str, Any] | None = field(default_factory=dict, repr=False)
    update: Any = field(default=None, repr=False)
    projection: Any = field(default=None, repr=False)
    pipeline: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    sort: Sequence[tuple[str, int]] = ()
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cursor: Sequence[str] = ()
    documents: Sequence[Any] = field(default=(), repr=False)
    unknown: str = ""
    calls: int | None = None
    """How often it was seen by the profiler, or counted by the client; None if that is not known."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "(counted)"


class CallVerdict(StrEnum):
    """What becomes of a call."""

    SERVED = "served"
    PATTERN = "needs an access pattern"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCall:
    """A call, and what the client does with it. `modes`: mode -> "served", "counted" (served by MongoDB, counted as what DynamoDB
    could not do) or "refused". `by`: what DynamoDB serves it by. `why` and `advice` are the client's own words."""

    call: DriverCall
    verdict: CallVerdict
    modes: Mapping[str, str] = field(default_factory=dict)
    by: str = ""
    why: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file or directory that was not read, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFindings:
    """All of an application. `passed_over`: files that could not be read; `skipped`: directories that are not its own."""

    directory: str
    files: int
    calls: Sequence[JudgedCall]
    passed_over: Sequence[PassedOver] = ()
    skipped: Sequence[PassedOver] = ()
    judged_by: str = ""
    """Which migration file decided, in words."""

    def count(self, verdict: CallVerdict) -> int:
        return sum(1 for one in self.calls if one.verdict is verdict)
