"""What a migration file says, as frozen values. `config` makes them; all rooms read them.

Nothing here holds a secret: connections are names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Billing = Literal["on_demand", "provisioned"]
Unmapped = Literal["keep", "drop", "refuse"]
FieldOrder = Literal["keep", "ignore"]
Fence = Literal["auto", "write_block", "revoke"]
"""How MongoDB itself can be made to refuse writes; `auto` takes the one that will hold."""
PointMethod = Literal["dump", "mongodump", "snapshot"]
Channel = Literal["slack", "sns", "smtp"]
Occasion = Literal["approval", "failure", "hold"]
KeyType = Literal["S", "N", "B"]
Projection = Literal["ALL", "KEYS_ONLY", "INCLUDE"]
Overflow = Literal["compress", "split", "s3"]
"""What becomes of an item over 400 KB; without a word its document is a dead letter."""


class _Strict:
    """Tells the file's reader to refuse keys that are no field; nothing else looks at it."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings(_Strict):
    """MongoDB. `connection` is an Airflow connection id; the CLI takes DOCFERRY_MONGO_URI."""

    connection: str = "mongo_default"
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings(_Strict):
    """AWS. Replicas are regions; they are added after the load, because bulk puts refuse global tables.

    `account`: twelve digits; credentials of another account are refused before anything is asked of it. '' is any.
    `scratch`: the whole of it may be removed again (`docferry destroy`). `objects`: `s3://bucket/prefix`, for `overflow: s3`.
    """

    connection: str = "aws_default"
    region: str = "us-east-1"
    account: str = ""
    replicas: tuple[str, ...] = ()
    scratch: bool = False
    objects: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity(_Strict):
    """Provisioned throughput in units per second, with the autoscaling range and target in percent (None: fixed)."""

    read_units: int
    write_units: int
    max_read_units: int | None = None
    max_write_units: int | None = None
    target_percent: int = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmThroughputSettings(_Strict):
    """Units a second that a table and its indexes bear at once, from the beginning on. It only ever rises, and is charged."""

    read_units: int
    write_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAttribute(_Strict):
    """A key attribute as DynamoDB knows it."""

    name: str
    type: KeyType = "S"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDesign(_Strict):
    """The key attributes of a table or an index. `SK` None: it has no sort key."""

    PK: KeyAttribute
    SK: KeyAttribute | None = None

    @property
    def attributes(self) -> tuple[KeyAttribute, ...]:
        return (self.PK,) if self.SK is None else (self.PK, self.SK)


PLAIN_KEY = KeyDesign(PK=KeyAttribute(name="PK"), SK=KeyAttribute(name="SK"))
"""What a table has whose file does not say its key attributes."""


def plain_index_key(index: str) -> KeyDesign:
    """The same of index `X`: XPK and XSK."""
    return KeyDesign(PK=KeyAttribute(name=f"{index}PK"), SK=KeyAttribute(name=f"{index}SK"))


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings(_Strict):
    """A global secondary index. `include`: what INCLUDE projects besides the keys of index and table."""

    key: KeyDesign
    projection: Projection = "ALL"
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDesign(_Strict):
    """What the file says of a table, under its name, besides its keys and indexes.

    `shared`: other migrations of the same ledger may keep items in it, too, under keys that none of this one's can be.
    """

    billing: Billing = "on_demand"
    capacity: Capacity | None = None
    pitr: bool = True
    encryption: Literal["KMS", "AWS_OWNED"] = "KMS"
    kms_key: str | None = None
    stream: bool = True
    deletion_protection: bool = True
    ttl_attribute: str = "_ttl"
    tags: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    contributor_insights: bool = False
    warm_throughput: WarmThroughputSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings(TableDesign):
    """One DynamoDB table. `indexes` are its indexes' names; `designs` holds those that are not plain.

    A plain index `X` has the keys XPK and XSK, both texts, and projects all attributes.
    """

    name: str
    key: KeyDesign = PLAIN_KEY
    indexes: tuple[str, ...] = ()
    designs: Mapping[str, IndexSettings] = field(default_factory=dict)

    def design(self, index: str) -> IndexSettings:
        """How an index is made, whether the file says so or not."""
        return self.designs.get(index) or IndexSettings(key=plain_index_key(index))


@dataclass(frozen=True, slots=True, kw_only=True)
class DaxSettings(_Strict):
    """A DAX cluster. Subnets, security groups and the role must exist; the two groups are created if missing."""

    cluster: str
    node_type: str = "dax.r5.large"
    nodes: int = 3
    subnet_group: str
    subnets: tuple[str, ...] = ()
    parameter_group: str = "default.dax1.0"
    parameters: Mapping[str, str] = field(default_factory=dict)
    security_groups: tuple[str, ...]
    role_arn: str
    encryption: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings(_Strict):
    """The table that remembers everything that must survive a crash."""

    table: str = "DocferryLedger"

    @property
    def journal_table(self) -> str:
        """Where the application's processes have their journals while DynamoDB leads."""
        return f"{self.table}Journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillSettings(_Strict):
    """How hard and how carefully to load.

    Documents a chunk, a page; tasks a collection at most; write units a second in total, indexes included (None: what
    new tables begin with, 0: no limit). A run fails when more than `dead_letter_share` of a collection's documents,
    and more than `dead_letter_count` (or a fifth of a small collection), are dead letters. `late_writes_s`: how long,
    after it was signed, a request without an answer may still be carried out: AWS's own limit, not an emulator's.
    `strategy` import makes new tables of rows below `import_to` (s3://bucket/prefix).
    """

    chunk_documents: int = 250_000
    page_documents: int = 1_000
    max_tasks: int = 200
    budget_wcu: int | None = None
    dead_letter_share: float = 0.01
    dead_letter_count: int = 25
    lease_s: float = 60.0
    concurrency: int = 24
    late_writes_s: float = 900.0
    strategy: Literal["batch", "import"] = "batch"
    import_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateSettings(_Strict):
    """What a validation report shows. `masked` names document paths whose values stay out of it.

    `settle_s`: how long something must stay different, after replication has passed it, until it is a mismatch.
    `budget_rcu`: read units a second that validation, repair, purge, their dry runs and reverse replication together take from
    DynamoDB (None: a quarter of what the smallest table has, 0: no limit).
    """

    masked: tuple[str, ...] = ()
    first_differences: int = 100
    settle_s: float = 30.0
    schedule: str | None = "0 2 * * *"
    budget_rcu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFence(_Strict):
    """A fence that a command of yours closes and opens, where MongoDB has no command for it (docs/cutover.md).

    `external`: the command and its arguments; it is run without a shell, with one more argument. `quiet_s`: for so long no client
    but docferry may have written, once the command says that the fence is closed. `within_s`: how long one run may take.
    """

    external: tuple[str, ...]
    quiet_s: float = 10.0
    within_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverSettings(_Strict):
    """Changing who leads. Users are `<database>.<name>` (without a database: of admin).

    `fence`: how MongoDB is made to refuse the application's writes; revocation takes roles from `app_users`, who are all
    that the application logs in as. Writes wait `hold_s` seconds at most, of which the last `drain_s` are kept for what comes
    after the fence. Transactions in the fence's way are waited for, and with `kill_transactions` killed after half of the
    time. `waived_writers` and `waived_readers` (users, or appNames) may go on using MongoDB, knowingly.
    `watch_s`: so long the database that led before is watched at least, after each change of leader: a request may be carried out
    15 minutes after it was signed, and DynamoDB's streams tell of it some time later.
    `waived_unique` are unique indexes (`<collection>.<field>`, several fields joined by `,`) that nothing enforces once
    DynamoDB leads. `journal`: each write of a leading DynamoDB has an entry in table `<ledger.table>Journal`, which proves the
    way back; without it the way back is not proved.
    `approvers`: the users whose approvals count, by the names that Airflow knows them by (none: all count). `four_eyes`: a phase
    needs the approvals of two persons.
    """

    app_users: tuple[str, ...] = ()
    kill_transactions: bool = False
    hold_s: float = 10.0
    drain_s: float = 4.0
    watch_s: float = 1_020.0
    fence: Fence | ExternalFence = "auto"
    waived_writers: tuple[str, ...] = ()
    waived_readers: tuple[str, ...] = ()
    waived_unique: tuple[str, ...] = ()
    journal: bool = True
    approvers: tuple[str, ...] = ()
    four_eyes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPointSettings(_Strict):
    """Rollback points of MongoDB; DynamoDB's tables are backed up by DynamoDB itself.

    `method`: `dump` is docferry's own, for less than a gigabyte; `mongodump` runs that program; `snapshot` takes the name of
    one that was made elsewhere. `to` is where the first two put their files: an absolute path or `s3://bucket/prefix`.
    """

    method: PointMethod = "dump"
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings(_Strict):
    """Metrics of the migration in CloudWatch's namespace MongoDB-Migration.

    `cloudwatch`: flows publish. `application`: so does each of the application's processes, in a thread beside its calls, unless
    it gives `connect` other metrics. `every_s`: how often.
    """

    cloudwatch: bool = True
    application: bool = False
    every_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings(_Strict):
    """Whom Airflow tells, and when: that an approval is asked for, that a task has failed for good, that a hold was overdue.

    `to` is a channel (slack), a topic's ARN (sns) or an address (smtp); `connection` an Airflow connection, the provider's
    usual one if there is none.
    """

    by: Channel
    to: str
    connection: str = ""
    when: tuple[Occasion, ...] = ("approval", "failure", "hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSettings:
    """One kind of item. Templates are source text here; `core.mapping` compiles them.

    `attributes` maps attribute name -> dotted document path. `types` maps attribute name -> declared type.
    `index` maps index name -> {"PK": template, "SK": template}, `when` index name -> {path: value},
    or in place of the value several in a tuple, of which one is enough, or {"exists": whether the field is there}.
    """

    entity: str
    key: Mapping[str, str]
    index: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    when: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformSettings(_Strict):
    """A transform of the user's own: `use` is `module:name` of a `docferry.Transform`.

    `version` goes up when its functions change: what is stored was made by those before, so that the collection is loaded again.
    """

    use: str
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueSettings(_Strict):
    """A unique index of MongoDB that is kept by guard items. `key` is the index's: fields, with their directions.

    `partial` is its filter, as MongoDB's query language has it (values that JSON has not: as extended JSON); None: it has none.
    """

    name: str
    key: Mapping[str, int]
    sparse: bool = False
    partial: Mapping[str, Any] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings(_Strict):
    """Whether a query that no key leads to may read all items of the table, and how many read units one such query may use up."""

    allowed: bool
    most_read_units: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """One MongoDB collection and how its documents become items. `children` maps array field -> its items.

    `database` and `collection` say where it is if that is another database than the file's own; else both are empty.
    `key` and, of indexes that do not have the plain ones, `index_keys` are the key attributes of its table. `without_kind` are
    the indexes that do not project `entityType`: what they name is told apart in the table. `unique` are MongoDB's unique indexes
    that are kept. `scan` None: as not allowed. `filter`: which of its documents are migrated, as the file has it; empty: all.
    `order` says whether the fields of subdocuments keep their order.
    """

    name: str
    database: str = ""
    collection: str = ""
    table: str
    item: ItemSettings
    children: Mapping[str, ItemSettings] = field(default_factory=dict)
    unmapped: Unmapped = "keep"
    generic: bool = False
    index_names: tuple[str, ...] = ()
    ttl_attribute: str = "_ttl"
    key: KeyDesign = PLAIN_KEY
    index_keys: Mapping[str, KeyDesign] = field(default_factory=dict)
    without_kind: frozenset[str] = frozenset()
    transform: TransformSettings | None = None
    unique: tuple[UniqueSettings, ...] = ()
    scan: ScanSettings | None = None
    overflow: Overflow | None = None
    filter: Mapping[str, Any] = field(default_factory=dict)
    order: FieldOrder = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPattern:
    """A named query that the application relies on."""

    name: str
    collection: str
    key: Mapping[str, str]
    index: str | None = None
