"""Regular expressions in time that grows with the text alone: a stated part of PCRE, tried by all its states at once.

    found = compile_pattern("^ann.*x", "i").search("Anna x")      Raises: CallRefused, by name, for what is not known here

Known: literals, `.`, classes, groups, alternatives, `* + ? {m,n}` (lazy ones, too), `^ $ \\A \\b \\B`, the options i, m, s, x.
Back references, looking around, possessive quantifiers and atomic groups are refused: they are what makes a search explode.

The pattern is read by Python's own parser; where PCRE means something else by the same text, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import Regex

from docferry.errors import CallRefused

parser: Any = re._parser  # type: ignore[attr-defined]  # the pattern as a tree, which `re` itself compiles from
_OPS: Any = re._constants  # type: ignore[attr-defined]

MOST_STATES: Final = 2_000
_OTHERWISE: Final = ("[:", "{,", "\\v", "\\h", "\\Z", "\\N", "\\K", "(?P", "\\u", "\\U")
"""What PCRE reads otherwise than Python, or Python alone."""
_OPTIONS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
SUGGESTION: Final = (
    "ask for a prefix, a part or simple alternatives, or store what is searched for in a field of its own"
)

Letter = Callable[[str], bool]
"""Whether one character is met."""
Place = Callable[[str, int], bool]
"""Whether a place in a text is met."""


def refuse(what: str) -> CallRefused:
    return CallRefused(f"a regular expression with {what}", SUGGESTION)


@dataclass(slots=True)
class _State:
    """Where a search is: it goes on by a letter, or at once (`place`: only there)."""

    letter: Letter | None = None
    place: Place | None = None
    then: Sequence[int] = ()


class SearchPattern:
    """A compiled pattern."""

    def __init__(self, states: Sequence[_State], start: int, end: int) -> None:
        self._states, self._start, self._end = states, start, end

    def search(self, text: str) -> bool:
        """Whether the pattern is met anywhere in a text: so many steps at most as it has letters, times the states."""
        current: set[int] = set()
        for at in range(len(text) + 1):
            current |= {self._start}
            reached = self._at_once(current, text, at)
            if self._end in reached:
                return True
            if at == len(text):
                return False
            found = text[at]
            current = {
                after
                for one in reached
                if (letter := self._states[one].letter) is not None and letter(found)
                for after in self._states[one].then
            }
        return False

    def _at_once(self, current: set[int], text: str, at: int) -> set[int]:
        left, reached = list(current), set(current)
        while left:
            state = self._states[left.pop()]
            if state.letter is None and (state.place is None or state.place(text, at)):
                more = [one for one in state.then if one not in reached]
                reached.update(more)
                left += more
        return reached


def compile_pattern(pattern: str, options: str = "") -> SearchPattern:
    if unknown := set(options) - set(_OPTIONS):
        raise refuse(f"the option {min(unknown)}")
    if strange := next((one for one in _OTHERWISE if one in pattern), None):
        raise refuse(f"'{strange}'")
    flags = re.ASCII
    for one in options:
        flags |= _OPTIONS[one]
    if "i" in options and not pattern.isascii():
        raise refuse("the option i and letters that are not ASCII")
    try:
        tree = parser.parse(pattern, flags)
    except (re.error, OverflowError, RecursionError):
        raise refuse("a form that is not known here") from None
    return _Compiler(tree.state.flags).compiled(tree)


def matcher(wanted: Any) -> Callable[[Any], bool]:
    """The test of a value of a document: a text in which the pattern is found, or the same regular expression."""
    if isinstance(wanted, str):
        wanted = Regex(wanted, 0)
    if not isinstance(wanted, Regex):
        raise refuse("a $regex that is no text")
    letters = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
    if wanted.flags & ~sum(letters.values()):
        raise refuse("the options l or u")
    pattern = wanted.pattern if isinstance(wanted.pattern, str) else wanted.pattern.decode()
    found = compile_pattern(pattern, "".join(name for name, bit in letters.items() if wanted.flags & bit))

    def test(value: Any) -> bool:
        if isinstance(value, Regex):
            return bool(value == wanted)
        return isinstance(value, str) and type(value).__name__ != "Code" and found.search(value)

    return test


def with_options(expression: dict[str, Any]) -> dict[str, Any]:
    """A document of operators whose $regex has its $options in it."""
    if "$options" not in expression:
        return expression
    wanted, letters = expression.get("$regex"), expression["$options"]
    pattern = wanted.pattern if isinstance(wanted, Regex) else wanted
    if not isinstance(pattern, str) or not isinstance(letters, str) or set(letters) - set(_OPTIONS):
        raise refuse("$options that are not known")
    made = Regex(pattern, sum(int(_OPTIONS[one]) for one in set(letters)))
    return {name: made if name == "$regex" else one for name, one in expression.items() if name != "$options"}


# --- compiling -------------------------------------------------------------------------------------------------------


class _Compiler:
    """Makes states of a parsed pattern, from its end to its beginning."""

    def __init__(self, flags: int) -> None:
        self._flags, self._states = flags, list[_State]()

    def compiled(self, tree: Any) -> SearchPattern:
        end = self._state()
        return SearchPattern(self._states, self._sequence(tree, end), end)

    def _state(self, **made: Any) -> int:
        if len(self._states) >= MOST_STATES:
            raise refuse("too many repetitions")
        self._states.append(_State(**made))
        return len(self._states) - 1

    def _sequence(self, tree: Any, then: int) -> int:
        for op, value in reversed(list(tree)):
            then = self._one(op, value, then)
        return then

    def _one(self, op: Any, value: Any, then: int) -> int:
        if op in (_OPS.LITERAL, _OPS.NOT_LITERAL, _OPS.ANY, _OPS.IN):
            return self._state(letter=self._letter(op, value), then=(then,))
        if op is _OPS.AT:
            return self._state(place=self._place(value), then=(then,))
        if op is _OPS.BRANCH:
            return self._state(then=[self._sequence(one, then) for one in value[1]])
        if op is _OPS.SUBPATTERN:
            _, added, taken, inner = value
            if added or taken:
                raise refuse("options inside of it")
            return self._sequence(inner, then)
        if op in (_OPS.MAX_REPEAT, _OPS.MIN_REPEAT):
            return self._repeat(value, then)
        raise refuse(str(op).lower().replace("_", " "))

    def _repeat(self, asked: tuple[int, Any, Any], then: int) -> int:
        least, most, inner = asked
        if most is _OPS.MAXREPEAT:
            loop = self._state()
            self._states[loop].then = (self._sequence(inner, loop), then)
            then = loop
        else:
            last = then
            for _ in range(most - least):
                then = self._state(then=(self._sequence(inner, then), last))
        for _ in range(least):
            then = self._sequence(inner, then)
        return then

    def _letter(self, op: Any, value: Any) -> Letter:
        if op is _OPS.ANY:
            return (lambda found: True) if self._flags & re.DOTALL else (lambda found: found != "\n")
        if op is _OPS.IN:
            negated = value[0][0] is _OPS.NEGATE
            tests = [self._member(*one) for one in (value[1:] if negated else value)]
            met: Letter = lambda found: any(test(found) for test in tests)  # noqa: E731
        else:
            negated, met = op is _OPS.NOT_LITERAL, self._member(_OPS.LITERAL, value)
        if self._flags & re.IGNORECASE:
            own = met
            met = lambda found: own(found) or (found.isascii() and own(found.swapcase()))  # noqa: E731
        return (lambda found: not met(found)) if negated else met

    @staticmethod
    def _member(op: Any, value: Any) -> Letter:
        if op is _OPS.LITERAL:
            wanted = chr(value)
            return lambda found: found == wanted
        if op is _OPS.RANGE:
            low, high = value
            return lambda found: low <= ord(found) <= high
        if op is _OPS.CATEGORY and value in _CATEGORIES:
            return _CATEGORIES[value]
        raise refuse(f"the class {value}")

    def _place(self, value: Any) -> Place:
        if value is _OPS.AT_BEGINNING and self._flags & re.MULTILINE:
            return lambda text, at: at == 0 or (text[at - 1] == "\n" and at < len(text))
        if value in (_OPS.AT_BEGINNING, _OPS.AT_BEGINNING_STRING):
            return lambda text, at: at == 0
        if value is _OPS.AT_END and self._flags & re.MULTILINE:
            return lambda text, at: at == len(text) or text[at] == "\n"
        if value is _OPS.AT_END:
            return lambda text, at: at == len(text) or (at == len(text) - 1 and text[at] == "\n")
        if value in (_OPS.AT_BOUNDARY, _OPS.AT_NON_BOUNDARY):
            wanted = value is _OPS.AT_BOUNDARY
            return lambda text, at: _is_boundary(text, at) is wanted
        raise refuse(f"the place {value}")


def _is_word(found: str) -> bool:
    return found.isascii() and (found.isalnum() or found == "_")


def _is_digit(found: str) -> bool:
    return "0" <= found <= "9"


def _is_space(found: str) -> bool:
    return found in " \t\n\r\f\v"


def _is_boundary(text: str, at: int) -> bool:
    before, after = at > 0 and _is_word(text[at - 1]), at < len(text) and _is_word(text[at])
    return before is not after


_CATEGORIES: Final[dict[Any, Letter]] = {
    _OPS.CATEGORY_DIGIT: _is_digit,
    _OPS.CATEGORY_NOT_DIGIT: lambda found: not _is_digit(found),
    _OPS.CATEGORY_SPACE: _is_space,
    _OPS.CATEGORY_NOT_SPACE: lambda found: not _is_space(found),
    _OPS.CATEGORY_WORD: _is_word,
    _OPS.CATEGORY_NOT_WORD: lambda found: not _is_word(found),
}
