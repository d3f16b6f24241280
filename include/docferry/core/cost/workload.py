"""What is asked of the tables in a month: the input of every price. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

HOURS_A_MONTH = 730.0
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
ITEM_OVERHEAD_BYTES = 100
"""What DynamoDB adds to each item, and to each item in an index, when it counts storage.
Source: AWS, "DynamoDB item sizes and formats", read 2026-11-22."""
GB = 1e9
FLAT_DAY = (1.0,) * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLoad:
    """One global secondary index. `bytes_in`: what it holds of one item; `share`: of the items, how many are in it (0 to 1);
    `changed`: of the writes, how many change what the index holds (0 to 1); `moved`: of the writes, how many change its key.
    `put_units`: of one put, as measured (0: from `bytes_in`). `read_units`: of all reads of this index in a month.
    """

    name: str
    bytes_in: float
    share: float = 1.0
    changed: float = 1.0
    moved: float = 0.0
    put_units: float = 0.0
    read_units: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Provisioned capacity of a table, and of each of its indexes: units a second from `least` to `most`, (reads, writes).
    Where `most` is `least` it is fixed. `target`: the utilization that autoscaling aims at (0 to 1)."""

    least: tuple[float, float] = (1.0, 1.0)
    most: tuple[float, float] = (40_000.0, 40_000.0)
    target: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLoad:
    """One table. Items and sizes are averages over the month, writes and reads are totals of the month.

    `day`: how the traffic lies over the 24 hours of a day, in any unit (only the shape counts). `strong`: the share of
    the reads that are strongly consistent. `transactional`: the share of the writes that are in a transaction.
    `read_bytes`: what one read returns or passes over (0: one item).
    `put_units`, `get_units`, `write_units`, `read_units`: mean units of one item's plain put, of one item's consistent get, of
    one write and of one read, as measured:
    they count instead of what follows from the mean size, which is less, because each item is rounded up by itself.
    `reads_a_write`: mean read units that one write takes, because it looks first.
    `dual_units`, `follow_units`: the same of the dual put of one write, and of what replication puts for it.
    `infrequent`: the class Standard-IA. `scaling`: how capacity is provisioned, where the file says so.
    """

    name: str
    items: float
    item_bytes: float
    writes: float
    reads: float
    read_bytes: float = 0.0
    strong: float = 0.0
    transactional: float = 0.0
    put_units: float = 0.0
    get_units: float = 0.0
    write_units: float = 0.0
    read_units: float = 0.0
    reads_a_write: float = 0.0
    dual_units: float = 0.0
    follow_units: float = 0.0
    indexes: Sequence[IndexLoad] = ()
    day: Sequence[float] = field(default=FLAT_DAY, repr=False)
    pitr: bool = True
    infrequent: bool = False
    scaling: Scaling | None = None
    stream_reads: float = 0.0
    """GetRecords calls in a month; Lambda's and those of global tables are free and do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateLoad:
    """Everything that is paid for in a month once DynamoDB leads. `backup_gb` is kept warm, `backup_cold_gb` cold."""

    tables: Sequence[TableLoad]
    replicas: int = 0
    dax_node: str = ""
    dax_nodes: int = 0
    backup_gb: float = 0.0
    backup_cold_gb: float = 0.0
    transfer_out_gb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """`usd` a month (or once), and how it comes about: `quantity` of `unit` at `price` each."""

    what: str
    usd: float
    quantity: float
    unit: str
    price: float
    note: str = ""


def cost_line(what: str, quantity: float, unit: str, price: float, note: str = "") -> CostLine:
    """So much of something at a price each."""
    return CostLine(what=what, usd=quantity * price, quantity=quantity, unit=unit, price=price, note=note)
