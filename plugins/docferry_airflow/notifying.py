"""Telling people: by the notifiers of Airflow's providers, as the section `notify` of the migration file says.

What is told names a migration, a phase and where to look: no document, no id, and no error's text. A message that cannot be sent
stops nothing, and the task's log says so.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from docferry.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import BaseNotifier, Context
    from docferry.config import Migration
    from docferry.core.settings import NotifySettings, Occasion

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Way:
    """A notifier: where it is, what brings it, and what it is made of."""

    module: str
    name: str
    package: str
    arguments: Callable[[NotifySettings, str, str], dict[str, Any]]


def _slack(settings: NotifySettings, subject: str, text: str) -> dict[str, Any]:
    more = {"slack_conn_id": settings.connection} if settings.connection else {}
    return {"channel": settings.to, "text": f"{subject}\n{text}", **more}


def _sns(settings: NotifySettings, subject: str, text: str) -> dict[str, Any]:
    more = {"aws_conn_id": settings.connection} if settings.connection else {}
    region = settings.to.split(":")[3]
    return {"target_arn": settings.to, "subject": subject[:99], "message": text, "region_name": region, **more}


def _smtp(settings: NotifySettings, subject: str, text: str) -> dict[str, Any]:
    more = {"smtp_conn_id": settings.connection} if settings.connection else {}
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in text.splitlines())
    return {"to": settings.to, "subject": subject, "html_content": lines, **more}


_WAYS: Mapping[str, _Way] = {
    "slack": _Way(
        "airflow.providers.slack.notifications.slack", "SlackNotifier", "apache-airflow-providers-slack", _slack
    ),
    "sns": _Way(
        "airflow.providers.amazon.aws.notifications.sns", "SnsNotifier", "apache-airflow-providers-amazon", _sns
    ),
    "smtp": _Way("airflow.providers.smtp.notifications.smtp", "SmtpNotifier", "apache-airflow-providers-smtp", _smtp),
}


def missing_providers(migration: Migration) -> Iterator[Problem]:
    """Ways of telling that the file names, and whose provider is not installed. Imports nothing."""
    for number, one in enumerate(migration.notify):
        way = _WAYS[one.by]
        if not _is_installed(way.module):
            what = f"is {one.by}, and the provider is not installed here"
            yield Problem(where=f"notify.{number}.by", what=what, suggestion=f"pip install {way.package}")


def _is_installed(module: str) -> bool:
    """Each part is looked for in the one before: a parent that is missing is no error."""
    parts = module.split(".")
    for length in range(2, len(parts) + 1):
        try:
            if find_spec(".".join(parts[:length])) is None:
                return False
        except ModuleNotFoundError:
            return False
    return True


def tell(migration: Migration, occasion: Occasion, subject: str, lines: Sequence[str], context: Context) -> None:
    """Send a message each way that the file has for this occasion."""
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    where = [f"The control room: {base}/migrations/#{migration.name}"] if base else []
    for settings in migration.notify:
        if occasion in settings.when:
            _send(settings, f"{migration.name}: {subject}", "\n".join([*lines, *where]), context)


def _send(settings: NotifySettings, subject: str, text: str, context: Context) -> None:
    way = _WAYS[settings.by]
    try:
        notifier: BaseNotifier = getattr(import_module(way.module), way.name)(**way.arguments(settings, subject, text))
        # Not by calling it: that would render the text as a template.
        notifier.notify(context)
    except Exception as error:  # noqa: BLE001 - what a service or its client raises is its own; the phase goes on
        log.error("%s was not told by %s: %s", settings.to, settings.by, type(error).__name__)
    else:
        log.info("%s was told by %s: %s", settings.to, settings.by, subject)


def on_failure(path: str) -> Callable[[Context], None]:
    """A callback for a task that has failed for good."""

    def failed(context: Context) -> None:
        from docferry.config import load_migration

        ti = context["ti"]
        kind = type(context.get("exception")).__name__
        lines = [f"Task {ti.task_id}, run {ti.run_id}, ended with {kind}.", "Its log says why, and what to do."]
        tell(load_migration(path), "failure", f"{ti.dag_id} failed", lines, context)

    return failed
