"""The files of rollback points in a directory."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from docferry.errors import AccessDenied, PermanentStoreError

READ_BYTES = 1_000_000
_UNFINISHED = ".unfinished"


class DirectoryFiles:
    """PointFiles below `<root>/<migration>`; only the user who runs this can read them (modes 700 and 600)."""

    def __init__(self, root: str, migration: str) -> None:
        self._root = Path(root) / migration

    def __repr__(self) -> str:
        return f"DirectoryFiles({str(self._root)!r})"

    def place(self, point: str) -> str:
        return str(self._root / point)

    def write(self, point: str, name: str, chunks: Iterable[bytes]) -> None:
        path = self._unfinished(point) / name
        with _file_errors(f"write {path}"):
            self._unfinished(point).mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        descriptor = _opened(partial)
        with open(descriptor, "wb") as file:
            for chunk in chunks:  # outside of `_file_errors`: what the chunks come from has errors of its own
                with _file_errors(f"write {path}"):
                    file.write(chunk)
            with _file_errors(f"write {path}"):
                file.flush()
                os.fsync(file.fileno())
        with _file_errors(f"write {path}"):
            partial.rename(path)
            _sync_directory(path.parent)

    def finish(self, point: str) -> None:
        unfinished = self._unfinished(point)
        with _file_errors(f"rename {unfinished}"):
            unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_directory(unfinished)
            unfinished.rename(self._root / point)
            for directory in (self._root, self._root.parent):
                _sync_directory(directory)

    def size(self, point: str, name: str) -> int | None:
        with _file_errors(f"look at {name} of {point}"):
            path = self._path(point, name)
            return path.stat().st_size if path.is_file() else None

    def read(self, point: str, name: str) -> Iterator[bytes]:
        path = self._path(point, name)
        with _file_errors(f"read {path}"):
            file = path.open("rb")
        with file:
            while True:
                with _file_errors(f"read {path}"):
                    chunk = file.read(READ_BYTES)
                if not chunk:
                    return
                yield chunk

    def holds(self, point: str) -> bool:
        with _file_errors(f"look for {point}"):
            return self._unfinished(point).exists() or (self._root / point).exists()

    def remove(self, point: str) -> None:
        for directory in (self._unfinished(point), self._root / point):
            with _file_errors(f"remove {directory}"):
                if directory.exists():
                    shutil.rmtree(directory)

    def _unfinished(self, point: str) -> Path:
        return self._root / (point + _UNFINISHED)

    def _path(self, point: str, name: str) -> Path:
        finished = self._root / point
        return (finished if finished.is_dir() else self._unfinished(point)) / name


def _opened(path: Path) -> int:
    with _file_errors(f"write {path}"):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _file_errors(operation: str) -> Iterator[None]:
    """OSError as ours: none of them goes away by itself."""
    try:
        yield
    except OSError as error:
        kind = AccessDenied if error.errno in (errno.EACCES, errno.EPERM) else PermanentStoreError
        code = errno.errorcode.get(error.errno or 0, "")
        raise kind(f"cannot {operation}: {error.strerror or error}", operation=operation, code=code) from error
