"""The proof of a model: a bounded sample in scratch tables, and each access pattern on both sides, side by side."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from docferry.config import Migration
from docferry.core.access.patterns import Pattern
from docferry.core.analyze.proof import KEPT_S, TAG, ModelProof, PatternProof, scratch_name
from docferry.core.cost.calls import CallRates
from docferry.core.cost.prices import PriceBook
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.values import TableSpec
from docferry.core.mapping.mapping import DocumentMapping
from docferry.errors import Stopped
from docferry.flows.analyze.projected import heat_of, usd_of
from docferry.flows.analyze.sampled import SampledCollection, load_sample
from docferry.flows.analyze.scratch import Scratch
from docferry.flows.analyze.side_by_side import Asking, counted_lists
from docferry.flows.cost.measured import count_calls
from docferry.ports.analyze import AnalysisSource
from docferry.ports.flows import Progress, StopSignal, Target
from docferry.ports.proof import Manifest, ModelReads, ScratchTables

DOCUMENTS = 2_000
CALLS = 100
PATTERN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofJob:
    """What a proof needs. `documents` of each collection are loaded; each pattern is called `calls` times, and for no longer than
    `pattern_s`. `endpoint`: empty for AWS itself. `open_reads` takes the scratch migration and the mean bytes of what is
    in each of its tables and indexes."""

    migration: Migration
    source: AnalysisSource
    tables: ScratchTables
    manifest: Manifest
    open_reads: Callable[[Migration, Mapping[tuple[str, str], float]], ModelReads]
    endpoint: str
    book: PriceBook
    progress: Progress
    stop: StopSignal
    documents: int = DOCUMENTS
    calls: int = CALLS
    pattern_s: float = PATTERN_S

    def guard(self) -> None:
        """Raises: Stopped."""
        if self.stop.is_set():
            raise Stopped("stopped before the model was proved; its scratch tables are removed")

    def scratch(self) -> Scratch:
        return Scratch(self.tables, self.manifest, self.progress, self.stop)


def clean(job: ProofJob) -> list[str]:
    """Remove the scratch tables that earlier runs have left; their names. Raises: StoreError, PreflightFailed."""
    with job.manifest.held():
        return job.scratch().clean()


async def prove(job: ProofJob, copy: Migration, target: Target) -> ModelProof:
    """Carry out the proof, on the scratch tables of `copy`, which `target` knows.

    They are gone when this returns or raises; those of a killed process go at the next start.
    Raises: Stopped, StoreError, PreflightFailed while another process proves in the same directory.
    """
    began, moment = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with job.manifest.held():
        scratch = job.scratch()
        await asyncio.to_thread(scratch.clean)
        try:
            job.progress.say(
                f"making {len(copy.tables)} scratch tables for at most {job.documents:,} documents a collection"
            )
            await asyncio.to_thread(scratch.make, _specs(copy))
            return await _prove(job, copy, target, began, moment)
        finally:
            await asyncio.to_thread(scratch.remove)


async def _prove(job: ProofJob, copy: Migration, target: Target, began: float, moment: str) -> ModelProof:
    samples: dict[str, SampledCollection] = {}
    for done, name in enumerate(copy.mappings):
        job.progress.advance("collections loaded", done, len(copy.mappings), name)
        samples[name] = await load_sample(copy, name, job.source, target, job.documents, job.guard)
    reads = job.open_reads(copy, _entry_bytes(samples))
    asked: list[PatternProof] = []
    try:
        for asking in _questions(job, copy, reads, samples):
            job.guard()
            job.progress.say(f"asking {asking.title} on both sides")
            asked.append(await asking.run())
    finally:
        await reads.close()
    calls = count_calls(job.migration, job.source)
    sizes = [one.sizes for one in samples.values() if one.sizes is not None]
    return ModelProof(
        migration=job.migration.name,
        database=job.migration.source.database,
        began=moment,
        seconds=time.monotonic() - began,
        endpoint=job.endpoint,
        samples=[one.told() for one in samples.values()],
        patterns=asked,
        heat=[heat for one in samples.values() for heat in heat_of(one, calls.rates.get(one.collection, CallRates()))],
        usd=usd_of(job.migration, sizes, calls.rates, job.book),
        read_million=job.book.read_request_million,
        book=job.book.title,
        notes=[f"Not known: {calls.missing}; heat and cost are those of the data alone."] if calls.missing else [],
    )


def _questions(
    job: ProofJob, copy: Migration, reads: ModelReads, samples: Mapping[str, SampledCollection]
) -> Iterator[Asking]:
    """Each pattern of the file, and each list with the counts of what belongs to its documents."""

    def asking(name: str, collection: str, counted: Pattern | None = None) -> Asking:
        return Asking(
            source=job.source,
            reads=reads,
            samples=samples,
            name=name,
            collection=collection,
            calls=job.calls,
            pattern_s=job.pattern_s,
            guard=job.guard,
            counted=counted,
        )

    for one in copy.access_patterns:
        yield asking(one.name, one.collection)
    for listed, counted in counted_lists(job.source, reads, copy, samples):
        yield asking(listed.name, listed.mapping.collection, counted)


# --- the copy --------------------------------------------------------------------------------------------------------


def scratch_copy(migration: Migration) -> Migration:
    """The same model over tables of names that no other run has, without what a table for minutes does not need."""
    run, until = secrets.token_hex(4), time.time() + KEPT_S
    names = {table.name: scratch_name(run, number) for number, table in enumerate(migration.tables)}
    tags = {TAG: f"{until:.0f}", "docferry:migration": migration.name}
    tables = tuple(
        replace(
            table,
            name=names[table.name],
            billing="on_demand",
            capacity=None,
            pitr=False,
            encryption="AWS_OWNED",
            kms_key=None,
            stream=False,
            deletion_protection=False,
            tags=tags,
        )
        for table in migration.tables
    )
    # Parts are removed with their table: none are put where they would stay.
    collections = tuple(
        replace(one, table=names[one.table], overflow="split" if one.overflow == "s3" else one.overflow)
        for one in migration.collections
    )
    mappings = {one.name: DocumentMapping(one, migration.mapping(one.name).transform) for one in collections}
    return replace(migration, tables=tables, collections=collections, mappings=mappings, dax=None)


def _specs(copy: Migration) -> list[TableSpec]:
    wanted = {table.name for table in copy.tables}
    return [one for one in desired_estate(copy.tables, copy.ledger, copy.target).tables if one.name in wanted]


def _entry_bytes(samples: Mapping[str, SampledCollection]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for one in samples.values():
        if one.sizes is not None and one.items:
            found.setdefault((one.table, ""), []).append(one.sizes.item_bytes)
            for index in one.sizes.indexes:
                found.setdefault((one.table, index.name), []).append(index.bytes_in)
    return {place: sum(sizes) / len(sizes) for place, sizes in found.items()}
