"""Everything in memory that validation needs while DynamoDB leads: MongoDB can be read, and tampered with."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import bson
import pytest
from docferry.core.mapping.raw import id_bytes
from docferry.flows.kernel.job import Job
from docferry.flows.reverse.follower import reverse
from docferry.flows.validate.first_pass import ValidationReport, validate
from docferry.testing.fakes import FakeSink, FakeSource
from docferry.testing.jobs import change_job, make_job
from docferry.wiring import who

from support.reverse.rig import MIGRATION, Back, hurry


class ReadableSink(FakeSink):
    """What is written here can be read there."""

    def __init__(self, source: FakeSource) -> None:
        super().__init__()
        self.source = source

    def put(self, collection: str, document: bytes) -> None:
        super().put(collection, document)
        self.source.put(collection, document)

    def delete(self, collection: str, id: bytes) -> None:
        super().delete(collection, id)
        self.source.remove(collection, bson.decode(id)[""])


def hurry_judging(patch: pytest.MonkeyPatch) -> None:
    """One clock, and nothing is far away."""
    hurry(patch)
    for name, value in {"AGAIN_S": 0.01, "CLOSE_S": 0.005, "CLOCKS_S": 0.0}.items():
        patch.setattr(f"docferry.flows.validate.reverse_recheck.{name}", value)


class Judged(Back):
    """`tamper` and `tamper_away` change MongoDB behind docferry's back."""

    def __init__(self, settle_s: float = 0.05, **validate: Any) -> None:
        super().__init__()
        self.source = FakeSource({name: () for name in MIGRATION.mappings})
        self.source.unique["users"] = (frozenset({"name"}),)
        self.sink: ReadableSink = ReadableSink(self.source)
        settings = dataclasses.replace(MIGRATION.validate, settle_s=settle_s, **validate)
        self.migration = dataclasses.replace(MIGRATION, validate=settings)

    def tamper(self, collection: str, document: dict[str, Any]) -> None:
        self.sink.put(collection, bson.encode(document))

    def tamper_away(self, collection: str, id: Any) -> None:
        self.sink.delete(collection, id_bytes(id))

    def validation(self, **changes: Any) -> Job:
        job = make_job(
            migration=self.migration,
            source=self.source,
            ledger=self.ledger,
            identity=who("judge"),
            progress=self.said,
            stop=threading.Event(),
        )
        return change_job(job, **changes)

    def validate_alone(self, *only: str, sample: int | None = None) -> ValidationReport:
        """While no process follows."""
        return asyncio.run(validate(self.validation(), self.target, only, sample))

    def validate(
        self, *only: str, sample: int | None = None, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> ValidationReport:
        """While reverse replication follows, and something else may go on."""
        return asyncio.run(self._validate(only, sample, meanwhile))

    async def _validate(
        self, only: tuple[str, ...], sample: int | None, meanwhile: Callable[[], Awaitable[None]] | None
    ) -> ValidationReport:
        self.stop = threading.Event()
        following = asyncio.create_task(reverse(self.job(), self.target))
        others = [asyncio.ensure_future(meanwhile())] if meanwhile is not None else []
        try:
            return await validate(self.validation(), self.target, only, sample)
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self.stop.set()
            await following
