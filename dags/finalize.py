"""Finalize: the soak is over; reverse replication stops, and MongoDB is left as it is.

**Enter when** DynamoDB has led for as long as you wanted a way back, the watch of MongoDB has ended (`docferry health`), and no
program reads MongoDB any more. With `dry_run` only step 5 runs: it says whether anything is in the way (a missing approval,
too), and changes nothing.

**Steps**
1. Type the migration's name into `confirm`.
2. `compare_every_document` judges MongoDB by DynamoDB: what is given up must be whole.
3. `wait_for_approval` asks under Required Actions, on that evidence. From there on there is no way back by replication.
4. `make_rollback_point`, if the file has `rollback_points`: the last one of MongoDB as it is, and a backup of each table.
5. `leave_mongodb` makes the mode FINAL.

**Done when** the run succeeds. Keep the last rollback point, or another backup of MongoDB. `_v` and `_t` stay on the items: the
client needs them.

**If it fails** nothing has changed: the error says why.

**Roll back by** nothing: a rollback point brings back what was (`docferry points FILE --restore`), not what has been written
since.
"""

from airflow.sdk import chain
from docferry_airflow.dag_factory import migrations, phase_dag, unless_dry_run
from docferry_airflow.forms import confirmation, dry_run, some_of
from docferry_airflow.operators.cutover import FinalizeOperator
from docferry_airflow.operators.points import rollback_point, snapshot_param
from docferry_airflow.operators.validate import ValidateOperator
from docferry_airflow.sensors.approval import PhaseApprovalSensor

WAIVED = "watch: the rest of the watch of MongoDB; strays: stray writes that are not settled. Recorded."

for migration in migrations():
    params = {
        **snapshot_param(migration),
        "waived": some_of("Waived", ["watch", "strays"], WAIVED),
        "dry_run": dry_run(),
        "confirm": confirmation(migration),
    }
    with phase_dag(migration, "finalize", doc=__doc__, params=params):
        checked = ValidateOperator(task_id="compare_every_document")
        approved = PhaseApprovalSensor(task_id="wait_for_approval", phase="finalize")
        left = FinalizeOperator(
            task_id="leave_mongodb",
            confirmed="{{ params.confirm }}",
            waived="{{ params.waived }}",
            plan_only="{{ params.dry_run }}",
        )
        chain(unless_dry_run(), checked, approved, *rollback_point(migration), left)
