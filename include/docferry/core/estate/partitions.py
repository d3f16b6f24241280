"""Partitions that would take more of a load's writes than a partition takes. Pure.

What is written to an index is written to the partition of its key: where a tenth of the documents is `STATUS#active`, a tenth of
the writes meets there. DynamoDB may split such a partition by its sort key in time; a load does not wait for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.limits import PARTITION_WRU_PER_S, item_bytes, item_write_units, write_units
from docferry.core.settings import CollectionSettings

LEAST_SEEN = 10
"""So many sampled documents in a partition tell of it: fewer are chance, or a small collection."""


@dataclass(frozen=True, slots=True)
class HotPartition:
    """The partition, of the table (`index` "") or of an index, with the greatest share of all write units; its key's template."""

    index: str
    template: str
    share: float

    @property
    def most_wcu(self) -> float:
        """At this rate of the whole load the partition has as much as it takes."""
        return PARTITION_WRU_PER_S / self.share

    def is_hot(self, rate: float) -> bool:
        """Whether a load at that rate, in units a second with indexes, must be slower for it. 0 is a rate without a limit."""
        return rate == 0 or self.share * rate > PARTITION_WRU_PER_S

    def text(self, rate: float) -> str:
        """For a person; no value of a document."""
        place = f"index {self.index}" if self.index else "the table"
        met = f"{self.share * rate:,.0f} WCU/s of {rate:,.0f}" if rate else "that share of what is written"
        return (
            f"one partition of {place} ({self.template}) has {self.share:.0%} of the writes: {met}, where a partition takes "
            f"{PARTITION_WRU_PER_S:,}"
        )


def hottest(settings: CollectionSettings, documents: Iterable[Sequence[Mapping[str, Any]]]) -> HotPartition | None:
    """Of a sample's documents, each as its items; None where no partition stands out."""
    units: Counter[tuple[str, str]] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    total = 0
    for items in documents:
        places: set[tuple[str, str]] = set()
        for item in map(dict, items):
            each = write_units(item_bytes(item))
            total += item_write_units(item)
            for name, value in item.items():
                if name.endswith("PK") and "S" in value:
                    place = name.removesuffix("PK"), value["S"]
                    units[place] += each
                    places.add(place)
        seen.update(places)
    found = [(units[place] / total, place[0]) for place, count in seen.items() if count >= LEAST_SEEN]
    if not found:
        return None
    share, index = max(found)
    return HotPartition(index, _template(settings, index), share)


def _template(settings: CollectionSettings, index: str) -> str:
    kinds = (settings.item, *settings.children.values())
    templates = [one.index.get(index, {}).get("PK") if index else one.key.get("PK") for one in kinds]
    return " or ".join(dict.fromkeys(one for one in templates if one)) or "its key"
