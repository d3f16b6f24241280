"""The composition root: puts the adapters behind the ports. The CLI and the Airflow operators both begin here."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ProfileNotFound
from bson.codec_options import CodecOptions

from docferry.adapters.aws.client_dax import AsyncDaxCalls, SyncDaxCalls, opener
from docferry.adapters.aws.client_dynamodb import AsyncCalls, SyncCalls
from docferry.adapters.aws.control.account import require_account
from docferry.adapters.aws.data.import_rows import S3ImportRows
from docferry.adapters.aws.data.part_objects import S3PartObjects
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.aws.estate import AwsEstate
from docferry.adapters.aws.journal import DynamoJournal
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.adapters.aws.metrics.cloudwatch import CloudWatchMetrics
from docferry.adapters.aws.rollback_points.backups import DynamoBackups, ExternalSnapshots
from docferry.adapters.aws.rollback_points.s3 import S3Files
from docferry.adapters.aws.streams import DynamoStreams
from docferry.adapters.local.fence_command import About, with_command
from docferry.adapters.local.point_files import DirectoryFiles
from docferry.adapters.local.process import identity
from docferry.adapters.mongodb.client.calls import AsyncMongoCalls, SyncMongoCalls, codec_options_of
from docferry.adapters.mongodb.database import MongoDatabase
from docferry.adapters.mongodb.fence import MongoFence
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.adapters.mongodb.sink import MongoSink
from docferry.adapters.mongodb.source import MongoSource
from docferry.adapters.mongodb.tools import ProcessTools
from docferry.adapters.mongodb.users import MongoClients
from docferry.client.api.manager import AsyncDualWriteManager, DualWriteManager
from docferry.client.context import ClientContext
from docferry.client.following import replicated_by
from docferry.client.membership import Membership
from docferry.client.metrics.metered import Metered, default_metrics
from docferry.client.metrics.summed import SummedMetrics
from docferry.client.reads.shadow import Shadow
from docferry.client.transport import circuit_breaker as hurried
from docferry.client.transport.circuit_breaker import CircuitBreaker
from docferry.client.transport.counted import CountedCalls
from docferry.client.transport.dax_route import RoutedCalls
from docferry.client.transport.objects import ObjectCalls
from docferry.client.transport.parts import PartCalls, part_layouts
from docferry.client.type_border import TypeBorder
from docferry.config import Migration, load_migration
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.tags import owner_tag
from docferry.core.estate.values import DesiredEstate
from docferry.core.estate.wanted import around
from docferry.errors import ConfigError, Problem
from docferry.flows.kernel.job import Job, Ports, Run
from docferry.flows.ledger.mapping_fingerprint import indexes_digest, require_mapping
from docferry.flows.ledger.rooms.owners import require_owned
from docferry.ports.client import DynamoCalls, Metrics
from docferry.ports.flows import Fence, Identity, PartObjects, Progress, StopSignal, Target
from docferry.ports.rollback_points import PointFiles, PointPorts
from docferry.ports.tracing import use_tracing

T = TypeVar("T")
MONGO_URI = "DOCFERRY_MONGO_URI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """How to reach both databases. The URI holds the password and stays out of the repr."""

    mongo_uri: str = field(repr=False)
    session: boto3.Session = field(repr=False)
    _accounts: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mongo_uri", clean_uri(self.mongo_uri))

    def aws(self, migration: Migration) -> boto3.Session:
        """The only way to AWS: through here nothing reaches an account that is not the one that the file names, if it names one.

        Raises: PreflightFailed; StoreError, if STS does not tell whose the credentials are.
        """
        account = migration.target.account
        if account and account not in self._accounts:
            require_account(self.session._session, account, migration.target.region)
            self._accounts.add(account)
        return self.session

    def source(self, migration: Migration) -> MongoSource:
        return MongoSource(self.mongo_uri, migration.namespaces)

    def fence(self, migration: Migration) -> Fence:
        where, users = migration.namespaces, migration.cutover.app_users
        about = About(migration.name, where.default, tuple(migration.mappings), users, where.elsewhere)
        return with_command(MongoFence(self.mongo_uri, *about.place), migration.cutover.fence, about, os.environ)

    def leader(self, migration: Migration) -> MongoLeader:
        return MongoLeader(self.mongo_uri, migration.source.database, migration.name)

    def clients(self) -> MongoClients:
        return MongoClients(self.mongo_uri)

    def sink(self, migration: Migration) -> MongoSink:
        return MongoSink(self.mongo_uri, migration.namespaces, migration.name)

    def streams(self, migration: Migration) -> DynamoStreams:
        return DynamoStreams(self.aws(migration), migration.layouts)

    @property
    def has_aws(self) -> bool:
        """Whether there are credentials at all."""
        return self.session.get_credentials() is not None

    def ledger(self, migration: Migration, config: Config | None = None) -> DynamoLedger:
        return DynamoLedger(self.aws(migration), migration.ledger.table, migration.name, config)

    def journal(self, migration: Migration) -> DynamoJournal:
        return DynamoJournal(self.aws(migration), migration.ledger.journal_table, migration.name)

    def estate(self, migration: Migration) -> AwsEstate:
        return AwsEstate(self.aws(migration)._session, migration.target.region)

    def target(self, migration: Migration) -> DynamoTarget:
        """Belongs to the event loop that first uses it; close it there."""
        objects = self.part_objects(migration)
        return DynamoTarget(DynamoHttp(self.aws(migration)), migration.backfill.concurrency, migration.layouts, objects)

    def import_rows(self, migration: Migration) -> S3ImportRows:
        return S3ImportRows(self.aws(migration), migration.backfill.import_to, migration.name)

    def part_objects(self, migration: Migration) -> PartObjects | None:
        """Where parts of items are objects, if the file says so of a collection."""
        if not any(layout.as_objects for layout in migration.layouts.values()):
            return None
        return S3PartObjects(self.aws(migration), migration.target.objects, migration.name)

    @contextmanager
    def job(
        self, migration: Migration, identity: Identity, progress: Progress, stop: StopSignal, run: str = ""
    ) -> Iterator[Job]:
        """What every flow takes. What it opens it opens when a flow needs it, and closes at the end.

        `run` names the run that several processes share; empty where this process is the whole run.
        """
        use_tracing()
        ports = Ports(
            {
                "source": lambda: self.source(migration),
                "fence": lambda: self.fence(migration),
                "leader": lambda: self.leader(migration),
                "clients": self.clients,
                "sink": lambda: self.sink(migration),
                "streams": lambda: self.streams(migration),
                "journal": lambda: self.journal(migration),
                "estate": lambda: self.estate(migration),
                "points": lambda: self.points(migration),
            }
        )
        with closing(ports):
            yield Job(
                migration=migration,
                ledger=self.ledger(migration),
                identity=identity,
                progress=progress,
                stop=stop,
                run=Run(run) if run else Run(f"process {uuid.uuid4()}", identity.mark),
                ports=ports,
            )

    def run(self, migration: Migration, flow: Callable[[Target], Coroutine[Any, Any, T]]) -> T:
        """Run an asynchronous flow to its end; its connections to DynamoDB live as long as its event loop.

        That is uvloop's where it is installed (the extra `cli`): it is faster, and otherwise the same.
        """

        async def run() -> T:
            target = self.target(migration)
            try:
                return await flow(target)
            finally:
                await target.close()

        try:
            import uvloop
        except ImportError:
            return asyncio.run(run())
        return uvloop.run(run())

    def points(self, migration: Migration) -> PointPorts:
        """All that rollback points reach. What it opens, it opens when it is needed, and closes."""

        session = self.aws(migration)

        def files(to: str) -> PointFiles:
            if to.startswith("s3://"):
                return S3Files(session, to, migration.name)
            return DirectoryFiles(to, migration.name)

        @contextmanager
        def database(name: str) -> Iterator[MongoDatabase]:
            with closing(MongoDatabase(self.mongo_uri, name)) as opened:
                yield opened

        return PointPorts(
            database=database,
            files=files,
            backups=DynamoBackups(session),
            snapshots=ExternalSnapshots(session),
            tools=ProcessTools(self.mongo_uri),
        )


def clean_uri(uri: str) -> str:
    """The address without what a file or a secret's store puts around it: a line's end would become part of the password or the
    database. Raises ConfigError for white space within it, which no address holds."""
    stripped = uri.strip()
    if any(map(str.isspace, stripped)):
        what, advice = "holds white space", "write what belongs to the password as %20, and remove the rest"
        raise ConfigError("environment", [Problem(where=MONGO_URI, what=what, suggestion=advice)])
    return stripped


def connections_from_environment(migration: Migration) -> Connections:
    """DOCFERRY_MONGO_URI and the standard AWS variables. Raises ConfigError, saying what is not set."""
    uri = os.environ.get(MONGO_URI, "")
    if not uri.strip():
        raise ConfigError(
            "environment",
            [Problem(where=MONGO_URI, what="is not set", suggestion="mongodb://user:password@host/?replicaSet=…")],
        )
    try:
        session = boto3.Session(region_name=migration.target.region)
    except ProfileNotFound as error:
        raise ConfigError("environment", [Problem(where="AWS_PROFILE", what=str(error))]) from error
    return Connections(mongo_uri=uri, session=session)


HASTY = Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=1, read_timeout=2)
"""The ledger as a client asks it, several times a second: what takes longer is asked again."""


def connect(
    file: str | Path,
    metrics: Metrics | None = None,
    *,
    codec_options: CodecOptions[Any] | None = None,
    strict: Literal["dynamodb"] | None = None,
) -> DualWriteManager:
    """The client of a synchronous application, by DOCFERRY_MONGO_URI and the standard AWS variables.

    `codec_options` are pymongo's; without them it is what the URI says (tz_aware, uuidRepresentation).
    `strict="dynamodb"`, for tests and staging: what will be refused once DynamoDB leads is refused while MongoDB does.
    Raises: ConfigError; StoreError, if the ledger cannot be reached; PreflightFailed, if a collection was loaded by another
            mapping than the file has, or a table is another migration's.
    """
    made = _client(file, metrics, codec_options, strict)
    cache = SyncDaxCalls(made.open_dax) if made.open_dax else None
    manager = DualWriteManager(_routed(made, made.parts.calls, cache), made.shadow)
    made.parts.membership.join()
    return manager


async def connect_async(
    file: str | Path,
    metrics: Metrics | None = None,
    *,
    codec_options: CodecOptions[Any] | None = None,
    strict: Literal["dynamodb"] | None = None,
) -> AsyncDualWriteManager:
    """The client of an asynchronous application. As `connect`."""
    made = await asyncio.to_thread(_client, file, metrics, codec_options, strict)
    cache = AsyncDaxCalls(made.open_dax) if made.open_dax else None
    count = made.parts.membership.tally.count
    parts = _routed(made, CountedCalls(AsyncCalls(made.session), count), cache)
    beside = CircuitBreaker(CountedCalls(AsyncCalls(made.session, hurried.BACKOFF, hurried.TIMEOUT_S), count))
    parts = replace(parts, mongo=AsyncMongoCalls(made.uri, made.parts.mongo.where), beside=made.whole(beside))
    manager = AsyncDualWriteManager(parts, made.shadow)
    await asyncio.to_thread(made.parts.membership.join)
    return manager


def _routed(made: _Client, plain: DynamoCalls, cache: DynamoCalls | None) -> ClientContext:
    """The parts with these calls, and a cache before them once DynamoDB leads; what has parts is whole in front of both."""
    parts = made.parts
    if cache is None:
        return replace(parts, calls=made.whole(plain))

    def leads() -> bool:
        return parts.membership.state.leader.dynamodb_leads

    routed, lists = RoutedCalls(plain, cache, leads), RoutedCalls(plain, cache, leads, lists=True)
    return replace(parts, calls=made.whole(routed), cached=made.whole(lists))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    """Blocking parts, and what asynchronous calls are made of."""

    parts: ClientContext
    shadow: Shadow
    uri: str = field(repr=False)
    session: boto3.Session = field(repr=False)
    whole: Callable[[DynamoCalls], DynamoCalls]
    """Makes calls whose items are whole, where some may have parts."""
    open_dax: Callable[[], Any] | None


def _client(
    file: str | Path, metrics: Metrics | None, codec_options: CodecOptions[Any] | None, strict: str | None
) -> _Client:
    if strict not in (None, "dynamodb"):
        problem = Problem(where="strict", what=f"is {strict!r}", suggestion='write strict="dynamodb", or leave it out')
        raise ConfigError("connect", [problem])
    use_tracing()
    migration = load_migration(file)
    connections = connections_from_environment(migration)
    session = connections.aws(migration)

    def ledger() -> DynamoLedger:
        return DynamoLedger(session, migration.ledger.table, migration.name, HASTY)

    require_mapping(migration, ledger())
    require_owned(migration, ledger())

    def journal() -> DynamoJournal:
        return DynamoJournal(session, migration.ledger.journal_table, migration.name, HASTY)

    indexes = indexes_digest(migration.collections)
    membership = Membership(ledger, who, open_journal=journal, region=migration.target.region, indexes=indexes)
    count, layouts = membership.tally.count, part_layouts(migration.layouts)
    objects = connections.part_objects(migration)

    def whole(calls: DynamoCalls) -> DynamoCalls:
        inner = ObjectCalls(calls, layouts, objects) if objects is not None else calls
        return PartCalls(inner, layouts, count) if layouts else calls

    parts = ClientContext(
        migration=migration.name,
        journal=migration.ledger.journal_table,
        mappings=migration.mappings,
        patterns=migration.access_patterns,
        mongo=SyncMongoCalls(connections.mongo_uri, migration.namespaces),
        calls=CountedCalls(SyncCalls(session), count),
        beside=whole(CircuitBreaker(CountedCalls(SyncCalls(session, hurried.BACKOFF, hurried.TIMEOUT_S), count))),
        membership=membership,
        metrics=Metered(metrics or _metrics_of(migration, connections), membership),
        border=TypeBorder(codec_options or codec_options_of(connections.mongo_uri)),
        waived_unique=migration.cutover.waived_unique,
        strict=strict is not None,
    )
    return _Client(
        parts=parts,
        shadow=Shadow(parts, migration.validate.masked, replicated_by(ledger)),
        uri=connections.mongo_uri,
        session=session,
        whole=whole,
        open_dax=opener(session, migration.dax, migration.target.region) if migration.dax else None,
    )


def _metrics_of(migration: Migration, connections: Connections) -> Metrics:
    """CloudWatch, where the file says so; else OpenTelemetry, where its API is."""
    settings = migration.monitoring
    if settings is None or not settings.application:
        return default_metrics()
    sink = CloudWatchMetrics(connections.aws(migration), migration.target.region)
    return SummedMetrics(migration.name, sink, settings.every_s)


def who(name: str = "") -> Identity:
    """This process, for leases."""
    return identity(name)


def desired(migration: Migration, *, final: bool = False) -> DesiredEstate:
    """What AWS should hold for a migration. `final`: it is over, and a global table's stream is free for functions."""
    tables, ledger, target = migration.tables, migration.ledger, migration.target
    owner = owner_tag(migration.name, ledger.table)
    made = desired_estate(
        tables, ledger, target, migration.dax, journal=migration.cutover.journal, owner=migration.name,
        around=around(migration.name, tables, target, migration.estate, final=final, owner=owner),
    )  # fmt: skip
    imports = migration.backfill.strategy == "import"
    return replace(made, imported=frozenset(table.name for table in tables)) if imports else made
