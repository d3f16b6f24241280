"""Provision: make the DynamoDB side.

**Enter when** the migration file has been reviewed; `docferry check` finds nothing.

**Steps**
1. Run with `dry_run`: the task's log shows the plan as a diff (`+` is made, `!` would change what exists, `x` is refused).
2. Run without. Tables, indexes, encryption, streams, backups, TTL, tags, the ledger and the DAX cluster are made one after
   the other, and each is read back.

**Done when** the run succeeds; a second run says `unchanged` for every resource.

**If it fails** read the log's last lines. A difference from what exists is shown and refused: mend the file, or run with
`allow_changes` if DynamoDB can change it in place. Anything else: run it again, it continues where it stopped.

**Roll back by** nothing automatic. Nothing is ever deleted here; new tables are empty, and yours to delete.
"""

from docferry_airflow.dag_factory import flag, migrations, phase_dag
from docferry_airflow.operators.provision import ProvisionOperator

for migration in migrations():
    params = {
        "dry_run": flag("Only show the plan."),
        "allow_changes": flag("Also change existing resources that differ, where DynamoDB can do so in place."),
    }
    with phase_dag(migration, "provision", doc=__doc__, params=params):
        ProvisionOperator(
            task_id="make_tables",
            plan_only="{{ params.dry_run }}",
            allow_changes="{{ params.allow_changes }}",
        )
