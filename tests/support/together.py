"""Which test files one process of pytest-xdist runs one after the other, because they share what is dear to start."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/e2e/browser/",)
"""One `airflow standalone` for all."""
FIRST = "tests/property/cutover/test_stalls.py"
"""A file of four minutes: the last to begin, it would be waited for."""


class TogetherScheduling(LoadFileScheduling):  # type: ignore[misc] # not typed
    """`--dist loadfile`, in which each of these folders counts as a file."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if scope.startswith(folder)), scope)
