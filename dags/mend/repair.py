"""Repair: write again what validation finds missing or different in DynamoDB, and bury what is extra.

**Enter when** the DAG `validate` found differences, you know who made them, and that has been stopped. MongoDB leads; while
DynamoDB leads only what keeps unique values is mended here: reverse replication corrects MongoDB.

**Steps**
1. Run as it is, with `dry_run`: `mend_differences` compares every document, and its log names places, never values.
2. Run without `dry_run`, with the migration's name in `confirm`. What is missing or different is read again in MongoDB and
   written by the version rules: nothing newer is touched. What is extra becomes a tombstone; what it held is kept in the
   ledger first.
3. `compare_every_document` looks once more.

**Done when** the run succeeds: 0 missing, 0 different, 0 extra.

**If it fails** in the second task, something was newer, cannot be stored (the DAG `dead_letters`), or was given to DynamoDB
while it led and may be the only copy: the log of the first task counts each. Anything else: run it again, what was written
stays.

**Roll back by** nothing: only what MongoDB holds is written. What a tombstone replaced is in the ledger (section `replaced`).
"""

from airflow.sdk import chain
from docferry_airflow.dag_factory import MENDING, migrations, phase_dag, unless_dry_run
from docferry_airflow.forms import confirmation, dry_run, some_collections
from docferry_airflow.operators.validate import RepairOperator, ValidateOperator
from docferry_airflow.pools import DYNAMO_WRITE, MONGO_READ

for migration in migrations():
    params = {
        "collections": some_collections(migration),
        "dry_run": dry_run("Compare, and only say what differs.", on=True),
        "confirm": confirmation(migration),
    }
    with phase_dag(migration, "repair", doc=__doc__, params=params, tags=(MENDING,)):
        mended = RepairOperator(
            task_id="mend_differences",
            collections="{{ params.collections }}",
            confirmed="{{ params.confirm }}",
            plan_only="{{ params.dry_run }}",
            pool=DYNAMO_WRITE,
        )
        compared = ValidateOperator(
            task_id="compare_every_document", collections="{{ params.collections }}", pool=MONGO_READ
        )
        chain(mended, unless_dry_run(), compared)
