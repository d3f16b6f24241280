"""Replicas: copy the tables into the other regions of the migration file.

**Enter when** the backfill has finished and validate has found nothing. Not before: replicated writes cost more, and bulk
puts refuse global tables.

**Steps**
1. Run with `dry_run`: the log shows what would be added.
2. Run without. One region of one table at a time; DynamoDB copies the data by itself, for hours if there is much of it.

**Done when** the run succeeds: every replica is active, with the table's tags, backups and deletion protection.

**If it fails** run it again: it continues where it stopped.

**Roll back by** removing the replica by hand (`aws dynamodb update-table --replica-updates`); the first region is not affected.
"""

from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import SAFETY, dry_run, flag
from docferry_airflow.operators.provision import AddReplicasOperator

for migration in migrations():
    params = {
        "dry_run": dry_run("Only show the plan."),
        "allow_changes": flag(
            "Allow changes",
            "Also change existing resources that differ, where DynamoDB can do so in place.",
            section=SAFETY,
        ),
    }
    with phase_dag(migration, "replicas", doc=__doc__, params=params):
        AddReplicasOperator(
            task_id="add_replicas",
            plan_only="{{ params.dry_run }}",
            allow_changes="{{ params.allow_changes }}",
        )
