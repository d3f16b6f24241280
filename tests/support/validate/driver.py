"""A validation in a process of its own, for tests that kill and freeze it.

`python driver.py FILE NAME`: a line for each page that was counted, then the report as one JSON line, or one that names the
error (exit 3). It takes small steps, and a checkpoint behind each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading

from docferry import wiring
from docferry.config import load_migration
from docferry.errors import MigrationError
from docferry.flows.validate import first_pass as checking
from docferry.flows.validate import progress as validation_progress
from docferry.flows.validate import skeleton
from docferry.testing.jobs import make_job


class Lines:
    def say(self, text: str) -> None:
        print(text, flush=True)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        print(f"{subject}: {done}", flush=True)


def main(file: str, name: str) -> None:
    vars(skeleton).update(PAGE_DOCUMENTS=10)
    vars(checking).update(SETTLE_S=0.1)
    validation_progress.CHECKPOINT_S = 0.0
    migration = load_migration(file)
    connections = wiring.connections_from_environment(migration)
    job = make_job(
        migration=migration,
        source=connections.source(migration),
        ledger=connections.ledger(migration),
        identity=wiring.who(name),
        progress=Lines(),
        stop=threading.Event(),
    )

    async def work() -> checking.ValidationReport:
        target = connections.target(migration)
        try:
            return await checking.validate(job, target)
        finally:
            await target.close()

    try:
        report = asyncio.run(work())
    except MigrationError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        sys.exit(3)
    print(json.dumps(report.to_dict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
