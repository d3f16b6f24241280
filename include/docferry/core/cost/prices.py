"""A price book: what AWS asks in one region, on one day. A report names the book that it was computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from docferry.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Prices in USD. Requests are a million units, capacity is a unit and hour, storage is a GB (10^9 bytes) and month.

    `date` is the day on which the prices were read (YYYY-MM-DD), `source` says where. None: the price is not known, and
    what needs it is named in the report instead of being taken for 0.
    """

    name: str
    region: str
    date: str
    source: str
    write_request_million: float
    read_request_million: float
    replicated_write_million: float
    write_capacity_hour: float
    read_capacity_hour: float
    storage_gb_month: float
    free_storage_gb: float
    infrequent_write_million: float
    infrequent_read_million: float
    infrequent_storage_gb_month: float
    pitr_gb_month: float
    backup_warm_gb_month: float
    backup_cold_gb_month: float
    restore_gb: float
    export_gb: float
    import_gb: float
    stream_read_100k: float
    free_stream_reads_million: float
    transfer_out_gb: float
    replica_transfer_gb: float
    dax_node_hour: Mapping[str, float] = field(default_factory=dict)
    infrequent_write_capacity_hour: float | None = None
    infrequent_read_capacity_hour: float | None = None
    instance_hour: Mapping[str, float] = field(default_factory=dict)
    """EC2 instances that MongoDB usually runs on: for an estimate of today's bill where none is given."""
    block_storage_gb_month: float = 0.08
    """EBS gp3."""
    atlas_hour: Mapping[str, float] = field(default_factory=dict)
    """MongoDB Atlas, a replica set of three of a tier: for a bill that names tiers."""

    @property
    def title(self) -> str:
        """How a report names the book."""
        return f"{self.name}, of {self.date}"


def price_book_of(tree: Mapping[str, object], where: str) -> PriceBook:
    """A price book from what its file says.

    Raises: ConfigError with everything that is missing, unknown, or no price.
    """
    known = {one.name for one in fields(PriceBook)}
    needed = known - OPTIONAL
    problems = [Problem(where=name, what="is missing", suggestion="add it") for name in sorted(needed - tree.keys())]
    problems += [Problem(where=str(name), what="is not known here") for name in sorted(tree.keys() - known)]
    for name, value in tree.items():
        problems += [
            Problem(where=place, what="must be a number from 0 up")
            for place in _not_prices(name, value)
            if name in known
        ]
    if problems:
        raise ConfigError(where, problems)
    return PriceBook(**tree)  # type: ignore[arg-type]  # looked at above


TEXTS = {"name", "region", "date", "source"}
OPTIONAL = {
    "dax_node_hour",
    "instance_hour",
    "block_storage_gb_month",
    "atlas_hour",
    "infrequent_write_capacity_hour",
    "infrequent_read_capacity_hour",
}


def _not_prices(name: str, value: object) -> list[str]:
    if name in TEXTS:
        return [] if isinstance(value, str) else [name]
    if isinstance(value, Mapping):
        return [place for inner, one in value.items() for place in _not_prices(f"{name}.{inner}", one)]
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    return [] if fits else [name]
