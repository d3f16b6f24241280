"""What has been consumed beside what was forecast for as much work. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.cost.calls import Units
from docferry.core.cost.prices import PriceBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """One kind of work: capacity as DynamoDB told it, and as the model has it for the same work (None: it has none). `work`
    says how much that was, `untold` counts requests of which DynamoDB told no capacity."""

    what: str
    read_units: float
    write_units: float
    forecast_reads: float | None = None
    forecast_writes: float | None = None
    work: str = ""
    untold: int = 0

    def usd(self, book: PriceBook) -> float:
        """At on-demand prices."""
        return (self.read_units * book.read_request_million + self.write_units * book.write_request_million) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """All kinds of work that a migration has done so far."""

    book: str
    rows: Sequence[Consumed]
    usd: Sequence[float] = field(default=())

    @property
    def writes_beside_forecast(self) -> tuple[float, float]:
        """Write units of what there is a forecast for, and that forecast."""
        rows = [one for one in self.rows if one.forecast_writes is not None]
        return sum(one.write_units for one in rows), sum(one.forecast_writes or 0.0 for one in rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = Consumed.__dataclass_fields__
        rows = [
            {name: getattr(one, name) for name in names} | {"usd": usd}
            for one, usd in zip(self.rows, self.usd, strict=True)
        ]
        return {"book": self.book, "rows": rows, "usd": sum(self.usd)}

    def lines(self) -> list[str]:
        """What was written, beside the forecast, for a log or an end report; nothing where nothing was."""
        told = [
            f"{one.what}: {one.write_units:,.0f} write units, {usd:,.4f} USD on demand; {one.forecast_writes or 0:,.0f} were "
            f"forecast ({deviation(one.write_units, one.forecast_writes) or 'nothing to compare'})"
            for one, usd in zip(self.rows, self.usd, strict=True)
        ]
        return [*told, f"Prices: {self.book}."] if told else []

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows, for people."""
        head = ("what", "work", "RRU", "forecast", "", "WRU", "forecast", "", "USD on demand")
        rows = [
            (
                one.what, one.work, f"{one.read_units:,.0f}", *_beside(one.read_units, one.forecast_reads),
                f"{one.write_units:,.0f}", *_beside(one.write_units, one.forecast_writes), f"{usd:,.4f}",
            )
            for one, usd in zip(self.rows, self.usd, strict=True)
        ]  # fmt: skip
        return head, [*rows, ("altogether", *[""] * 7, f"{sum(self.usd):,.4f}")]


def actual(book: PriceBook, rows: Sequence[Consumed]) -> Actual:
    """With what each has cost."""
    return Actual(book=book.title, rows=tuple(rows), usd=tuple(one.usd(book) for one in rows))


def deviation(counted: float, forecast: float | None) -> str:
    """`+3.1 %`; nothing where there is no forecast to hold against."""
    if not forecast:
        return ""
    return f"{counted / forecast - 1:+.1%}".replace("%", " %")


def _beside(counted: float, forecast: float | None) -> tuple[str, str]:
    return ("" if forecast is None else f"{forecast:,.0f}", deviation(counted, forecast))


def each(units: Units, number: float) -> tuple[float, float]:
    """Read and write units of so many calls, indexes included."""
    return units.all_reads * number, units.all_writes * number
