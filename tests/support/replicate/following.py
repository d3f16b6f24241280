"""The real replication on a rig, as far as the application has got."""

from __future__ import annotations

import asyncio
from typing import Any

from docferry.flows.kernel.job import Job
from docferry.flows.replicate.follower import replicate
from docferry.flows.replicate.report import ReplicationReport
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.backfill.rig import Rig
from support.validate.planting import tick


def replication_of(rig: Rig) -> Job:
    load = rig.job()
    return make_job(
        migration=rig.migration,
        source=load.source,
        ledger=rig.ledger,
        identity=who("following"),
        progress=load.progress,
        stop=load.stop,
    )


async def follow(rig: Rig, target: Any) -> ReplicationReport:
    """Apply everything up to now; MongoDB's time then passes what was applied."""
    job = replication_of(rig)
    await asyncio.to_thread(tick, rig)
    return await replicate(job, target, until=await asyncio.to_thread(job.source.cluster_time))


def tombstones(rig: Rig) -> dict[tuple[str, str], dict[str, Any]]:
    return {key: item for key, item in rig.scan().items() if "_deleted" in item}
