"""A bank whose clerks are processes: each moves money between accounts in transactions, and now and then adds all of it up.

A transfer changes two accounts and leaves a document of itself. What a clerk was told goes into its log, a line each.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from docferry.errors import MigrationError
from pymongo.errors import PyMongoError

ACCOUNTS, EACH = 20, 1_000
TREE = {
    "migration": "bank",
    "tables": {"Bank": {}},
    "collections": {
        "accounts": {"table": "Bank", "item": {"entity": "ACCOUNT", "key": {"PK": "ACCOUNT#{_id}", "SK": "ACCOUNT"}}},
        "transfers": {
            "table": "Bank",
            "item": {"entity": "TRANSFER", "key": {"PK": "TRANSFER#{_id}", "SK": "TRANSFER"}},
        },
    },
}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["docferry.wiring"])
PR_SET_PDEATHSIG = 1


def clerk(file: str, env: Mapping[str, str], log: str, seed: int, stop: str) -> None:
    """Works until there is a file `stop`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.update(env)
    from docferry import wiring

    random = Random(seed)
    with wiring.connect(file) as db, Path(log).open("a", buffering=1) as told:
        while not Path(stop).exists():
            try:
                told.write((_audit(db) if random.random() < 0.15 else _transfer(db, random)) + "\n")
            except (PyMongoError, MigrationError) as error:
                told.write(f"failed {type(error).__name__}: {str(error)[:200]!r}\n")
    os._exit(0)  # the clerk has done its work: threads that wait for a server are not waited for


def _transfer(db: Any, random: Random) -> str:
    source, target = random.sample(range(ACCOUNTS), 2)
    amount, name = random.randint(1, 50), uuid.uuid4().hex

    def move(session: Any) -> None:
        there = db.accounts.find_one({"_id": source}, session=session)
        db.accounts.update_one({"_id": source}, {"$set": {"balance": there["balance"] - amount}}, session=session)
        db.accounts.update_one({"_id": target}, {"$inc": {"balance": amount}}, session=session)
        document = {"_id": name, "source": source, "target": target, "amount": amount}
        db.transfers.insert_one(document, session=session)

    with db.client.start_session() as session:
        session.with_transaction(move)
    return f"moved {name}"


def _audit(db: Any) -> str:
    def add(session: Any) -> int:
        seen = [db.accounts.find_one({"_id": number}, session=session)["balance"] for number in range(ACCOUNTS)]
        told: int = sum(seen)
        if told != ACCOUNTS * EACH:
            raise AssertionError(f"an audit has seen {told}")
        return told

    with db.client.start_session() as session:
        try:
            return f"audited {session.with_transaction(add)}"
        except AssertionError as error:
            return f"skew {error}"


class Clerks:
    """Some of them at work."""

    def __init__(self, file: Path, env: Mapping[str, str], directory: Path, number: int) -> None:
        self._stop, self.logs = directory / "stop", [directory / f"clerk{at}.log" for at in range(number)]
        asked = [(str(file), dict(env), str(log), at, str(self._stop)) for at, log in enumerate(self.logs)]
        self.processes = [_FORKS.Process(target=clerk, args=one, daemon=True) for one in asked]

    @contextmanager
    def at_work(self) -> Iterator[Clerks]:
        for one in self.processes:
            one.start()
        try:
            yield self
        finally:
            self.end()

    def end(self, within_s: float = 60.0) -> None:
        """All have ended, and what they were told is in their logs."""
        self._stop.touch()
        until = time.monotonic() + within_s
        for one in self.processes:
            one.join(max(0.1, until - time.monotonic()))
            if one.is_alive():
                one.kill()
                one.join()

    def signal(self, at: int, number: signal.Signals) -> None:
        os.kill(self.processes[at].pid or 0, number)

    def told(self, word: str, at: int | None = None) -> Sequence[str]:
        """The rest of each whole line that begins with `word`."""
        logs = self.logs if at is None else [self.logs[at]]
        lines = [line for log in logs if log.exists() for line in log.read_text().split("\n")[:-1]]
        return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]
