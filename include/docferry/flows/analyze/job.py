"""What an analysis needs, and what it was not allowed to ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from docferry.core.analyze.facts import MissingFact, QueryShape
from docferry.core.namespaces import Namespaces
from docferry.errors import AccessDenied, RequestRefused
from docferry.flows.analyze.budget import ReadBudget
from docferry.ports.analyze import AnalysisSource, AnalysisState, ProfilerMemory, Sketches
from docferry.ports.flows import Progress, StopSignal

T = TypeVar("T")
GRANT = "db.grantRolesToUser('<user>', [{role: 'clusterMonitor', db: 'admin'}])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What an analysis needs. `collections`: only these; empty: all. `elsewhere`: those of other databases than `database`."""

    database: str
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    source: AnalysisSource
    sketches: Sketches
    progress: Progress
    stop: StopSignal
    collections: Sequence[str] = ()
    budget: ReadBudget = field(default_factory=ReadBudget)
    state: AnalysisState | None = None
    """Where finished collections are kept; None: an analysis that is cut short begins anew."""
    profiler: ProfilerMemory | None = None
    profile_s: float = 0.0
    """For so long the profiler is switched on first; 0: it is left as it is."""
    shapes: Sequence[QueryShape] = ()
    """Shapes from elsewhere: logs that were given as files."""

    @property
    def where(self) -> Namespaces:
        return Namespaces(self.database, self.elsewhere)


class Missing:
    """Sources of facts that this user may not use, each once."""

    def __init__(self) -> None:
        self.facts: dict[str, MissingFact] = {}

    def ask(self, source: str, adds: str, grant: str, call: Callable[[], T], otherwise: Any) -> T:
        """What `call` gives; `otherwise`, and a note, where the server says no."""
        try:
            return call()
        except (AccessDenied, RequestRefused) as error:
            reason = "no permission" if isinstance(error, AccessDenied) else f"refused ({error.code})"
            self.facts.setdefault(source, MissingFact(source=source, adds=adds, grant=grant, reason=reason))
            empty: T = otherwise
            return empty
