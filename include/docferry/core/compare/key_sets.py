"""Which keys templates can make, and whether two could ever make the same. Pure."""

from __future__ import annotations

from docferry.core.mapping.key_templates import Placeholder, Template


def disjoint(one: Template, other: Template) -> bool:
    """True if the two templates can never make the same text, whatever the values."""
    mine, theirs = _segments(one), _segments(other)
    if len(mine) != len(theirs):
        return True
    return any(_segments_differ(a, b) for a, b in zip(mine, theirs, strict=True))


def first_word(template: Template) -> str:
    """What every key of a template has before its first #, if that is fixed: keys with other words are other keys. Else ''."""
    text, whole = _segments(template)[0]
    return text if whole else ""


def word_of(text: str) -> str:
    """What a key has before its first #: the `first_word` of a template that could have made it, or that has none."""
    return text.partition("#")[0]


def could_make(template: Template, text: str) -> bool:
    """Whether a template can have made a key. False is certain: a value never holds a bare #."""
    segments, written = _segments(template), text.split("#")
    return len(segments) == len(written) and all(
        one == literal if whole else one.startswith(literal)
        for (literal, whole), one in zip(segments, written, strict=True)
    )


def _segments(template: Template) -> list[tuple[str, bool]]:
    """(literal prefix, is all literal) for each #-separated segment."""
    segments: list[tuple[str, bool]] = [("", True)]
    for part in template.parts:
        if isinstance(part, Placeholder):
            segments[-1] = (segments[-1][0], False)
            continue
        first, *rest = part.split("#")
        if segments[-1][1]:
            segments[-1] = (segments[-1][0] + first, True)
        segments += [(text, True) for text in rest]
    return segments


def _segments_differ(a: tuple[str, bool], b: tuple[str, bool]) -> bool:
    (left, left_whole), (right, right_whole) = a, b
    if left_whole and right_whole:
        return left != right
    if left_whole or right_whole:
        whole, prefix = (left, right) if left_whole else (right, left)
        return not whole.startswith(prefix)
    return not (left.startswith(right) or right.startswith(left))
