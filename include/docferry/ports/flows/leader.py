"""The marker that says in MongoDB who leads."""

from __future__ import annotations

from typing import Protocol

from docferry.core.cutover.marker import Marker


class LeaderMarker(Protocol):
    """One migration's marker and its gates. Raises StoreError."""

    def read(self) -> Marker | None:
        """What the primary holds, confirmed by a majority at the time of the call; None if it was never made."""

    def write(self, marker: Marker) -> Marker:
        """Make it so, gates included, if none is stored or the stored one is of an earlier revision. Tokens stay.

        Returns what is stored then, confirmed by a majority: another than `marker` is not older than it.
        """

    def rehearse(self) -> None:
        """Look for the marker, and commit a transaction there that changes nothing: what a change of leader does must be allowed.

        Raises: AccessDenied, RequestRefused, if it is not.
        """

    def raise_token(self, token: int) -> bool:
        """Make `token` the gates' token, if they say that DynamoDB leads and theirs is not higher; whether it is theirs now."""
