"""What MongoDB, AWS and cron take: names, tags and schedules that could never work are refused by the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from docferry.core.cutover.marker import COLLECTION

MOST_NAMESPACE_BYTES = 255
"""Of `<database>.<collection>` (MongoDB 4.4 and later)."""
MOST_TAGS = 50
_DATABASE = re.compile(r"""[^/\\. "$*<>:|?@]{1,63}""")
_TAG = re.compile(r"[\w\s.:/=+\-@]*")
_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)


def bad_database_name(name: str) -> str:
    """What keeps MongoDB from a database of this name; '' if nothing."""
    return "" if _DATABASE.fullmatch(name) else "is no database name"


def bad_collection_name(database: str, name: str) -> str:
    """What keeps MongoDB, or its driver, from a collection of this name; '' if nothing."""
    if not name:
        return "a collection has a name"
    if "$" in name or "\0" in name:
        return "the name of a collection holds no $ and no zero byte"
    if name.startswith("system."):
        return "system. begins the names of MongoDB's own collections"
    if name == COLLECTION:
        return "it is docferry's own, where MongoDB says who leads"
    if name[0] == "." or name[-1] == "." or ".." in name:
        return "the name of a collection has no . at an end, and no two in a row"
    if len(f"{database}.{name}".encode()) > MOST_NAMESPACE_BYTES:
        return f"the names of database and collection have more than the {MOST_NAMESPACE_BYTES - 1} bytes that MongoDB allows"
    return ""


def bad_tags(tags: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    """(tag, what AWS would refuse about it); of all of them together under None."""
    if len(tags) > MOST_TAGS:
        yield None, f"has {len(tags)} tags; AWS allows {MOST_TAGS}"
    for name, value in tags.items():
        if not 1 <= len(name) <= 128 or len(value) > 256:
            yield name, "a tag's name has 1 to 128 characters, its value 256 at most"
        elif name.lower().startswith("aws:"):
            yield name, "names that begin with aws: are AWS's own"
        elif not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            yield name, "holds a character that AWS does not allow in tags: letters, digits, spaces and _ . : / = + - @"


def bad_schedule(schedule: str) -> str:
    """What keeps a schedule from being one, by cron or Airflow's presets; '' if nothing."""
    if schedule.startswith("@"):
        return "" if schedule in _PRESETS else f"there is no preset {schedule}: {', '.join(_PRESETS)}"
    fields = schedule.split()
    if len(fields) != len(_CRON):
        return f"has {len(fields)} fields; cron has 5: minute, hour, day of the month, month, day of the week"
    for text, (name, low, high, names) in zip(fields, _CRON, strict=True):
        for one in text.lower().split(","):
            if not _is_cron(one, low, high, names, name):
                return f"'{one}' is no {name}, which is from {low} to {high}"
    return ""


def _is_cron(text: str, low: int, high: int, names: tuple[str, ...], field: str) -> bool:
    span, slash, step = text.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        return False
    if span in ("*", "?") or (span == "l" and field.startswith("day")):
        return True
    if field == "day of the week":
        span = re.sub(r"(#[1-5]|(?<=.)l)$", "", span)  # the third Friday, the last one
    ends = [_number(one, low, names) for one in span.split("-")]
    known = [one for one in ends if one is not None and low <= one <= high]
    return len(ends) <= 2 and len(known) == len(ends)


def _number(text: str, low: int, names: tuple[str, ...]) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdecimal() else None
