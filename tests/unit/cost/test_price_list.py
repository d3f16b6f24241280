"""Prices from AWS's public price list: its published shape on a local stand-in, what it says and what it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docferry.cli.main import main
from docferry.config.price_book import load_price_book, price_book_text
from docferry.core.cost.price_list import read_offer, refreshed
from docferry.core.cost.prices import price_book_of
from docferry.errors import ConfigError

BOOK = load_price_book()
Usage = list[tuple[float, float]]
EUC1: dict[str, Usage] = {
    "EUC1-ReadRequestUnits": [(0, 0.0000001525)],
    "EUC1-WriteRequestUnits": [(0, 0.0000007625)],
    "EUC1-ReplWriteRequestUnits": [(0, 0.0000007625)],
    "EUC1-IA-ReadRequestUnits": [(0, 0.00000019)],
    "EUC1-IA-WriteRequestUnits": [(0, 0.00000095)],
    "EUC1-ReadCapacityUnit-Hrs": [(0, 0.0), (18600, 0.0001586)],
    "EUC1-WriteCapacityUnit-Hrs": [(0, 0.0), (18600, 0.000793)],
    "EUC1-ReplWriteCapacityUnit-Hrs": [(0, 0.0), (18600, 0.000793)],
    "EUC1-IA-ReadCapacityUnit-Hrs": [(0, 0.000198)],
    "EUC1-IA-WriteCapacityUnit-Hrs": [(0, 0.000991)],
    "EUC1-TimedStorage-ByteHrs": [(0, 0.0), (25, 0.306)],
    "EUC1-IA-TimedStorage-ByteHrs": [(0, 0.1224)],
    "EUC1-TimedPITRStorage-ByteHrs": [(0, 0.2448)],
    "EUC1-TimedBackupStorage-ByteHrs": [(0, 0.1224)],
    "EUC1-RestoreDataSize-Bytes": [(0, 0.1836)],
    "EUC1-ExportDataSize-Bytes": [(0, 0.1224)],
    "EUC1-ImportDataSize-Bytes": [(0, 0.1836)],
    "EUC1-Streams-Requests": [(0, 0.0), (2500000, 0.000000245)],
    "EUC1-ChangeDataCaptureUnits-Kinesis": [(0, 0.00000012)],
}
"""Made up, near what Frankfurt asks; the names are AWS's."""
NODES: dict[str, Usage] = {"EUC1-NodeUsage:dax.r5.large": [(0, 0.306)], "EUC1-NodeUsage:dax.t3.small": [(0, 0.046)]}


def offer(code: str, usages: Mapping[str, Usage]) -> dict[str, Any]:
    """An offer file as AWS publishes them."""
    products, on_demand = {}, {}
    for number, (usage, tiers) in enumerate(usages.items()):
        sku = f"SKU{number:013d}"
        products[sku] = {
            "sku": sku,
            "productFamily": "Amazon DynamoDB PayPerRequest Throughput",
            "attributes": {"servicecode": code, "location": "EU (Frankfurt)", "usagetype": usage, "operation": ""},
        }
        ends = [str(begin) for begin, _ in tiers[1:]] + ["Inf"]
        on_demand[sku] = {
            f"{sku}.JRTCKXETXF": {
                "offerTermCode": "JRTCKXETXF",
                "sku": sku,
                "effectiveDate": "2026-11-01T00:00:00Z",
                "priceDimensions": {
                    f"{sku}.JRTCKXETXF.{place}": {
                        "rateCode": f"{sku}.JRTCKXETXF.{place}",
                        "description": "…",
                        "beginRange": str(begin),
                        "endRange": end,
                        "unit": "x",
                        "pricePerUnit": {"USD": f"{usd:.10f}"},
                        "appliesTo": [],
                    }
                    for place, ((begin, usd), end) in enumerate(zip(tiers, ends, strict=True))
                },
                "termAttributes": {},
            }
        }
    return {
        "formatVersion": "v1.0",
        "disclaimer": "…",
        "offerCode": code,
        "version": "20261120000000",
        "publicationDate": "2026-11-20T18:01:02Z",
        "products": products,
        "terms": {"OnDemand": on_demand, "Reserved": {}},
    }


FRANKFURT = {
    "/offers/v1.0/aws/AmazonDynamoDB/current/eu-central-1/index.json": json.dumps(offer("AmazonDynamoDB", EUC1)),
    "/offers/v1.0/aws/AmazonDAX/current/eu-central-1/index.json": json.dumps(offer("AmazonDAX", NODES)),
}


@contextmanager
def price_list(files: Mapping[str, str], status: int = 200) -> Iterator[str]:
    """A local stand-in for pricing.us-east-1.amazonaws.com."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else status)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refresh(url: str, directory: Path, *more: str) -> Any:
    given = ["--refresh-prices", "--region", "eu-central-1", "--price-list", url, "--out", str(directory), *more]
    return CliRunner().invoke(main, ["cost", *given])


def test_a_book_is_written_from_the_published_list(tmp_path: Path) -> None:
    with price_list(FRANKFURT) as url:
        told = refresh(url, tmp_path)
    assert told.exit_code == 0, told.output
    assert "write_request_million: 0.625 -> 0.7625" in told.output
    book = load_price_book(tmp_path / "prices-eu-central-1.yaml")
    assert (book.region, book.name) == ("eu-central-1", "eu-central-1, list prices")
    assert book.write_request_million == pytest.approx(0.7625)
    assert book.infrequent_read_million == pytest.approx(0.19)
    assert (book.read_capacity_hour, book.write_capacity_hour) == (0.0001586, 0.000793)
    assert (book.storage_gb_month, book.free_storage_gb) == (0.306, 25)
    assert book.stream_read_100k == pytest.approx(0.0245)
    assert book.free_stream_reads_million == 2.5
    assert book.dax_node_hour == {"dax.r5.large": 0.306, "dax.t3.small": 0.046}


def test_a_book_says_what_of_it_is_new_and_what_is_kept(tmp_path: Path) -> None:
    with price_list(FRANKFURT) as url:
        refresh(url, tmp_path)
    source = load_price_book(tmp_path / "prices-eu-central-1.yaml").source
    assert "AmazonDynamoDB of 2026-11-20, AmazonDAX of 2026-11-20" in source
    assert f"kept of {BOOK.title} (us-east-1): " in source
    kept = source.partition("kept of")[2]
    assert all(name in kept for name in ("transfer_out_gb", "instance_hour", "backup_cold_gb_month"))
    assert "write_request_million" not in kept


def test_a_region_without_dax_keeps_the_nodes_of_the_old_book(tmp_path: Path) -> None:
    only = {path: body for path, body in FRANKFURT.items() if "DAX" not in path}
    with price_list(only) as url:
        assert refresh(url, tmp_path).exit_code == 0
    book = load_price_book(tmp_path / "prices-eu-central-1.yaml")
    assert book.dax_node_hour == BOOK.dax_node_hour
    assert "dax_node_hour" in book.source


@pytest.mark.parametrize(
    ("files", "status", "code", "said"),
    [
        ({}, 200, 2, "has no AmazonDynamoDB for the region eu-central-1"),
        (FRANKFURT, 503, 4, "503"),
        ({next(iter(FRANKFURT)): "<html>"}, 200, 2, "is no price list"),
        ({next(iter(FRANKFURT)): '{"offerCode": "x"}'}, 200, 2, "is no price list"),
        ({next(iter(FRANKFURT)): json.dumps(offer("AmazonDynamoDB", {}))}, 200, 2, "says nothing of"),
    ],
)
def test_what_is_no_price_list_leaves_no_book(
    files: Mapping[str, str], status: int, code: int, said: str, tmp_path: Path
) -> None:
    with price_list(files, status) as url:
        told = refresh(url, tmp_path)
    assert told.exit_code == code, told.output
    assert said in told.output.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = refresh("http://127.0.0.1:1", tmp_path)
    assert told.exit_code == 4
    assert "cannot be read" in told.output


def test_us_east_1_is_read_with_and_without_its_prefix() -> None:
    plain = {usage.removeprefix("EUC1-"): tiers for usage, tiers in EUC1.items()}
    prefixed = {f"USE1-{usage}": tiers for usage, tiers in plain.items()}
    found = [read_offer(offer("AmazonDynamoDB", usages), "x").prices for usages in (plain, prefixed, EUC1)]
    assert found[0] == found[1] == found[2]


def test_a_books_file_is_read_back_as_the_same_book() -> None:
    import yaml

    listed = read_offer(offer("AmazonDynamoDB", EUC1), "x")
    book = refreshed(replace(BOOK, atlas_hour={"M40": 1.04}), "eu-central-1", [listed], "2026-11-29")
    assert price_book_of(yaml.safe_load(price_book_text(book)), "x") == book


def test_a_list_in_another_currency_is_refused() -> None:
    text = json.dumps(offer("AmazonDynamoDB", EUC1)).replace('"USD"', '"CNY"')
    with pytest.raises(ConfigError):
        read_offer(json.loads(text), "x")
