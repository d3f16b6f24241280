"""How long the stream position, and the images behind it, will still be there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from bson.timestamp import Timestamp

from docferry.ports.flows import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How long the position, and the images behind it, will still be there if nothing more is applied, in seconds.

    `images_s` None: images do not expire by time. A position is in danger once half of a window is used up.
    """

    oplog_s: float
    oplog_left_s: float
    images_s: float | None
    images_left_s: float | None

    @property
    def in_danger(self) -> bool:
        images = self.images_s is not None and (self.images_left_s or 0.0) < self.images_s / 2
        return images or self.oplog_left_s < self.oplog_s / 2

    def to_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"in_danger": self.in_danger}


def windows_of(source: Source, applied: Timestamp) -> Windows:
    """How much of the oplog's and the images' windows lies in front of a position."""
    first, last = source.oplog_reach()
    expire, window = source.expire_images_after_s(), source.oplog_window_s()
    behind = float(last.time - applied.time)
    return Windows(
        oplog_s=max(window, 1.0),
        oplog_left_s=max(0.0, window - behind) if applied >= first else 0.0,
        images_s=expire,
        images_left_s=None if expire is None else max(0.0, expire - behind),
    )
