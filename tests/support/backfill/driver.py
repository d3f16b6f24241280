"""A backfill in a process of its own, for tests that kill, freeze and stop it.

`python driver.py FILE RUN [COLLECTION ...]`: one JSON line for each collection, or one that names the error (exit 3).
CHECKPOINT_S and NO_DISK come from the environment. SIGTERM asks it to stop.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading

from docferry import wiring
from docferry.config import load_migration
from docferry.errors import MigrationError
from docferry.flows.backfill import chunk_loader
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.kernel.job import Job
from docferry.testing.jobs import make_job


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def forbid_files() -> None:
    """From here on this process can write no byte to any file, as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


async def load(job: Job, target: object, names: list[str]) -> None:
    for name in names:
        report = await backfill_collection(job, target, name)  # type: ignore[arg-type]
        print(json.dumps(report.to_dict()), flush=True)


def main(file: str, run: str, names: list[str]) -> None:
    if os.environ.get("NO_DISK"):
        forbid_files()
    chunk_loader.CHECKPOINT_S = float(os.environ.get("CHECKPOINT_S", chunk_loader.CHECKPOINT_S))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    migration = load_migration(file)
    connections = wiring.connections_from_environment(migration)
    identity = wiring.who(run)
    job = make_job(
        migration=migration,
        source=connections.source(migration),
        ledger=connections.ledger(migration),
        identity=identity,
        progress=Quiet(),
        stop=stop,
        run=run,
        run_mark=identity.mark,
    )

    async def work() -> None:
        target = connections.target(migration)
        try:
            await load(job, target, names or [settings.name for settings in migration.collections])
        finally:
            await target.close()

    try:
        asyncio.run(work())
    except MigrationError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
