"""Price books and MongoDB's bill, read from YAML."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from docferry.core.cost.prices import PriceBook, price_book_of
from docferry.core.cost.roi import MongoBill
from docferry.core.cost.workload import HOURS_A_MONTH
from docferry.errors import ConfigError, Problem

SHIPPED = Path(__file__).with_name("price_books") / "us-east-1.yaml"


def load_price_book(path: Path | None = None) -> PriceBook:
    """A price book; without a path the one that docferry ships. Raises ConfigError."""
    path = path or SHIPPED
    return price_book_of(_tree(path), str(path))


def price_book_text(book: PriceBook) -> str:
    """A book as its file."""
    head = "# Prices as AWS lists them, written by `docferry cost --refresh-prices`. Put your discounts in by hand.\n"
    return head + yaml.safe_dump({k: v for k, v in asdict(book).items() if v not in ({}, None)}, sort_keys=False)


def load_bill(path: Path | None, book: PriceBook | None = None) -> MongoBill | None:
    """MongoDB's bill of a month, amounts in USD. Parts within parts are added up under their names, a list is a list of parts:

    `{ec2: [{what: primary, instance: r5.2xlarge}, {instance: r5.xlarge, count: 2}], ebs: [{gb: 1000, count: 3}],
    atlas: [{tier: M40}], backups: 30}`

    A part has its amount (`usd`, of each), or an instance, a disk (`gb`) or a tier, which the `book` prices. Raises ConfigError
    with every part that is neither.
    """
    if path is None:
        return None
    reading = _Bill(book or load_price_book())
    reading.add("", _tree(path))
    if reading.problems or not reading.parts:
        raise ConfigError(str(path), reading.problems or [Problem(where="file", what="holds no amount")])
    return MongoBill(parts=reading.parts)


_PRICED = ("instance", "tier", "gb", "usd")


class _Bill:
    """What has been read of a bill."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self.parts: dict[str, float] = {}
        self.problems: list[Problem] = []

    def add(self, name: str, value: Any) -> None:
        if isinstance(value, dict) and any(key in value for key in _PRICED):
            self._part(name, value)
        elif isinstance(value, dict):
            for inner, one in value.items():
                self.add(f"{name}: {inner}" if name else str(inner), one)
        elif isinstance(value, list):
            for place, one in enumerate(value, 1):
                self.add(f"{name}: {place}", one)
        elif _amount(value):
            self.parts[name] = float(value)
        else:
            self.problems.append(Problem(where=name, what="must be an amount in USD, from 0 up"))

    def _part(self, name: str, value: dict[str, Any]) -> None:
        unknown = value.keys() - {*_PRICED, "what", "count", "type"}
        count, each = value.get("count", 1), self._each(name, value)
        if unknown:
            self.problems.append(Problem(where=name, what=f"{', '.join(sorted(map(str, unknown)))}: not known here"))
        elif not _amount(count):
            self.problems.append(Problem(where=f"{name}: count", what="must be a number from 0 up"))
        elif each is not None:
            shown = [value.get("what"), value.get("instance"), value.get("tier"), value.get("type")]
            label = ", ".join(str(one) for one in shown if one)
            self.parts[f"{name} ({label}) x {count:g}" if label else f"{name} x {count:g}"] = count * each

    def _each(self, name: str, value: dict[str, Any]) -> float | None:
        """USD a month of one; None with a problem noted."""
        if "usd" in value:
            found = value["usd"]
        elif "gb" in value:
            found = value["gb"] * self.book.block_storage_gb_month if _amount(value["gb"]) else None
        else:
            kind, prices = (
                ("instance", self.book.instance_hour) if "instance" in value else ("tier", self.book.atlas_hour)
            )
            asked = str(value[kind])
            if asked not in prices:
                known = ", ".join(sorted(prices)) or "none"
                what = f"the price book has no price for {asked}; it has {known}"
                self.problems.append(
                    Problem(where=name, what=what, suggestion="give its amount as usd, or add it to the book")
                )
                return None
            found = prices[asked] * HOURS_A_MONTH
        if _amount(found):
            return float(found)
        self.problems.append(Problem(where=name, what="must be an amount from 0 up"))
        return None


def _amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), [Problem(where="file", what=f"cannot be read: {type(error).__name__}")]) from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), [Problem(where="file", what="is empty or no mapping")])
    return tree
