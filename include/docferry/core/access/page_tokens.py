"""Where a list was left off, as a text that an application may hand out and take back. Pure.

A token names the question that it belongs to, and is refused for any other. It holds keys of items, readable by all who
decodes it: it is opaque, not secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from docferry.errors import CallRefused


def question_id(*parts: Any) -> str:
    """What a token belongs to: 16 hex digits, the same for the same texts, numbers, booleans and None."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def encode_token(question: str, place: Sequence[str]) -> str:
    """Letters, digits, - and _ only."""
    text = json.dumps([question, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, question: str, parts: int) -> list[str]:
    """The place, `parts` texts. Raises CallRefused for what is no token, or one of another question."""
    try:
        found = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError, TypeError):
        found = None
    if not isinstance(found, list) or len(found) != parts + 1 or not all(isinstance(one, str) for one in found):
        raise CallRefused(
            what="`start` is no token of this client", suggestion="give `next` of the page before, as it is"
        )
    if found[0] != question:
        raise CallRefused(
            what="`start` belongs to another question",
            suggestion="ask the same pattern with the same parameters, bounds and direction from page to page",
        )
    return found[1:]
