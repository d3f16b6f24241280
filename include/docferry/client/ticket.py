"""A write that has begun, and the block in which it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType

from docferry.core.cutover.modes import ModeState


@dataclass(frozen=True, slots=True)
class WriteTicket:
    """A write that has begun, under the lease of that `term`. `alone`: the ledger is out of reach, MongoDB is written and
    nothing else. `revision`: of the mode's record, as it was last seen."""

    state: ModeState
    alone: bool = False
    term: int = 0
    revision: int = 0


CARRIED_OUT: ContextVar[WriteTicket | None] = ContextVar("docferry_carried_out", default=None)
"""The write that is carried out in this thread or task: its signatures are guarded."""


class Writing:
    """The block in which a write that has begun is carried out; `ended` is told of its end, if it was counted as in flight."""

    __slots__ = ("_begun", "_ended", "_token")

    def __init__(self, begun: WriteTicket, ended: Callable[[WriteTicket], None]) -> None:
        self._begun, self._ended = begun, ended

    def __enter__(self) -> ModeState:
        self._token = CARRIED_OUT.set(self._begun)
        return self._begun.state

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        CARRIED_OUT.reset(self._token)
        if not self._begun.alone:
            self._ended(self._begun)
