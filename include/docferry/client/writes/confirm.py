"""What a write to MongoDB needs beside MongoDB's answer, before the application is told that it happened.

MongoDB's fence can be taken away by a request that was sent long ago, and a process can be frozen between its look at the
mode and its write. So MongoDB's answer alone does not say that MongoDB led. A process whose lease holds behind the answer knows
it: no leader changes before its acknowledgement. Any other asks MongoDB's own marker, behind the answer.
"""

from __future__ import annotations

from docferry.client.context import ClientContext
from docferry.client.ticket import WriteTicket
from docferry.core.cutover.marker import COLLECTION, Leads, Marker, confirms
from docferry.errors import LeaderUnknown, WriteUnconfirmed


class Confirmation:
    """Of the writes of one client while MongoDB leads."""

    def __init__(self, parts: ClientContext) -> None:
        self._parts, self._members = parts, parts.membership

    async def before(self, begun: WriteTicket) -> int:
        """The revision of the mode that is known as a write of a process begins that is cut off from the ledger: by MongoDB's
        marker, which is asked once while it is cut off.

        Raises: LeaderUnknown, if the marker does not say that MongoDB leads: nothing was written.
        """
        term, known = self._members.alone_known or (-1, 0)
        if term != begun.term:
            found = await self._marker("Nothing was written", LeaderUnknown)
            if found is None or found.leader is not Leads.MONGODB:
                raise LeaderUnknown(
                    f"the ledger cannot be reached, and {COLLECTION} in MongoDB {_says(found)}. Nothing was written"
                )
            known = found.revision
            self._members.alone_known = (begun.term, known)
        return known

    async def behind(self, begun: WriteTicket, known: int) -> None:
        """Behind MongoDB's answer.

        Raises: WriteUnconfirmed, if MongoDB may not have led when it was written.
        """
        if self._members.holds(begun):
            return
        self._parts.metrics.count("write.confirmed_by_marker")
        self._members.alone_known = None
        found = await self._marker("The write is in MongoDB, and not confirmed", WriteUnconfirmed)
        if not confirms(found, known):
            raise WriteUnconfirmed(
                f"written to MongoDB, not confirmed: the lease of this process ended meanwhile, and {COLLECTION} in MongoDB "
                f"{_says(found)}. If DynamoDB leads, the write is lost"
            )
        if begun.alone:
            self._members.alone_known = (begun.term, known)

    async def _marker(self, state: str, kind: type[LeaderUnknown]) -> Marker | None:
        try:
            return await self._parts.mongo.leader(self._parts.migration)
        except Exception as error:
            if not self._parts.mongo.is_driver_error(error):
                raise
            raise kind(f"the ledger cannot be reached, nor {COLLECTION} in MongoDB be read. {state}") from error


def _says(found: Marker | None) -> str:
    if found is None:
        return "is missing (docferry provision, or docferry replicate, makes it)"
    return f"says {found.leader}, by epoch {found.epoch}"
