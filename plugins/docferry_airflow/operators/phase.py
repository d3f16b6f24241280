"""One phase of the playbook: a run of that phase's own DAG."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator


class PhaseOperator(TriggerDagRunOperator):
    """Runs a phase's DAG and waits for its end, holding no slot. Fails at once if that DAG is paused: nothing would run.

    :param phase: Name of the phase. Its DAG is the one of the same migration.
    """

    def __init__(self, *, phase: str, **kwargs: Any) -> None:
        kwargs.setdefault("poke_interval", 5)
        super().__init__(
            trigger_dag_id="{{ dag.dag_id.rpartition('.')[0] }}." + phase,
            # Each attempt has a run of its own: one that is under way must not be cleared from under somebody.
            trigger_run_id="playbook__{{ run_id }}__{{ ti.try_number }}__{{ ti.task_id }}",
            wait_for_completion=True,
            deferrable=True,
            fail_when_dag_is_paused=True,
            **kwargs,
        )
