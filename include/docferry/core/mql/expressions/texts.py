"""Operators of texts. Upper and lower case are ASCII's, as MongoDB's are; bytes are those of UTF-8."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bson import Code, Timestamp

from docferry.core.bson_codec.order import ABSENT
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions.compiling import (
    Evaluate,
    Scope,
    arguments,
    compile_expression,
    is_constant,
    is_nullish,
    named_operator,
    operator,
    refuse,
    shown,
    special,
)
from docferry.core.mql.expressions.numbers import is_date
from docferry.core.mql.expressions.patterns import matcher, with_options
from docferry.core.mql.expressions.written import written
from docferry.core.mql.values import whole_number
from docferry.errors import ExpressionRefused

_SPACE = "\0 \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
"""What $trim takes off without `chars`."""
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Code)


def _text(code: int, name: str, value: Any) -> str:
    if not is_text(value):
        raise ExpressionRefused(code, f"{name} needs a string, and not {shown(value)}")
    return str(value)


def _coerced(name: str, value: Any) -> str:
    """As $toLower and $substr read what may be no text: null is empty, a number and a date are written out."""
    if is_nullish(value):
        return ""
    if isinstance(value, str) and not (isinstance(value, Code) and value.scope is not None):
        return str(value)
    if is_number(value) or is_date(value):
        return written(name, value)
    if isinstance(value, Timestamp):
        raise refuse(f"{name} of a Timestamp")
    raise ExpressionRefused(16007, f"can't convert from {shown(value)} to String")


def _whole(code: int, name: str, value: Any) -> int:
    found = whole_number(value)
    if found is None or isinstance(value, bool):
        raise ExpressionRefused(code, f"{name} needs a whole number, and not {shown(value)}")
    return found


@operator("$concat", 0, any_number=True)
def _concat(values: Iterable[Any]) -> Any:
    found: list[str] = []
    for one in values:
        if is_nullish(one):
            return None
        found.append(_text(16702, "$concat", one))
    return "".join(found)


@operator("$toLower", 1)
def _to_lower(value: Any) -> str:
    return _coerced("$toLower", value).translate(_LOWER)


@operator("$toUpper", 1)
def _to_upper(value: Any) -> str:
    return _coerced("$toUpper", value).translate(_UPPER)


@operator("$strcasecmp", 2)
def _strcasecmp(one: Any, other: Any) -> int:
    first, second = (_coerced("$strcasecmp", value).translate(_UPPER).encode() for value in (one, other))
    return (first > second) - (first < second)


@operator("$strLenCP", 1)
def _length(value: Any) -> int:
    return len(_text(34471, "$strLenCP", value))


@operator("$strLenBytes", 1)
def _length_in_bytes(value: Any) -> int:
    return len(_text(34473, "$strLenBytes", value).encode())


@operator("$substrCP", 3)
def _substr(value: Any, start: Any, length: Any) -> str:
    begin, count = _whole(34450, "$substrCP", start), _whole(34452, "$substrCP", length)
    if begin < 0 or count < 0:
        raise ExpressionRefused(34455 if begin < 0 else 34454, "$substrCP begins or goes on before the string")
    return _coerced("$substrCP", value)[begin : begin + count]


@operator("$substrBytes", 3)
def _substr_bytes(value: Any, start: Any, length: Any) -> str:
    data = _coerced("$substrBytes", value).encode()
    begin, count = _whole(16034, "$substrBytes", start), _whole(16035, "$substrBytes", length)
    if begin < 0:
        raise ExpressionRefused(50752, "$substrBytes begins before the string")
    part = data[begin:] if count < 0 else data[begin : begin + count]
    end = begin + len(part)
    if _continues(data, begin) or _continues(data, end):
        raise ExpressionRefused(
            28656 if _continues(data, begin) else 28657, "$substrBytes begins or ends within a character"
        )
    return part.decode()


@operator("$substr", 3)
def _substr_old(value: Any, start: Any, length: Any) -> str:
    return _substr_bytes(value, start, length)


def _continues(data: bytes, at: int) -> bool:
    return at < len(data) and data[at] & 0xC0 == 0x80


@operator("$split", 2)
def _split(value: Any, separator: Any) -> Any:
    if is_nullish(value) or is_nullish(separator):
        return None
    text, by = _text(40085, "$split", value), _text(40086, "$split", separator)
    if not by:
        raise ExpressionRefused(40087, "$split requires a non-empty separator")
    return text.split(by)


def _trimmed(name: str, input: Any, chars: Any) -> tuple[str, str] | None:
    if is_nullish(input) or chars is None:
        return None
    return _text(50699, name, input), _SPACE if chars is ABSENT else _text(50700, name, chars)


@named_operator("$trim", ("input",), ("chars",))
def _trim(input: Any, chars: Any) -> Any:
    found = _trimmed("$trim", input, chars)
    return found and found[0].strip(found[1]) if found is None or found[1] else found[0]


@named_operator("$ltrim", ("input",), ("chars",))
def _ltrim(input: Any, chars: Any) -> Any:
    found = _trimmed("$ltrim", input, chars)
    return found and found[0].lstrip(found[1]) if found is None or found[1] else found[0]


@named_operator("$rtrim", ("input",), ("chars",))
def _rtrim(input: Any, chars: Any) -> Any:
    found = _trimmed("$rtrim", input, chars)
    return found and found[0].rstrip(found[1]) if found is None or found[1] else found[0]


@special("$regexMatch")
def _regex_match(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("input", "regex"), ("options",))
    if not all(map(is_constant, (given["regex"], given.get("options", "")))):
        raise refuse("$regexMatch with a regex that is not constant")
    wanted, letters = (_constant(given.get(one)) for one in ("regex", "options"))
    asked = {"$regex": wanted} | ({"$options": letters} if letters is not None else {})
    source, test = compile_expression(given["input"]), matcher(with_options(asked)["$regex"])

    def evaluate(scope: Scope) -> bool:
        value = source(scope)
        return False if is_nullish(value) else test(_text(51104, name, value))

    return evaluate


def _constant(raw: Any) -> Any:
    return raw["$literal"] if isinstance(raw, dict) else raw


@operator("$indexOfCP", 2, 4)
def _index_of(value: Any, part: Any, start: Any = 0, end: Any = ABSENT) -> Any:
    if is_nullish(value):
        return None
    text, wanted = _text(40091, "$indexOfCP", value), _text(40092, "$indexOfCP", part)
    first = _whole(40096, "$indexOfCP", start)
    last = len(text) if end is ABSENT else _whole(40096, "$indexOfCP", end)
    if first < 0 or last < 0:
        raise ExpressionRefused(40097, "$indexOfCP needs bounds that are not negative")
    if first > len(text) or last < first:
        return -1
    return text.find(wanted, first, min(last, len(text)))


def _replaced(name: str, input: Any, find: Any, replacement: Any, count: int) -> Any:
    for code, one in ((51746, input), (51745, find), (51744, replacement)):
        if not is_nullish(one):
            _text(code, name, one)
    if is_nullish(input) or is_nullish(find) or is_nullish(replacement):
        return None
    return input.replace(find, replacement, count)


@named_operator("$replaceOne", ("input", "find", "replacement"))
def _replace_one(input: Any, find: Any, replacement: Any) -> Any:
    return _replaced("$replaceOne", input, find, replacement, 1)


@named_operator("$replaceAll", ("input", "find", "replacement"))
def _replace_all(input: Any, find: Any, replacement: Any) -> Any:
    return _replaced("$replaceAll", input, find, replacement, -1)
