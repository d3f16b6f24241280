"""The rehearsal, as a process of its own beside the task."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

KEPT = ("ok", "writes", "writes_per_s", "reads", "holds_s", "longest_pause_of_reads_s", "steps", "seconds")
"""Of the report: counts and times only."""


class DrillOperator(BaseOperator):
    """Runs `docferry drill`: its lines go to the task's log, its figures are the result.

    :param processes: Of the application.
    """

    template_fields: Sequence[str] = ("processes",)

    def __init__(self, *, processes: int | str = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.processes = processes
        self._child: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        command = [sys.executable, "-m", "docferry.cli", "drill", "--processes", str(int(self.processes)), "--json"]
        with subprocess.Popen(  # noqa: S603 - our own command and a number
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            self._child = child
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stderr:
                self.log.info("%s", line.rstrip())
            said = child.stdout.read()
        report = json.loads(said or "{}")
        if child.returncode:
            counts = {name: len(report.get(name, ())) for name in ("lost", "resurrected", "failed", "contradicted")}
            raise AirflowFailException(f"the drill ended with {child.returncode}: {report.get('message') or counts}")
        return {name: report[name] for name in KEPT}

    def on_kill(self) -> None:
        """The stack ends with the process that has started it."""
        if self._child is not None:
            self._child.terminate()
