"""What an application's process asked for and was told, a JSON line each, so that others can say what must be in the databases.

    {"at": "start", "number": 3, "pid": 4711, "time": 17.2, "wall": 1764014400.1}
    {"at": "begin", "n": 1, "kind": "write", "method": "update_one", "collection": "users", "_id": ..., "query": {...},
     "argument": {"$inc": {"visits": 1}}, "thread": "writer 0", "mode": "DUAL_WRITE", "time": 17.3, "wall": ...}
    {"at": "end", "n": 1, "outcome": "ok", "result": {"matched": 1, "modified": 1}, "mode": "DUAL_WRITE", "time": 17.31, ...}
    {"at": "stop", "counts": {...}, "time": 77.0, "wall": ...}

`time` is the machine's monotonic clock, one for all processes; `wall` seconds since 1970. A `begin` without an `end` is a request
whose outcome is not known: the process was killed. `kind` is write, read, or increment (of a document that all processes
share, named by `counter`), or exchange (of two documents in one transaction, whose `writes` are listed). A write with `refused`
must fail with a DuplicateKeyError; one with `contested`, the name of a field with a unique index, may. Values are MongoDB's
canonical extended JSON.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bson import json_util

from docferry.errors import MigrationError

Document = dict[str, Any]


class HistoryWriter:
    """One process's history. Thread-safe. A line is with the kernel before `begin` or `end` returns: a kill loses none."""

    def __init__(self, path: Path, number: int, mode: Callable[[], str]) -> None:
        """Raises FileExistsError: a history is never written over."""
        self._file = path.open("x", encoding="ascii", buffering=1)
        self._mode, self._lock = mode, threading.Lock()
        self._last = 0
        self._write({"at": "start", "number": number, "pid": os.getpid()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json_util.dumps(
            {**line, "time": time.monotonic(), "wall": time.time()}, json_options=json_util.CANONICAL_JSON_OPTIONS
        )
        with self._lock:
            self._file.write(f"{text}\n")

    def request(self, ask: Callable[[], Any], about: Mapping[str, Any]) -> tuple[Any, str]:
        """Carry out one request between its two lines: (result as it is written down, "") or (None, the error's type)."""
        with self._lock:
            self._last += 1
            number = self._last
        thread = threading.current_thread().name
        self._write({"at": "begin", "n": number, **about, "thread": thread, "mode": self._mode()})
        try:
            result = ask()
        except Exception as error:  # noqa: BLE001 - it is written down, whatever it is
            self._end(number, {"outcome": "failed", **_error(error)})
            return None, type(error).__name__
        self._end(number, {"outcome": "ok", "result": result})
        return result, ""

    def _end(self, number: int, what: Mapping[str, Any]) -> None:
        self._write({"at": "end", "n": number, **what, "mode": self._mode()})

    def stop(self, counts: Mapping[str, int]) -> None:
        """The process has ended of its own accord."""
        self._write({"at": "stop", "counts": dict(counts)})


def summary_of(result: Any) -> Document:
    """What a write's result says."""
    if result is None or isinstance(result, dict):
        return {"document": result}
    if hasattr(result, "inserted_id"):
        return {"inserted": 1}
    if hasattr(result, "deleted_count"):
        return {"deleted": result.deleted_count}
    return {"matched": result.matched_count, "modified": result.modified_count}


def _error(error: Exception) -> Document:
    """Type, code, and docferry's own words; not MongoDB's, which quote the document."""
    code = getattr(error, "code", None)
    words = str(error) if isinstance(error, MigrationError) else ""
    return {"error": type(error).__name__, "code": code if isinstance(code, int) else None, "words": words}
