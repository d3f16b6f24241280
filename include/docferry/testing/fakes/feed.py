"""A change stream over the events of a FakeSource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bson
from bson.timestamp import Timestamp

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.references import fields_of
from docferry.core.mapping.key_templates import MISSING, lookup
from docferry.core.mapping.mapping import KeyFields
from docferry.errors import (
    StreamEnded,
)
from docferry.ports.flows import (
    Batch,
    ChangeEvent,
    OthersBatch,
    OthersWrite,
    StreamPosition,
)

if TYPE_CHECKING:
    from docferry.testing.fakes.source import FakeSource


ENDING = frozenset({"drop", "rename", "dropDatabase", "invalidate"})


@dataclass(frozen=True, slots=True)
class FakeEvent:
    """One event of FakeSource; `n` is its place among those of its time."""

    collection: str
    operation: str
    id: bytes
    before: bytes | None
    after: bytes | None
    time: Timestamp
    n: int
    touched: tuple[str, ...] | None = None
    images_lost: bool = False
    has_images: bool = True
    to: str = ""


class FakeFeed:
    """Feed over a FakeSource's events."""

    def __init__(self, source: FakeSource, behind: int, key_fields: Mapping[str, KeyFields]) -> None:
        self._source, self._behind, self._key_fields = source, behind, key_fields

    def close(self) -> None:
        """Nothing to give back."""

    def read(self, wait_s: float) -> Batch:
        source = self._source
        source.faults.before()
        changes: list[ChangeEvent] = []
        while self._behind < len(source._events) and len(changes) < source.batch_events:
            event = source._events[self._behind]
            position = source._position(event.time, self._behind + 1)
            ended = self._ended(event, position)
            if ended is not None and changes:
                break  # what was read before is given first
            self._behind += 1
            if ended is not None:
                raise ended
            if event.collection in self._key_fields and event.operation not in ENDING:
                changes.append(self._change(event, position))
        time = source._now if self._behind == len(source._events) else source._events[self._behind - 1].time
        return Batch(changes, source._position(time, self._behind))

    def _ended(self, event: FakeEvent, position: StreamPosition) -> StreamEnded | None:
        """What an event that cannot be followed over is told as."""
        named = tuple(name for name in (event.collection, event.to) if name in self._key_fields)
        whole = event.operation in ("dropDatabase", "invalidate")
        lost = not event.has_images and event.operation != "insert"
        if not whole and not (named and (event.operation in ENDING or lost)):
            return None
        reason = event.operation if event.operation in ENDING else "images_missing"
        text = f"{', '.join(named) or 'all'}: {reason}; it needs a new load"
        return StreamEnded(text, reason=reason, collections=named, position=position)

    def _change(self, event: FakeEvent, position: StreamPosition) -> ChangeEvent:
        fields = self._key_fields[event.collection]
        return ChangeEvent(
            collection=event.collection,
            operation=event.operation,
            id=event.id,
            time=event.time,
            n=event.n,
            before=None if event.before is None else reduced(event.before, fields),
            after=None if event.images_lost else event.after,
            touched=None if event.images_lost else event.touched,
            images_lost=event.images_lost,
            position=position,
        )


class FakeOthers:
    """OthersFeed over what `FakeSource.write_as_other` wrote."""

    def __init__(self, source: FakeSource, since: Timestamp, collections: Sequence[str]) -> None:
        self._source, self._since, self._names = source, since, frozenset(collections)
        self._given = 0

    def close(self) -> None:
        """Nothing to give back."""

    def read(self, wait_s: float) -> OthersBatch:
        source = self._source
        source.faults.before()
        written: list[OthersWrite] = source.others[self._given :]
        self._given += len(written)
        found = [one for one in written if one.time >= self._since and one.collection in self._names]
        return OthersBatch(found, source.stream_position())


def reduced(document: bytes, fields: KeyFields) -> bytes:
    """What a server leaves of a pre-image: the fields of keys."""
    whole = bson.decode(document, BSON_OPTIONS)
    kept: dict[str, Any] = {"_id": whole["_id"]}
    for path in fields.root:
        _keep(kept, whole, path.split("."))
    for path, inner in fields.children.items():
        elements = lookup(whole, tuple(path.split(".")))
        if isinstance(elements, list):
            _put(kept, path.split("."), [_kept_of(element, inner) for element in elements])
    kept |= {name: whole[name] for name in fields.whole if name in whole}
    return bson.encode(kept)


def _kept_of(element: Any, names: Sequence[str]) -> Any:
    fields = fields_of(element)
    if fields is None:
        return 0
    kept: dict[str, Any] = {}
    for name in names:
        _keep(kept, fields, name.split("."))
    return kept


def _keep(kept: dict[str, Any], whole: Mapping[str, Any], path: Sequence[str]) -> None:
    value = lookup(whole, tuple(path))
    if value is not MISSING:
        _put(kept, path, value)


def _put(kept: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        kept = kept.setdefault(step, {})
    kept[path[-1]] = value
