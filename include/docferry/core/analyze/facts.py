"""What an analysis knows: values without behaviour. Shares are from 0 to 1, sizes are bytes, times are milliseconds.

Nothing here holds a value of a document: examples are masked, heavy values are named by a digest unless they are public
(a status, a country) by being few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution: of sizes, lengths, or fan-outs."""

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeavyValue:
    """A value that many documents share. `shown` is the value itself where a field has few values, else a masked form."""

    shown: str
    share: float


Looks = Literal["date", "number", "e-mail", "money", "uuid", "object id", "url"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFacts:
    """One path of the documents: `a.b`; `a[]` for what stands in an array; `a.*` where names are data.

    `present`: of the documents (for a path below an array or object: of those that hold it), how many have it. `types`:
    share of each BSON type among what is there. `distinct`: an estimate over the sample. `repeated`: of the sampled
    values, how many occur more than once, as far as it was counted.
    """

    path: str
    present: float
    types: Mapping[str, float]
    distinct: int = 0
    values: int = 0
    null: float = 0.0
    empty: float = 0.0
    heavy: Sequence[HeavyValue] = ()
    looks: Mapping[Looks, float] = field(default_factory=dict)
    lengths: Spread | None = None
    """Of arrays: how many elements."""
    grows: bool = False
    """Of arrays: documents that are older have clearly longer ones."""
    longest: int = 0
    """Bytes of the longest text."""
    repeats: int = 0
    """Of a field that looks like an identifier: how many of its values are in several documents, counted by the server."""
    negative: bool = False
    fractional: bool = False
    examples: Sequence[str] = ()

    @property
    def unique(self) -> bool:
        """Whether no value was seen twice, as far as an estimate within 2 % can tell."""
        return self.values > 0 and self.distinct >= 0.975 * self.values

    @property
    def type(self) -> str:
        """The usual type, null aside; '' if there is none."""
        known = {name: share for name, share in self.types.items() if name not in ("null", "undefined")}
        return max(known, key=known.__getitem__) if known else ""

    @property
    def mixed(self) -> bool:
        """Whether values of several types (int and double are one: numbers) stand here."""
        families = {"number" if name in NUMBERS else name for name in self.types if name not in ("null", "undefined")}
        return len(families) > 1


NUMBERS = frozenset({"int", "long", "double", "decimal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """One index of MongoDB. `keys`: field -> 1, -1, 'text', '2dsphere', 'hashed', ... `uses`: since `since`, None if not
    known."""

    name: str
    keys: Sequence[tuple[str, str]]
    unique: bool = False
    sparse: bool = False
    partial: bool = False
    partial_filter: str = ""
    """Of a partial one: its filter, as extended JSON."""
    ttl_s: int | None = None
    collation: bool = False
    uses: int | None = None
    since: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.keys)

    @property
    def plain(self) -> bool:
        """Whether it is an ordinary index: ascending or descending fields only."""
        return all(kind in ("1", "-1") for _, kind in self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryShape:
    """Calls that look alike, without their values. Times and counts are totals."""

    collection: str
    kind: Literal["find", "count", "distinct", "aggregate", "insert", "update", "delete", "findAndModify"]
    equality: Sequence[str] = ()
    range: Sequence[str] = ()
    other: Sequence[str] = ()
    """Fields under operators that no key answers: `$regex`, `$ne`, `$nin`, `$text`, ..."""
    sort: Sequence[tuple[str, int]] = ()
    sets: Sequence[str] = ()
    """Of updates: the fields that are changed."""
    many: bool = False
    limit: bool = False
    calls: int = 1
    ms: float = 0.0
    examined: int = 0
    returned: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Values of `collection`.`path` are values of `target`.`target_path`. `hits`: of the values tried, how many are there.
    `fan_out`: how many documents hold one value."""

    collection: str
    path: str
    target: str
    target_path: str
    tried: int
    hits: float
    fan_out: Spread
    many: bool = False
    """Whether the values stand in an array: many to many, or a list of children's ids."""


Severity = Literal["blocks", "decide", "know"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """What does not fit, or costs much. `blocks`: cannot be migrated so; `decide`: a person must choose; `know`: good to
    know. `evidence` says how much of it there is."""

    severity: Severity
    collection: str
    subject: str
    what: str
    evidence: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionFacts:
    """Everything that was found out about one collection."""

    name: str
    kind: str
    """collection, view, timeseries"""
    capped: bool = False
    documents: int = 0
    average_bytes: float = 0.0
    storage_bytes: int = 0
    index_bytes: int = 0
    sampled: int = 0
    complete: bool = False
    """Whether every document was read."""
    paths: Sequence[PathFacts] = ()
    paths_left_out: int = 0
    item_bytes: Spread = field(default_factory=Spread)
    over_item_limit: float = 0.0
    unstorable: Mapping[str, int] = field(default_factory=dict)
    """Documents of the sample that DynamoDB cannot hold under the generic mapping, by reason."""
    indexes: Sequence[IndexFacts] = ()
    shapes: Sequence[QueryShape] = ()
    reads_s: float | None = None
    writes_s: float | None = None
    read_ms: float | None = None
    write_ms: float | None = None
    validator: bool = False

    def path(self, name: str) -> PathFacts | None:
        return next((one for one in self.paths if one.path == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFact:
    """A source of facts that this user may not use: what it would have added, and what grants it."""

    source: str
    adds: str
    grant: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """A database as it was found."""

    database: str
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Collections of other databases: their name here -> (database, collection)."""
    server: str
    began: str
    seconds: float
    documents_read: int
    bytes_read: int
    yielded_s: float
    server_bytes: int = 0
    """Of documents that the server counted or grouped for the analysis, without sending them."""
    earlier: int = 0
    """Collections whose facts are those of an earlier run that was cut short."""
    uncounted: Sequence[str] = ()
    """Fields that look like identifiers of which it was not counted whether they repeat: the budget did not reach."""
    collections: Sequence[CollectionFacts] = ()
    references: Sequence[Reference] = ()
    missing: Sequence[MissingFact] = ()
    stopped_early: str = ""
    """Which budget ended the reading before every collection had its sample; '' if none."""

    def collection(self, name: str) -> CollectionFacts | None:
        return next((one for one in self.collections if one.name == name), None)
