"""Playbook: the whole migration, phase after phase, each a run of its own DAG.

**Enter when** the migration file has been reviewed (`docferry check`), and all DAGs of the migration are unpaused: `replicate`
and `reverse` do their work from then on whenever it is their turn.

**Steps**
1. `provision`, `backfill`; then `wait_until_followed` until DynamoDB follows MongoDB, and `validate`.
2. `wait_for_the_application` until it runs with docferry's client; then `dual_write`, and `validate_dual_writes`.
3. `flip_reads` and `stop_mongo_writes` ask for an approval under Required Actions, on the evidence that they show.
4. DynamoDB leads. `soak` waits until it has led for `soak_hours` on end: as long as you want a way back. Then `finalize` asks for
   its approval.

**Done when** the run succeeds: DynamoDB serves alone.

**If it fails** the phase that failed says why, in its own run; nothing after it has begun, and everything serves as before.
Correct it and clear the failed task here: it starts that phase once more, and what the phase had done is not done again.

**Roll back by** the DAG `rollback`, at any time before `finalize`. It may have been a rehearsal: `soak` waits until DynamoDB
leads again, by `dual_write`, `flip_reads` and `stop_mongo_writes`. Otherwise mark this run as failed.
"""

from airflow.sdk import chain
from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import number
from docferry_airflow.operators.phase import PhaseOperator
from docferry_airflow.sensors.ledger import ApplicationRunsSensor, DynamoDBHasLedSensor, ReplicationNearSensor

SOAK = "How long each share of the reads is watched."
MONTH_S = 30 * 24 * 3600
FLIP = {name: f"{{{{ params.{name} }}}}" for name in ("soak_minutes", "reads", "slower")}

for migration in migrations():
    params = {
        "compare": number("Compared reads", 100, "Percent of the reads.", minimum=0, maximum=100),
        "soak_minutes": number("Soak of a share, in minutes", 10.0, SOAK, minimum=0, maximum=24 * 60),
        "reads": number("Reads as evidence", 300, "As in flip_reads: how many reads are evidence.", minimum=0),
        "slower": number("Slower at most", 3.0, "As in flip_reads: the bound on the p95 of reads.", minimum=0),
        "soak_hours": number("Soak of DynamoDB, in hours", 168.0, "How long DynamoDB leads before the end.", minimum=0),
    }
    with phase_dag(migration, "playbook", doc=__doc__, params=params):
        chain(
            PhaseOperator(task_id="provision", phase="provision"),
            PhaseOperator(task_id="backfill", phase="backfill"),
            ReplicationNearSensor(task_id="wait_until_followed", timeout=MONTH_S, poke_interval=15),
            PhaseOperator(task_id="validate", phase="validate"),
            ApplicationRunsSensor(task_id="wait_for_the_application", timeout=MONTH_S, poke_interval=15),
            PhaseOperator(task_id="dual_write", phase="dual_write", conf={"compare": "{{ params.compare }}"}),
            PhaseOperator(task_id="validate_dual_writes", phase="validate"),
            PhaseOperator(task_id="flip_reads", phase="flip_reads", conf=FLIP),
            PhaseOperator(task_id="stop_mongo_writes", phase="stop_mongo_writes"),
            DynamoDBHasLedSensor(
                task_id="soak", hours="{{ params.soak_hours }}", timeout=12 * MONTH_S, poke_interval=15
            ),
            PhaseOperator(task_id="finalize", phase="finalize", conf={"confirm": migration.name}),
        )
