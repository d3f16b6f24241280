"""Tables as one HTML page that needs nothing else, and as Markdown: what all reports are made of. Pure.

Names reach HTML only through `_e`, and Markdown only through `_m`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    title: str
    head: Row
    rows: Sequence[Row]
    note: str = ""
    numbers: frozenset[int] = frozenset()
    """Columns that are set to the right."""


def markdown_page(title: str, first: Iterable[str], tables: Iterable[Table]) -> str:
    """A page of tables: what comes first, as a list, then each table under its title."""
    lines = [f"# {_m(title)}", "", *[f"- {_m(one)}" for one in first], ""]
    for table in tables:
        lines += [f"## {_m(table.title)}", ""]
        lines += [_m(table.note), ""] if table.note else []
        lines.append("| " + " | ".join(_m(cell) for cell in table.head) + " |")
        lines.append("|" + "|".join(" ---: " if n in table.numbers else " --- " for n in range(len(table.head))) + "|")
        lines += ["| " + " | ".join(_m(cell) for cell in row) + " |" for row in table.rows]
        lines.append("")
    return "\n".join(lines)


def html_page(title: str, about: str, first: Iterable[str], tables: Iterable[Table], picture: str = "") -> str:
    """The same as HTML. Everything but `picture`, which is markup, is escaped."""
    parts = [f"<h1>{_e(title)}</h1>"] + ([f"<p class=sub>{_e(about)}</p>"] if about else [])
    parts.append("<section class=first>")
    parts += [f"<p>{_e(one)}</p>" for one in first]
    parts += [picture, "</section>"]
    for table in tables:
        parts.append(_html_table(table))
    title = _e(f"docferry: {title}")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def month_bars(months: Sequence[tuple[str, float, str]]) -> str:
    """What a month costs in one way and in others, side by side: (name, value, the value in words), as inline SVG."""
    most = max(value for _, value, _ in months) or 1.0
    rows = "".join(
        f'<text x="0" y="{28 * n + 17}">{_e(name)}</text>'
        f'<rect x="170" y="{28 * n + 4}" width="{max(1.0, 300 * value / most):.1f}" height="18" rx="3"/>'
        f'<text x="{176 + 300 * value / most:.1f}" y="{28 * n + 17}">{_e(shown)}</text>'
        for n, (name, value, shown) in enumerate(months)
    )
    label = "; ".join(f"{name}: {shown} a month" for name, _, shown in months)
    return f'<svg role="img" aria-label="{_e(label)}" viewBox="0 0 560 {28 * len(months)}" class=bars>{rows}</svg>'


def _html_table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{" class=n" if n in table.numbers else ""}>{_e(cell)}</th>'
        for n, cell in enumerate(table.head)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td class=n>{_e(cell)}</td>" if n in table.numbers else f"<td>{_e(cell)}</td>"
            for n, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.rows
    )
    note = f"<p class=sub>{_e(table.note)}</p>" if table.note else ""
    body = f'<div class=scroll tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<section><h2>{_e(table.title)}</h2>{note}{body if table.rows else '<p>None.</p>'}</section>"


def _e(text: str) -> str:
    """Text for HTML; what cannot be printed is shown as a question mark."""
    return html.escape("".join(one if one.isprintable() else "?" for one in text), quote=True)


def _m(text: str) -> str:
    """Text for Markdown: nothing in it is markup."""
    plain = "".join(one if one.isprintable() else "?" for one in text)
    for mark in "\\`*_{}[]<>()#+!|~":
        plain = plain.replace(mark, "\\" + mark)
    return plain


STYLE = """
:root{--ink:#1b1f24;--paper:#fff;--soft:#5b6570;--line:#d9dee3;--band:#f5f7f9;--bar:#2563a8;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--paper:#14181c;--soft:#a4adb6;--line:#323a42;--band:#1c2228;
  --bar:#6aa6e8}
}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px}
h1,h2,p{overflow-wrap:anywhere}
h1{font-size:26px;margin:0}
h2{font-size:19px;margin:32px 0 4px}
.sub{color:var(--soft);margin:0 0 8px}
.first{background:var(--band);border:1px solid var(--line);border-radius:8px;padding:8px 16px;margin-top:16px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{text-align:left;vertical-align:top;padding:5px 10px 5px 0;border-bottom:1px solid var(--line)}
td{overflow-wrap:anywhere;min-width:56px}
.n{text-align:right;font-variant-numeric:tabular-nums}
td.n{white-space:nowrap}
th{color:var(--soft);font-weight:600}
.bars{width:100%;max-width:560px;font:13px system-ui,sans-serif;margin:8px 0}
.bars text{fill:var(--ink)}
.bars rect{fill:var(--bar)}
@media print{.scroll{overflow:visible}
section{break-inside:avoid-page}
body{font-size:11px}
}
"""
