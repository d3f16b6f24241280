"""check opens the change stream that replication will follow: what MongoDB refuses is known before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.errors import AccessDenied, MigrationError, RequestRefused, Unavailable
from docferry.flows.preflight.mongodb import check_stream
from docferry.testing.fakes import FakeSource

MIGRATION = parse_migration(b"migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n")


class Refusing(FakeSource):
    def __init__(self, error: MigrationError | None = None) -> None:
        super().__init__({"docs": []})
        self.error, self.asked = error, 0

    def follow(self, *args: Any, **options: Any) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return super().follow(*args, **options)


@pytest.mark.parametrize(
    ("error", "word"),
    [(RequestRefused("Unrecognized expression '$id'"), "$id"), (AccessDenied("not authorized"), "follow")],
)
def test_refused_stream_is_a_problem_that_says_why(error: MigrationError, word: str) -> None:
    (problem,) = check_stream(MIGRATION, Refusing(error))
    assert word in problem.what
    assert problem.suggestion


def test_stream_that_opens_is_none() -> None:
    source = Refusing()
    assert check_stream(MIGRATION, source) == []
    assert source.asked == 1


def test_server_that_does_not_answer_is_no_verdict() -> None:
    with pytest.raises(Unavailable):
        check_stream(MIGRATION, Refusing(Unavailable("gone")))
