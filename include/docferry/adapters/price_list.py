"""AWS's Price List (bulk API): public files over HTTPS; no credentials are asked for, and nothing is told."""

from __future__ import annotations

import json
from typing import Any

import urllib3

from docferry.errors import ConfigError, Problem, Unavailable

ADDRESS = "https://pricing.us-east-1.amazonaws.com"
MOST_BYTES = 64 * 2**20
"""DynamoDB's file of one region is under a megabyte; a list that is larger than this is another one."""
TIMEOUT = urllib3.Timeout(connect=10, read=60)


def fetch_offer(offer: str, region: str, address: str = ADDRESS) -> Any:
    """The offer file of one service in one region, as JSON.

    Raises: Unavailable, if it cannot be had; ConfigError, if the region has none or it is no JSON.
    """
    url = f"{address.rstrip('/')}/offers/v1.0/aws/{offer}/current/{region}/index.json"
    try:
        with urllib3.PoolManager(timeout=TIMEOUT, retries=urllib3.Retry(3, backoff_factor=0.5)) as pool:
            reply = pool.request("GET", url, preload_content=False)
            data = reply.read(MOST_BYTES + 1)
            reply.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"{url} cannot be read: {type(error).__name__}", operation="price list") from error
    if reply.status in (403, 404):
        what = f"has no {offer} for the region {region} ({url} answered {reply.status})"
        raise ConfigError("price list", [Problem(where=region, what=what, suggestion="give --price-book by hand")])
    if reply.status != 200:
        raise Unavailable(f"{url} answered {reply.status}", operation="price list")
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return json.loads(data)
    except ValueError as error:
        raise ConfigError("price list", [Problem(where=url, what=f"is no price list: {error}")]) from error
