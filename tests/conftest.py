"""What all tests share: how much hypothesis tries, one stack for those that need a real one, and no silent skips."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from docferry.sandbox import SandboxStack
from hypothesis import HealthCheck, settings

_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
_SAME = os.environ.get("CI") == "true"
"""CI draws the same examples for the same code; a desk draws new ones each time."""
settings.register_profile(
    "usual", max_examples=60, deadline=None, print_blob=True, derandomize=_SAME, suppress_health_check=_QUIET
)
settings.register_profile("thorough", settings.get_profile("usual"), max_examples=3_000, derandomize=False)
settings.load_profile("usual")  # --hypothesis-profile=thorough for more

MAY_BE_SKIPPED = ("dynamodb_local", "aws", "specifications", "terraform")


def pytest_configure() -> None:
    """Started in the background of a script, SIGINT is ignored, and so it is in every child: tests of Ctrl-C need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` a folder of TOGETHER is one file."""
    from support.together import TogetherScheduling

    return TogetherScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from support.together import FIRST

    items.sort(key=lambda one: not one.nodeid.startswith(FIRST))


@pytest.fixture(scope="session")
def stack() -> Iterator[SandboxStack]:
    """MongoDB and AWS for the whole session: tests use databases and tables of their own."""
    # What expires goes within a second, in every run, and not within a minute, in one run of fifty.
    with SandboxStack(mongo={"parameters": {"ttlMonitorSleepSecs": "1"}}) as opened:
        yield opened


@pytest.fixture
def stack_env(stack: SandboxStack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The stack's environment, exported for boto3 and docferry while the test runs."""
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)
    return stack.env()


# --- with CI=true nothing is skipped, except what needs DynamoDB Local, AWS, Terraform or MongoDB's specifications -------------


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport, *allowed: bool) -> None:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail") and not any(allowed):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report, *(item.get_closest_marker(name) is not None for name in MAY_BE_SKIPPED))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report
