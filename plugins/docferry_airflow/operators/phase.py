"""One phase of the playbook: a run of that phase's own DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.external_task import DagStateTrigger
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

RUN_ID = "playbook__{run}__{time}__{phase}"
"""`time` counts how often the phase was asked for: 1, and about one more after each clearing."""


class PhaseOperator(TriggerDagRunOperator):
    """Runs a phase's DAG and waits for its end, holding no slot. Fails at once if that DAG is paused: nothing would run.

    Another attempt of the task, after a worker died, finds the run of the one before and waits for it. A run that failed is
    not repeated by itself: a person looks, and clears the task; then there is a new one.

    :param phase: Name of the phase. Its DAG is the one of the same migration.
    """

    def __init__(self, *, phase: str, **kwargs: Any) -> None:
        kwargs.setdefault("poke_interval", 2)
        super().__init__(
            trigger_dag_id="{{ dag.dag_id.rpartition('.')[0] }}." + phase,
            wait_for_completion=True,
            deferrable=True,
            fail_when_dag_is_paused=True,
            **kwargs,
        )

    def execute(self, context: Context) -> None:
        ti: Any = context["ti"]
        time = ti.max_tries - (self.retries or 0) + 1  # Airflow adds to it when the task is cleared
        run_id = RUN_ID.format(run=context["run_id"], time=time, phase=self.task_id)
        self.trigger_run_id = run_id
        if not ti.get_dr_count(self.trigger_dag_id, run_ids=[run_id]):
            super().execute(context)
            return
        state = ti.get_dagrun_state(self.trigger_dag_id, run_id)
        self.log.info("%s %s, of an attempt before, is %s", self.trigger_dag_id, run_id, state)
        if state in self.failed_states:
            raise AirflowFailException(f"{self.trigger_dag_id} failed: see its run {run_id}")
        if state not in self.allowed_states:
            states = [*self.allowed_states, *self.failed_states]
            waiting = DagStateTrigger(self.trigger_dag_id, states, [run_id], poll_interval=self.poke_interval)
            self.defer(trigger=waiting, method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any) -> None:
        try:
            super().execute_complete(context, event)
        except AirflowException as error:
            raise AirflowFailException(f"{self.trigger_dag_id} failed: see its run. Then clear this task") from error
