"""The rules of the journals, each broken on purpose."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from docferry.client import membership
from docferry.client.journal.lanes import InstanceLanes
from docferry.client.journal.write import CommitTicket, WriteJournal
from docferry.core.cutover.instances import Instance
from docferry.core.cutover.journal import Answer, Lane, LaneName
from docferry.flows.cutover import to_mongodb
from docferry.flows.ledger.modes import list_instances
from docferry.flows.reverse import journals, proof, seals
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard, Journal, Ledger

Patch = pytest.MonkeyPatch


def streams_are_believed(patch: Patch) -> None:
    """As before there were journals: a page that is empty is the end."""
    patch.setattr(to_mongodb._HoldDynamoDB, "by_journals", lambda self, held: False)
    patch.setattr(to_mongodb, "has_journals", lambda job, waived: False)


def nothing_is_sealed(patch: Patch) -> None:
    def read_only(journal: Journal, lane: LaneName, after: int) -> int:
        return after + len(journal.read(lane, after, 10_000))

    patch.setattr(seals, "seal", read_only)


def only_the_living_are_asked(patch: Patch) -> None:
    listed = list_instances

    def living(ledger: Ledger) -> list[Instance]:
        return [one for one in listed(ledger) if one.is_live(int(time.time() * 1000))]

    patch.setattr(journals, "list_instances", living)


def acknowledged_with_a_request_unanswered(patch: Patch) -> None:
    patch.setattr(InstanceLanes, "close", lambda self, every: not self.busy)


def two_writes_of_a_lane_in_flight(patch: Patch) -> None:
    def first(self: InstanceLanes) -> Lane | None:
        return self._all[0] if self._all else None

    def behind_those_in_flight(self: Lane) -> int:
        return self.last + 1 + max(0, len(self.unanswered) - 1)

    patch.setattr(InstanceLanes, "take", first)
    patch.setattr(Lane, "next", property(behind_those_in_flight))


def lanes_grow_without_the_record(patch: Patch) -> None:
    take: Callable[[InstanceLanes], Lane | None] = InstanceLanes.take

    def grown(self: InstanceLanes) -> Lane | None:
        if (lane := take(self)) is not None:
            return lane
        with self._lock:
            self._all.append(Lane(LaneName(self.instance, len(self._all))))
        self.wanted = 2
        return take(self)

    patch.setattr(InstanceLanes, "take", grown)
    patch.setattr(
        InstanceLanes, "at", property(lambda self: ([one.last for one in self._all] + [0] * 99)[: self.wanted])
    )


def entry_counts_before_its_document_shows(patch: Patch) -> None:
    for module in (proof, journals):
        patch.setattr(module, "shows", lambda item, version: True)


def entry_follows_its_write(patch: Patch) -> None:
    together = WriteJournal._try

    async def apart(
        self: WriteJournal,
        lane: Lane,
        calls: DynamoCalls,
        guard: Guard,
        requests: Sequence[dict[str, Any]],
        wrote: Any,
        ticket: CommitTicket | None,
    ) -> Answer:
        request = {"TransactItems": list(requests), "ClientRequestToken": uuid.uuid4().hex}
        await calls.call("TransactWriteItems", request, guard)
        await calls.sleep(0.5)
        return await together(self, lane, calls, guard, [], wrote, ticket)

    patch.setattr(WriteJournal, "_try", apart)


def copies_are_not_reckoned_with(patch: Patch) -> None:
    """A record that another has written is one's own, and only lanes in doubt get a void."""
    close = InstanceLanes.close
    patch.setattr(InstanceLanes, "close", lambda self, every: close(self, every=False))
    patch.setattr(membership, "is_one_of", lambda record, bodies: True)


BROKEN: dict[str, Callable[[Patch], None]] = {
    one.__name__: one
    for one in (
        streams_are_believed, nothing_is_sealed, only_the_living_are_asked, acknowledged_with_a_request_unanswered,
        two_writes_of_a_lane_in_flight, lanes_grow_without_the_record, entry_counts_before_its_document_shows,
        entry_follows_its_write, copies_are_not_reckoned_with,
    )
}  # fmt: skip
