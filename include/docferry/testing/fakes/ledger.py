"""The ledger in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from copy import copy
from decimal import Decimal
from typing import Any

from docferry.core.bson_codec.plain import from_plain, to_plain
from docferry.core.limits import ITEM_BYTES
from docferry.errors import ConditionFailed, RequestRefused
from docferry.ports.flows import (
    Record,
)
from docferry.testing.fakes.faults import Faults


class FakeLedger:
    """Ledger in memory. A revision is never given twice for one key, not even after a delete.

    `beside`: the ledger of another migration in the same table; what is of a table of DynamoDB, both see.
    """

    def __init__(self, beside: FakeLedger | None = None) -> None:
        self.faults = Faults()
        self._tables: dict[str, FakeLedger] = beside._tables if beside is not None else {}
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], Record] = {}
        self._last: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"FakeLedger({len(self._records)} records)"

    def read(self, section: str, key: str) -> Record | None:
        self.faults.before()
        with self._lock:
            return _copy(self._records.get((section, key)))

    def glance(self, section: str, key: str) -> Record | None:
        return self.read(section, key)

    def list(self, section: str, prefix: str = "") -> list[Record]:
        self.faults.before()
        with self._lock:
            found = [record for record in self._records.values() if record.section == section]
        matching = [copied for record in found if record.key.startswith(prefix) and (copied := _copy(record))]
        return sorted(matching, key=lambda record: record.key.encode())

    def write(
        self,
        section: str,
        key: str,
        body: Mapping[str, Any],
        *,
        expect: Record | None,
        unchanged: Sequence[Record] = (),
        beside: Sequence[Record] = (),
    ) -> Record:
        self.faults.before()
        place = (section, key)
        with self._lock:
            self._require(place, expect)
            for one in unchanged:
                self._require((one.section, one.key), one)
            for one in beside:
                self._require((one.section, one.key), None)
            for one in beside:
                made = (one.section, one.key)
                self._last[made] = self._last.get(made, 0) + 1
                self._records[made] = Record(one.section, one.key, self._last[made], _stored(one.body))
            _refuse_what_is_too_large([body, *(one.body for one in beside)])
            self._last[place] = self._last.get(place, 0) + 1
            record = Record(section, key, self._last[place], _stored(body))
            self._records[place] = record
        self.faults.after()
        return Record(section, key, record.revision, dict(body))

    def of_table(self, table: str) -> FakeLedger:
        view = copy(self._tables.setdefault(table, FakeLedger()))
        view.faults = self.faults
        return view

    def delete(self, record: Record) -> None:
        self.faults.before()
        place = (record.section, record.key)
        with self._lock:
            self._require(place, record)
            del self._records[place]
        self.faults.after()

    def _require(self, place: tuple[str, str], expect: Record | None) -> None:
        current = self._records.get(place)
        if (current and current.revision) != (expect and expect.revision):
            text = f"the record {'/'.join(place)} is not as expected"
            raise ConditionFailed(text, operation="write", code="ConditionalCheckFailedException")


def _refuse_what_is_too_large(bodies: Sequence[Mapping[str, Any]]) -> None:
    """A record is one item."""
    if any(_bytes_of(body) > ITEM_BYTES for body in bodies):
        text = "ledger PutItem: Item size has exceeded the maximum allowed size"
        raise RequestRefused(text, operation="ledger PutItem", code="ValidationException")


def _bytes_of(value: Any) -> int:
    """About what DynamoDB counts."""
    if isinstance(value, Mapping):
        return sum(len(name.encode()) + _bytes_of(inner) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return sum(1 + _bytes_of(inner) for inner in value)
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8


def _copy(record: Record | None) -> Record | None:
    return Record(record.section, record.key, record.revision, _stored(record.body)) if record else None


def _stored(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body as DynamoDB gives it back: a copy, tuples as lists, whole numbers as int; floats are refused."""
    found: Mapping[str, Any] = _whole(to_plain(from_plain(dict(body))))
    return found


def _whole(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value
