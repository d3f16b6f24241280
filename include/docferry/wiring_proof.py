"""The composition root of the proof of a model: scratch tables in DynamoDB, and the client's reads over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from docferry.adapters.aws.analyze.scratch import DynamoScratch
from docferry.adapters.aws.client_dynamodb import AsyncCalls
from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.local.scratch_manifest import ScratchManifest
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.client.reads.measured import MeasuredReads
from docferry.client.transport.parts import PartCalls, part_layouts
from docferry.config import Migration
from docferry.core.analyze.proof import ModelProof
from docferry.core.cost.prices import PriceBook
from docferry.flows.analyze.prove import CALLS, DOCUMENTS, PATTERN_S, ProofJob, prove, scratch_copy
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Progress, StopSignal
from docferry.ports.proof import ModelReads
from docferry.wiring import Connections


@contextmanager
def proof_job(
    connections: Connections,
    migration: Migration,
    directory: Path,
    book: PriceBook,
    progress: Progress,
    stop: StopSignal,
    *,
    documents: int = DOCUMENTS,
    calls: int = CALLS,
    pattern_s: float = PATTERN_S,
) -> Iterator[ProofJob]:
    """A proof in `directory`, where its manifest is. Its connections are closed at the end."""
    session = connections.aws(migration)

    def open_reads(copy: Migration, entry_bytes: Mapping[tuple[str, str], float]) -> ModelReads:
        layouts = part_layouts(copy.layouts)
        calls: DynamoCalls = AsyncCalls(session)
        calls = PartCalls(calls, layouts, lambda name, number: None) if layouts else calls
        return MeasuredReads(copy.mappings, copy.access_patterns, calls, entry_bytes)

    with closing(MongoAnalysis(connections.mongo_uri, migration.namespaces)) as source:
        yield ProofJob(
            migration=migration,
            source=source,
            tables=DynamoScratch(session._session, migration.target.region),
            manifest=ScratchManifest(directory),
            open_reads=open_reads,
            endpoint=_stand_in(connections, migration.target.region),
            book=book,
            progress=progress,
            stop=stop,
            documents=documents,
            calls=calls,
            pattern_s=pattern_s,
        )


def run_proof(connections: Connections, job: ProofJob) -> ModelProof:
    """The proof, to its end, in an event loop of its own."""
    copy = scratch_copy(job.migration)
    return connections.run(copy, lambda target: prove(job, copy, target))


def _stand_in(connections: Connections, region: str) -> str:
    """Where DynamoDB's requests go, if not to AWS."""
    client = aws_client(connections.session._session.create_client, "dynamodb", region_name=region)
    host = urlsplit(str(client.meta.endpoint_url)).hostname or ""
    aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    return "" if aws else f"an emulator at {host}"
