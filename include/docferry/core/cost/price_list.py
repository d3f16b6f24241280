"""AWS's Price List as it is published (the bulk API's offer files), read into the prices of a book. Pure.

An offer file has `products` {sku: {attributes: {usagetype, operation, ...}}} and `terms.OnDemand` {sku: {offer: {priceDimensions:
{rate: {beginRange, endRange, unit, pricePerUnit: {USD}}}}}}. A usage type may begin with its region: `EUC1-WriteRequestUnits`.
Sources: AWS, "Understanding your AWS billing and usage reports in DynamoDB" (usage types), read 2026-11-29; the form of an offer
file as programs that read it have it in public repositories: it was not fetched from AWS here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from docferry.core.cost.prices import PriceBook
from docferry.errors import ConfigError, Problem

DYNAMODB, DAX = "AmazonDynamoDB", "AmazonDAX"
_TIMES = {
    "ReadRequestUnits": ("read_request_million", 1e6),
    "WriteRequestUnits": ("write_request_million", 1e6),
    "ReplWriteRequestUnits": ("replicated_write_million", 1e6),
    "IA-ReadRequestUnits": ("infrequent_read_million", 1e6),
    "IA-WriteRequestUnits": ("infrequent_write_million", 1e6),
    "ReadCapacityUnit-Hrs": ("read_capacity_hour", 1),
    "WriteCapacityUnit-Hrs": ("write_capacity_hour", 1),
    "IA-ReadCapacityUnit-Hrs": ("infrequent_read_capacity_hour", 1),
    "IA-WriteCapacityUnit-Hrs": ("infrequent_write_capacity_hour", 1),
    "TimedStorage-ByteHrs": ("storage_gb_month", 1),
    "IA-TimedStorage-ByteHrs": ("infrequent_storage_gb_month", 1),
    "TimedPITRStorage-ByteHrs": ("pitr_gb_month", 1),
    "TimedBackupStorage-ByteHrs": ("backup_warm_gb_month", 1),
    "RestoreDataSize-Bytes": ("restore_gb", 1),
    "ExportDataSize-Bytes": ("export_gb", 1),
    "ImportDataSize-Bytes": ("import_gb", 1),
    "Streams-Requests": ("stream_read_100k", 1e5),
}
"""Usage type without its region -> the price of a book, and how many units of the list are one of the book's."""
_FREE = {"TimedStorage-ByteHrs": ("free_storage_gb", 1), "Streams-Requests": ("free_stream_reads_million", 1e-6)}
"""Where the first tier is free: what it holds."""
_NODE = re.compile(r"NodeUsage:(dax\.[a-z0-9.]+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPrices:
    """What an offer file says: prices by the names of a book, nodes of DAX, and when it was published (YYYY-MM-DD)."""

    offer: str
    published: str
    prices: Mapping[str, float]
    nodes: Mapping[str, float]


def read_offer(tree: Any, source: str) -> ListedPrices:
    """Raises ConfigError for what is no offer file, or one whose prices are not in USD."""
    try:
        products, terms = tree["products"], tree["terms"]["OnDemand"]
        prices: dict[str, float] = {}
        nodes: dict[str, float] = {}
        for sku, product in products.items():
            usage = product["attributes"].get("usagetype", "")
            tiers = _tiers(terms.get(sku, {}))
            if tiers:
                _take(usage, tiers, prices, nodes)
        published = str(tree["publicationDate"])[:10]
        return ListedPrices(offer=str(tree["offerCode"]), published=published, prices=prices, nodes=nodes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"is no price list of AWS ({type(error).__name__}: {error})"
        raise ConfigError(source, [Problem(where="price list", what=what)]) from error


Tier = tuple[float, float]
"""Where it begins, and its price."""


def _tiers(offers: Mapping[str, Any]) -> list[Tier]:
    """Of one product, from the first unit on."""
    dimensions = [one for offer in offers.values() for one in offer["priceDimensions"].values()]
    return sorted((float(one.get("beginRange", 0)), float(one["pricePerUnit"]["USD"])) for one in dimensions)


def _take(usage: str, tiers: list[Tier], prices: dict[str, float], nodes: dict[str, float]) -> None:
    """The price beyond what is free is that of the first tier that costs something."""
    name = usage if usage in _TIMES else _without_region(usage)
    price = next((usd for _, usd in tiers if usd), 0.0)
    if name in _TIMES:
        field, times = _TIMES[name]
        if price or field not in prices:
            prices[field] = price * times
    if name in _FREE and price:
        field, times = _FREE[name]
        prices[field] = next((begins for begins, usd in tiers if usd), 0.0) * times
    if node := _NODE.search(usage):
        nodes[node[1]] = price


def _without_region(usage: str) -> str:
    """`USE1-IA-ReadRequestUnits` -> `IA-ReadRequestUnits`; only `IA-` is no region."""
    region, _, rest = usage.partition("-")
    return rest if region != "IA" and rest in _TIMES else usage


def refreshed(book: PriceBook, region: str, listed: list[ListedPrices], read_on: str) -> PriceBook:
    """The book with what the lists say, of that region and day; what they do not say is kept, and named in `source`.

    Raises: ConfigError if DynamoDB's list lacks what every book needs: then it is not what it seems.
    """
    prices = {name: value for one in listed for name, value in one.prices.items()}
    nodes = {name: value for one in listed for name, value in one.nodes.items()}
    missing = [field for field, _ in _TIMES.values() if field not in prices]
    if missing:
        what = f"says nothing of {', '.join(missing)} for {region}"
        raise ConfigError("price list", [Problem(where=DYNAMODB, what=what, suggestion="is the region's name right?")])
    kept = sorted(_kept(book, {*prices, *(["dax_node_hour"] if nodes else [])}))
    lists = ", ".join(f"{one.offer} of {one.published}" for one in listed)
    other = "" if book.region == region else f" ({book.region})"
    values = asdict(book) | prices | ({"dax_node_hour": nodes} if nodes else {})
    values |= {
        "name": f"{region}, list prices",
        "region": region,
        "date": read_on,
        "source": f"AWS Price List: {lists}; kept of {book.title}{other}: {', '.join(kept) or 'nothing'}",
    }
    return PriceBook(**values)


def _kept(book: PriceBook, new: set[str]) -> Iterator[str]:
    texts = {"name", "region", "date", "source"}
    yield from (name for name, value in asdict(book).items() if name not in texts | new and value not in ({}, None))
