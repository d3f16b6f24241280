"""MongoDB's own tools, mongodump and mongorestore, as processes.

The address holds a password, and anybody on the machine can read a process's arguments: so it goes into a file of mode 600,
which `--config` names, and which is removed at the end. Tried with stand-ins for the programs only.

Source: https://www.mongodb.com/docs/database-tools/mongodump/ (--config, --archive), .../mongorestore/ (--nsFrom, --nsTo),
        from memory: not read today.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from docferry.core.cutover.marker import COLLECTION
from docferry.errors import RequestRefused

CHUNK = 1_000_000
TOLD = 400
"""Characters of a program's last words that an error repeats."""


class ProcessTools:
    """MongoTools by the programs on the PATH."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __repr__(self) -> str:
        return "ProcessTools()"

    def missing(self, program: str) -> bool:
        return shutil.which(program) is None

    def dump(self, database: str) -> Iterator[bytes]:
        words = ["--db", database, "--archive", "--excludeCollection", COLLECTION]
        with self._started("mongodump", words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while chunk := process.stdout.read(CHUNK):
                yield chunk

    def restore(self, archive: Iterable[bytes], database: str, into: str) -> None:
        words = ["--archive", "--nsInclude", f"{database}.*", "--nsFrom", f"{database}.*", "--nsTo", f"{into}.*"]
        with self._started("mongorestore", words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stdin is not None
            try:
                for chunk in archive:
                    process.stdin.write(chunk)
                process.stdin.close()
            except BrokenPipeError:
                return  # it has ended: how, is told behind this

    @contextmanager
    def _started(
        self, program: str, words: Sequence[str], stdin: int, stdout: int
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The program while it runs. Killed if the block ends by an error; its own failure raises RequestRefused."""
        path = shutil.which(program)
        if path is None:
            raise RequestRefused(f"{program} is not on the PATH", operation=program)
        with tempfile.TemporaryDirectory(prefix="docferry-") as directory, tempfile.TemporaryFile() as said:
            command = [path, "--config", str(self._config(Path(directory))), *words]
            process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said)  # noqa: S603 - a program and words of our own
            try:
                yield process
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        _close(pipe)
            if code:
                told = self._last_words(said)
                raise RequestRefused(f"{program} ended with {code}: {told}", operation=program, code=str(code))

    def _config(self, directory: Path) -> Path:
        path = directory / "config.yaml"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(f"uri: {json.dumps(self._uri)}\n")
        return path

    def _last_words(self, said: IO[bytes]) -> str:
        said.seek(0, os.SEEK_END)
        said.seek(max(0, said.tell() - 10_000))
        text = said.read().decode(errors="replace").strip().replace(self._uri, "<the address>")
        password = urlsplit(self._uri).password or ""
        for secret in {password, unquote(password)} - {""}:
            text = text.replace(secret, "***")
        return text.splitlines()[-1][-TOLD:] if text else "it said nothing"


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what was still to be written to it goes nowhere: it has ended, and its code is looked at
