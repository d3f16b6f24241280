"""The load by import: collections are read into rows in S3, and DynamoDB makes their table of these (ImportTable).

What AWS refuses becomes dead letters, by the import's log. The table is new: it has no other writer, and replication begins
behind it, from before the first page. A run that was killed is continued by the next: while rows are written by their chunks,
then by the import that AWS tells of.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docferry.core.estate.resources import AwsCall, AwsPlace, page_through
from docferry.core.estate.values import Action, EstateStep, TableSpec
from docferry.core.imports.rows import RowError, row_error, row_of
from docferry.core.mapping.items import KIND, tombstone
from docferry.core.mapping.raw import encode_raw, id_of, id_text, item_id
from docferry.core.versions import parse_version
from docferry.errors import InvariantBroken, PreflightFailed, Problem, RefusedByStore, Stopped, StoreError
from docferry.flows.backfill.chunks import is_followed, prepare
from docferry.flows.backfill.finish import CollectionReport, finish, release_run
from docferry.flows.backfill.load import load_range
from docferry.flows.backfill.rows_target import RowsTarget
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.dead_letters import open_letter
from docferry.flows.ledger.leases import HURRIED_S
from docferry.flows.ledger.load_headers import BULK, Counts, LoadHeaders, list_chunks
from docferry.ports.flows import ImportRows, Target

POLL_S = 5.0
LOG_S = 120.0
"""So long the log of errors may take to have all of them."""
MOST_OBJECTS = 50_000
"""AWS's own limit of one import."""
RUNNING = "IN_PROGRESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Importing:
    """`specs` are the tables as they shall be; `complete` sets what ImportTable cannot: PITR, TTL, stream, tags, protection."""

    rows: ImportRows
    specs: Mapping[str, TableSpec]
    complete: Callable[[TableSpec], object]
    poll_s: float = POLL_S


async def import_collections(
    job: Job, target: Target, importing: Importing, collections: Sequence[str]
) -> list[CollectionReport]:
    """Load these, table by table. Raises: PreflightFailed, where a table cannot be made so; as a load does."""
    reports: list[CollectionReport] = []
    for table in dict.fromkeys(job.migration.mapping(name).table for name in collections):
        of_table = [one.name for one in job.migration.collections if one.table == table]
        if left := sorted(set(of_table) - set(collections)):
            what = f"is imported with all of its collections: {', '.join(left)} too"
            raise PreflightFailed(
                "the import", [Problem(where=f"table {table}", what=what, suggestion="without --only")]
            )
        reports += await _Import(job, target, importing, table, of_table).run()
    return reports


class _Import:
    """One table."""

    def __init__(self, job: Job, target: Target, importing: Importing, table: str, collections: Sequence[str]) -> None:
        self.job, self.target, self.importing = job, target, importing
        self.table, self.collections = table, collections
        self.spec = importing.specs[table]
        self.bucket, self.prefix = importing.rows.place(table)

    async def run(self) -> list[CollectionReport]:
        if all(self._is_complete(name) for name in self.collections):
            return [await asyncio.to_thread(finish, self.job, name) for name in self.collections]
        begun = await in_thread(self._begun, stop=self.job.stop)
        try:
            if begun is None:
                await self._write_rows()
                begun = await in_thread(self._begin, stop=self.job.stop)
            refused = await self._refused(await self._await(begun)) if begun else {}
            await in_thread(self.importing.complete, self.spec, stop=self.job.stop)
            counts = await self._bury(refused)
        except BaseException:
            with suppress(StoreError):
                for name in self.collections:
                    await in_thread(release_run, self.job, name, within_s=HURRIED_S)
            raise
        reports = [
            await asyncio.to_thread(finish, self.job, name, refused=counts.get(name, Counts()))
            for name in self.collections
        ]
        await asyncio.to_thread(self.importing.rows.clear, self.table)
        return reports

    def _is_complete(self, name: str) -> bool:
        header = LoadHeaders(self.job.ledger).read(name)
        return header is not None and header.complete

    # --- before ---

    def _begun(self) -> str | None:
        """The import of this table that a run of ours has begun. Raises PreflightFailed, if the table is there without one."""
        if self.job.estate.fetch_table(self.table) is None:
            self._require_new()
            return None
        written = all(
            (chunks := list_chunks(self.job.ledger, name)) and all(one.done for one in chunks)
            for name in self.collections
        )
        found = [one for one in self._imports() if one["S3BucketSource"].get("S3KeyPrefix") == self.prefix]
        if not written or not found:
            what = "exists: an import makes a new table"
            advice = "write `strategy: batch`, or delete the table, if nothing needs it"
            raise PreflightFailed("the import", [Problem(where=f"table {self.table}", what=what, suggestion=advice)])
        return str(max(found, key=lambda one: str(one.get("StartTime")))["ImportArn"])

    def _imports(self) -> Iterator[Mapping[str, Any]]:
        target = self.job.migration.target
        arn = AwsPlace(account=target.account, region=target.region).arn("dynamodb", f"table/{self.table}")
        call = AwsCall(service="dynamodb", operation="list_imports", arguments={"TableArn": arn})
        yield from page_through(self.job.estate.ask, call, "ImportSummaryList", "NextToken")

    def _require_new(self) -> None:
        """Other writers would be lost to a table that is made of what was read."""
        if is_followed(self.job.ledger):
            what = "replication has begun: what it has written would not be in the new table"
            raise PreflightFailed(
                "the import", [Problem(where=f"table {self.table}", what=what, suggestion="strategy: batch")]
            )

    async def _write_rows(self) -> None:
        rows = RowsTarget(self.target, self.importing.rows)
        for name in self.collections:
            prepared = await asyncio.to_thread(prepare, self.job, name, imported=True)
            header = LoadHeaders(self.job.ledger).read(name)
            if header is None or header.mode != BULK:
                raise PreflightFailed(
                    "the import", [Problem(where=name, what="has other writers", suggestion="strategy: batch")]
                )
            for one in prepared.ranges:
                await load_range(self.job, rows, name, one.chunks)

    # --- AWS's part ---

    def _begin(self) -> str:
        """The import's ARN; '' where there is nothing to import: then the table is made as any other."""
        objects = self.importing.rows.count(self.table)
        if objects > MOST_OBJECTS:
            what = f"has {objects:,} objects of rows, and an import takes {MOST_OBJECTS:,}"
            advice = "raise backfill.page_documents, and load again; or strategy: batch"
            raise PreflightFailed("the import", [Problem(where=f"table {self.table}", what=what, suggestion=advice)])
        if not objects:
            return ""
        place = f"{self.bucket}/{self.prefix} {uuid.uuid4().hex}"  # the last word is the token of this one import
        step = EstateStep(resource=self.spec.resource, action=Action.IMPORT_TABLE, spec=self.spec, detail=place)
        retrying("begin the import", lambda: self.job.estate.apply(step), self.job.stop)
        found = self._begun()
        if found is None:
            raise InvariantBroken(f"AWS accepted the import of {self.table} and does not show it")
        return found

    async def _await(self, import_arn: str) -> Mapping[str, Any]:
        """Until AWS has ended it. Raises PreflightFailed, if for another reason than single rows."""
        while True:
            found = await in_thread(self._describe, import_arn, stop=self.job.stop)
            done, all_of_it = found.get("ImportedItemCount", 0), found.get("ProcessedItemCount", 0)
            self.job.progress.advance(f"import {self.table}", done, max(done, all_of_it), str(found["ImportStatus"]))
            if found["ImportStatus"] != RUNNING:
                break
            if self.job.stop.is_set():
                raise Stopped("asked to stop; AWS goes on with the import, and a re-run awaits it")
            await asyncio.sleep(self.importing.poll_s)
        if found["ImportStatus"] != "COMPLETED" and not found.get("ErrorCount"):
            what = f"{found.get('FailureCode')}: {found.get('FailureMessage')}"
            advice = "mend it, delete the table if it is there, and run again"
            raise PreflightFailed("the import", [Problem(where=f"table {self.table}", what=what, suggestion=advice)])
        return found

    def _describe(self, import_arn: str) -> Mapping[str, Any]:
        call = AwsCall(service="dynamodb", operation="describe_import", arguments={"ImportArn": import_arn})
        found = retrying("look at the import", lambda: self.job.estate.ask(call), self.job.stop) or {}
        return dict(found["ImportTableDescription"])

    # --- rows that were refused ---

    async def _refused(self, ended: Mapping[str, Any]) -> dict[tuple[str, bytes], tuple[str, int]]:
        """Of each document whose row AWS has refused: why, and its version."""
        wanted, waited = int(ended.get("ErrorCount") or 0), 0.0
        errors: set[RowError] = set()
        while len(errors) < wanted:
            errors = set(await in_thread(self._log, ended, stop=self.job.stop))
            if len(errors) < wanted and (waited := waited + self.importing.poll_s) > LOG_S:
                what = f"refused {wanted} rows, and its log names {len(errors)} of them"
                raise PreflightFailed(
                    "the import", [Problem(where=f"table {self.table}", what=what, suggestion="run again")]
                )
            if len(errors) < wanted:
                await asyncio.sleep(self.importing.poll_s)
        found: dict[tuple[str, bytes], tuple[str, int]] = {}
        for error in sorted(errors, key=lambda one: (one.key, one.index)):
            name, id_data, version = await in_thread(self._document_of, error, stop=self.job.stop)
            found.setdefault((name, id_data), (error.why, version))
        return found

    def _log(self, ended: Mapping[str, Any]) -> Iterator[RowError]:
        group = str(ended["CloudWatchLogGroupArn"]).partition(":log-group:")[2].removesuffix(":*")
        call = AwsCall(
            service="logs",
            operation="filter_log_events",
            arguments={"logGroupName": group, "filterPattern": f'"{ended["ImportArn"]}"'},
            absent=("ResourceNotFoundException",),
        )
        for event in page_through(self.job.estate.ask, call, "events", "nextToken"):
            error = row_error(event["message"])
            if error is not None and error.key.startswith(self.prefix) and ended["ImportArn"] in event["message"]:
                yield error

    def _document_of(self, error: RowError) -> tuple[str, bytes, int]:
        layouts = self.job.migration.layouts
        item = row_of(self.importing.rows.read(error.key), error.index)
        ours = layouts[self.table].read(item) if self.table in layouts else item
        mapping = self.job.migration.kinds(self.table).get(ours.get(KIND, {}).get("S", ""))
        id_data = item_id(ours)
        if mapping is None or id_data is None:
            raise InvariantBroken(f"AWS refused a row of {self.table} that is no item of a document: {error.why}")
        return mapping.collection, id_data, parse_version(ours["_v"]["S"])

    async def _bury(self, refused: Mapping[tuple[str, bytes], tuple[str, int]]) -> dict[str, Counts]:
        """Dead letters, and tombstones for the items of these documents that were imported. What changes in the counts."""
        changes: defaultdict[str, Counts] = defaultdict(Counts)
        by_collection: defaultdict[str, list[bytes]] = defaultdict(list)
        for name, id_data in refused:
            by_collection[name].append(id_data)
        for name, ids in by_collection.items():
            there = await in_thread(self._documents, name, ids, stop=self.job.stop)
            for raw in there:
                why, version = refused[name, id_of(raw)]
                items = await self._bury_one(name, raw, why, version)
                changes[name] += Counts(written=-1, dead=1, items=-items)
            # One that MongoDB has no more: replication meets its deletion.
            changes[name] += Counts(written=-(len(ids) - len(there)), superseded=len(ids) - len(there))
        return dict(changes)

    def _documents(self, name: str, ids: Sequence[bytes]) -> list[bytes]:
        source = self.job.source
        return retrying("read documents", lambda: source.read_ids(name, ids, source.cluster_time()), self.job.stop)

    async def _bury_one(self, name: str, raw: bytes, why: str, version: int) -> int:
        mapping = self.job.migration.mapping(name)
        error = RefusedByStore(f"the import refused an item: {why}", path=mapping.root.entity)
        error.namespace, error.id = name, id_text(raw)
        await asyncio.to_thread(open_letter, self.job.ledger, name, error, raw, version)
        items = encode_raw(mapping, raw, version)
        graves = [tombstone(one, version, self.spec.ttl_attribute) for one in items]
        budget = LedgerBudget(self.job.ledger, "wcu", budget_of(self.job.migration), self.job.stop)
        await self.target.put_newer(self.table, graves, budget, self._guard, or_same=True)
        return len(items)

    def _guard(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; run again to continue")
