"""Who uses MongoDB besides docferry: many short looks at its connections, added up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from docferry.core.cutover.mongodb_clients import Client, ClientsSeen, Doing
from docferry.errors import TransientStoreError, Unavailable
from docferry.flows.kernel.job import Job

EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignReport:
    """Everybody who was seen in `looks` looks within `seconds`; `failed` looks gave nothing, `unseen` are members that were
    not seen at every look."""

    clients: tuple[Client, ...]
    looks: int
    failed: int
    seconds: float
    unseen: tuple[str, ...] = ()

    @property
    def foreign(self) -> tuple[Client, ...]:
        """Those that are not docferry's own library, and that the file does not waive."""
        return tuple(one for one in self.clients if not (one.own or one.waived))

    @property
    def writers(self) -> tuple[Client, ...]:
        """Those of them that were met writing."""
        return tuple(one for one in self.foreign if one.does is Doing.WRITE)

    @property
    def limits(self) -> str:
        """What such looks cannot see."""
        every_ms = 1_000 * self.seconds / max(1, self.looks + self.failed)
        told = (
            f"{self.looks} looks in {self.seconds:.0f} s, one each {every_ms:.0f} ms. An operation or a connection that lived "
            "for less, between two looks, was not seen: `idle` is a client that was never met at work, not one that does nothing."
        )
        if self.failed:
            told += f" {self.failed} more looks were not answered."
        if self.unseen:
            told += f" Not seen at every look: {', '.join(self.unseen)}."
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "clients": [one.to_dict() for one in self.clients],
            "foreign": len(self.foreign),
            "foreign_writers": len(self.writers),
            "looks": self.looks,
            "failed": self.failed,
            "unseen": list(self.unseen),
            "seconds": round(self.seconds, 3),
            "limits": self.limits,
        }

    def render(self) -> str:
        """The report for a person."""
        lines = [_line(one) for one in self.clients] or ["no program but docferry was connected"]
        return "\n".join([*lines, self.limits])


def foreigners(job: Job, for_s: float) -> ForeignReport:
    """Look at MongoDB's connections for so many seconds, or until asked to stop: the report says for how long that was.

    Raises: Unavailable if no look at all was answered; StoreError.
    """
    began = time.monotonic()
    seen, unseen = ClientsSeen(job.migration.cutover), set[str]()
    looks = failed = 0
    last: TransientStoreError | None = None
    while True:
        try:
            look = job.clients.look()
        except TransientStoreError as error:
            failed, last = failed + 1, error
        else:
            seen.add(look.sightings)
            unseen.update(look.unseen)
            looks += 1
        if job.stop.is_set() or time.monotonic() - began + EVERY_S > for_s:
            break
        time.sleep(EVERY_S)
    if not looks:
        raise Unavailable(f"none of {failed} looks at MongoDB's connections was answered: {last}") from last
    return ForeignReport(
        clients=seen.clients(),
        looks=looks,
        failed=failed,
        seconds=time.monotonic() - began,
        unseen=tuple(sorted(unseen)),
    )


def _line(one: Client) -> str:
    known = " (docferry's own library)" if one.own else " (waived in the file)" if one.waived else ""
    where = f" in {', '.join(sorted(one.namespaces)[:5])}" if one.namespaces else ""
    driver = one.driver or "unknown driver"
    who = f"{one.app or 'no appName'}, user {one.user or 'unknown'}, {one.host}, {driver}"
    return f"{one.does.value:<6}{who}: {one.most} connection(s){where}{known}"
