"""Stop MongoDB's writes: DynamoDB leads from here on, and MongoDB follows it.

**Enter when** all reads come from DynamoDB and have soaked; `docferry health` is healthy; programs that wrote to MongoDB without
the library have been moved to it. With `dry_run` only step 4 runs: it says whether anything is in the way (a missing approval,
too), and changes nothing.

**Steps**
1. `compare_every_document` validates everything once more.
2. `make_rollback_point`, if the file has `rollback_points`: MongoDB's database and a backup of each table, made and read again.
3. `wait_for_approval` shows the report under Required Actions. This is the moment to look twice.
4. `switch_to_dynamodb_only`, one task: writes wait (seconds, with a deadline), every process acknowledges, MongoDB is fenced,
   everything up to the fence is applied and compared, DynamoDB leads. Reads never stop.
5. `watch_the_hold` runs beside it, and puts everything back if that task dies.

**Done when** the run succeeds: `docferry mode` says DYNAMODB_ONLY. The DAG `reverse` now keeps MongoDB up to date: see that it
runs.

**If it fails** everything is as it was, and the error says what took too long or differed: an instance that did not acknowledge,
a transaction in the fence's way, a document. Correct it and start again. A lift of the fence that a silent process may have on
its way refuses the switch for 15 minutes; `waived: [lift]` says that you know it to be gone.

**Roll back by** the DAG `rollback`: MongoDB has everything that was written meanwhile. The rollback point is the second line:
`docferry points FILE` lists it, and `--restore` brings it back beside the live data.
"""

from airflow.sdk import chain
from docferry_airflow.dag_factory import migrations, phase_dag, unless_dry_run
from docferry_airflow.forms import dry_run
from docferry_airflow.operators.cutover import SwitchToDynamoDBOperator, WatchHoldOperator
from docferry_airflow.operators.points import rollback_point, snapshot_param, switch_waivers_param
from docferry_airflow.operators.validate import ValidateOperator
from docferry_airflow.sensors.approval import PhaseApprovalSensor

for migration in migrations():
    params = {
        **snapshot_param(migration),
        "waived": switch_waivers_param(),
        "dry_run": dry_run(),
    }
    with phase_dag(migration, "stop_mongo_writes", doc=__doc__, params=params):
        checked = ValidateOperator(task_id="compare_every_document")
        approved = PhaseApprovalSensor(task_id="wait_for_approval", phase="stop_mongo_writes")
        watched = WatchHoldOperator(task_id="watch_the_hold")
        switched = SwitchToDynamoDBOperator(
            task_id="switch_to_dynamodb_only", waived="{{ params.waived }}", plan_only="{{ params.dry_run }}"
        )
        chain(unless_dry_run(), checked, *rollback_point(migration), approved, [watched, switched])
