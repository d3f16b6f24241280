"""Users with unique addresses on real servers: processes that register, and who looks at both databases from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from support.backfill.rig import Rig, eventually, rig_of
from support.place import ROOT

SCRIPT = Path(__file__).with_name("registering.py")
MAIL_INDEX: Mapping[str, Any] = {"unique": True, "name": "email_1", "partialFilterExpression": {"email": {"$gt": ""}}}


def unique_rig(env: Mapping[str, str], directory: Path, database: str) -> Rig:
    """A collection with a unique name, which is the key, and a unique address, which is kept by guards."""
    item = {"entity": "USER_PROFILE", "key": {"PK": "USER#{username}", "SK": "PROFILE"}}
    unique = {"_id_": ["_id"], "email_1": {"key": ["email"], "partial": {"email": {"$gt": ""}}}}
    tree = {
        "migration": "unique",
        "tables": {f"Unique{os.urandom(4).hex()}": {}},
        "collections": {"users": {"item": item, "unique": unique}},
        "validate": {"settle_s": 0.5},
    }
    rig = rig_of(env, directory, tree, database)
    rig.database.create_collection("users", changeStreamPreAndPostImages={"enabled": True})
    rig.database["users"].create_index("username", unique=True)
    rig.database["users"].create_index("email", **MAIL_INDEX)
    return rig


def held_in_dynamodb(rig: Rig) -> tuple[dict[str, str], dict[str, str]]:
    """(address by document, document by address as guards say), by a plain scan: ids as they are stored."""
    roots: dict[str, str] = {}
    guards: dict[str, str] = {}
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=rig.table, ConsistentRead=True)
    for item in (item for page in pages for item in page["Items"] if "_deleted" not in item):
        if item["entityType"]["S"] == "USER_PROFILE":
            roots[item["_id"]["S"]] = item["email"]["S"]
        elif item["entityType"]["S"] == "UNIQUE#users.email_1":
            guards[item["PK"]["S"].removeprefix("UNIQUE#users.email_1#")] = item["_id"]["S"]
    return roots, guards


def require_unique(rig: Rig) -> dict[str, str]:
    """Where nothing moves: each address is one document's, and guards say exactly that. Returns address by document."""
    roots, guards = held_in_dynamodb(rig)
    assert max(Counter(roots.values()).values(), default=0) <= 1, Counter(roots.values()).most_common(3)
    assert guards == {mail: owner for owner, mail in roots.items()}
    return roots


class Registering:
    """Processes that register, for as long as the block lasts. `taken` counts refusals, `failed` is what went wrong otherwise."""

    def __init__(self, rig: Rig, env: Mapping[str, str], processes: int, pool: int = 50) -> None:
        self.did, self.taken = Counter[str](), Counter[str]()
        self.failed: list[str] = []
        self.mine: dict[str, str] = {}
        path = os.pathsep.join([str(ROOT / "include"), str(ROOT / "tests")])
        full = {**os.environ, **env, "PYTHONPATH": path}
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(rig.file), f"p{number}", str(pool)],
                env=full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ) for number in range(processes)
        ]  # fmt: skip
        self._readers = [threading.Thread(target=self._read, args=(one,), daemon=True) for one in self._processes]
        for reader in self._readers:
            reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "did" in told:
                self.did[process.args[3]] += 1  # type: ignore[index]
            elif "taken" in told:
                self.taken[",".join(told["taken"])] += 1
                if not told["value"]:
                    self.failed.append(f"another value was told: {told}")
            elif "mine" in told:
                self.mine |= told["mine"]
            else:
                self.failed.append(told["failed"])

    def more(self, changes: int = 60) -> None:
        """Until each process has made so many more."""
        before = Counter(self.did)

        def enough() -> bool:
            ended = [one for one in self._processes if one.poll() is not None]
            assert not ended, ended[0].stderr and ended[0].stderr.read()
            names = [str(one.args[3]) for one in self._processes]  # type: ignore[index]
            return all(self.did[name] >= before[name] + changes for name in names)

        eventually(enough, f"{changes} more changes of each process")

    def kill(self) -> None:
        """One of them dies in the midst of what it does. It must not be the last."""
        process, reader = self._processes.pop(), self._readers.pop()
        process.kill()
        process.wait()
        reader.join()

    def __enter__(self) -> Registering:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process, reader in zip(self._processes, self._readers, strict=True):
            process.wait(timeout=60)
            reader.join(timeout=60)
