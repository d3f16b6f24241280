"""Switch on the change stream's pre- and post-images, having said what they cost. Idempotent.

MongoDB keeps each document as it was before an update, replace or delete in `config.system.preimages`, on every data-bearing
member, as long as the oplog holds the change; the post-image is made from it when it is asked for (MongoDB's manual: "Change
Streams with Document Pre- and Post-Images"). Without images a change does not tell which keys its document had.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from docferry.config import Migration
from docferry.errors import InvariantBroken
from docferry.flows.preflight.mongodb import require_source
from docferry.flows.preflight.names import require_names
from docferry.ports.flows import Progress, Source


class Switch(StrEnum):
    """What becomes, or has become, of one collection's images."""

    UNCHANGED = "unchanged"
    TO_SWITCH_ON = "to be switched on"
    TO_MAKE = "to be made, empty, with images"
    SWITCHED_ON = "switched on"
    MADE = "made, empty, with images"


_DONE = {Switch.TO_SWITCH_ON: Switch.SWITCHED_ON, Switch.TO_MAKE: Switch.MADE}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionImages:
    """One collection; `document_bytes` is its average document: what one change keeps, before compression."""

    collection: str
    switch: Switch
    document_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesReport:
    """What was done (in a dry run: would be), and what images cost: each is kept for `kept_s`.

    `changes_per_s` counts documents updated and deleted, in all databases, since the primary started; None: not to be seen.
    """

    collections: tuple[CollectionImages, ...]
    kept_s: float
    changes_per_s: float | None
    dry_run: bool = False

    @property
    def changed_anything(self) -> bool:
        return any(one.switch in _DONE.values() for one in self.collections)

    @property
    def most_bytes(self) -> float | None:
        """At most so much on each member: as if every change met the collection with the largest documents."""
        if self.changes_per_s is None:
            return None
        return self.changes_per_s * self.kept_s * max((one.document_bytes for one in self.collections), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {
            "collections": {one.collection: one.switch.value for one in self.collections},
            "changed_anything": self.changed_anything,
            "most_bytes": self.most_bytes,
        }


def switch_images_on(
    migration: Migration, source: Source, *, dry_run: bool = False, progress: Progress
) -> ImagesReport:
    """Every collection of the file that has no images gets them; one that is missing is made, empty.

    Only changes made from then on have images. `progress` is told the cost before anything is changed.
    Raises: PreflightFailed (what `check` finds), before anything was touched; StoreError.
    """
    require_source(migration, source)
    require_names(migration, source)
    report = _plan(migration, source, dry_run)
    if dry_run or all(one.switch is Switch.UNCHANGED for one in report.collections):
        return report
    for line in render_images(report).splitlines():
        progress.say(line)
    return replace(report, collections=tuple(_switch(one, source) for one in report.collections))


def _plan(migration: Migration, source: Source, dry_run: bool) -> ImagesReport:
    collections = []
    for facts in source.facts_of([settings.name for settings in migration.collections]):
        switch = Switch.TO_MAKE if facts.kind == "missing" else Switch.TO_SWITCH_ON
        collections.append(
            CollectionImages(
                collection=facts.name,
                switch=Switch.UNCHANGED if facts.images else switch,
                document_bytes=facts.average_bytes,
            )
        )
    expire, window = source.expire_images_after_s(), source.oplog_window_s()
    return ImagesReport(
        collections=tuple(collections),
        kept_s=window if expire is None else min(expire, window),
        changes_per_s=source.changes_per_s(),
        dry_run=dry_run,
    )


def _switch(one: CollectionImages, source: Source) -> CollectionImages:
    if one.switch not in _DONE:
        return one
    source.enable_images(one.collection)
    if not source.collection_facts(one.collection).images:
        raise InvariantBroken(f"{one.collection}: MongoDB accepted change stream images, and does not show them")
    return replace(one, switch=_DONE[one.switch])


def render_images(report: ImagesReport) -> str:
    """The report for people: + is done, and what it costs."""
    changed = [one for one in report.collections if one.switch is not Switch.UNCHANGED]
    if not changed:
        return "change stream images: on for every collection"
    lines = [
        f"+ collection {one.collection}: change stream images {one.switch}"
        + (f"; a change keeps about {one.document_bytes:,.0f} bytes" if one.document_bytes else "")
        for one in changed
    ]
    return "\n".join([*lines, f"  note: {_cost(report)}"])


def _cost(report: ImagesReport) -> str:
    kept = (
        "every update, replace and delete keeps the document as it was, on each data-bearing member, as long as the oplog "
        f"holds the change (now {report.kept_s / 3600:,.1f} h)"
    )
    if report.most_bytes is None:
        return f"{kept}; how many changes there are could not be seen (serverStatus needs clusterMonitor)"
    return (
        f"{kept}: at most {report.most_bytes / 1e9:,.2f} GB before compression, at {report.changes_per_s:,.1f} changes a second "
        "in all databases since the primary started"
    )
