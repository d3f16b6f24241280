"""Dual write: the application writes to MongoDB and then to DynamoDB; MongoDB leads.

**Enter when** everything is loaded, `replicate` runs with little lag, and the application runs with `docferry.connect`.
With `dry_run` the run says whether anything is in the way, and changes nothing.

**Steps**
1. `begin_dual_write` changes the mode; every process follows within a moment.
2. From then on `compare` percent of the reads are asked of both databases, in the background, and compared.

**Done when** the run succeeds. `docferry mode` lists the instances that follow; let it soak until `status` shows no mismatch.

**If it fails** the error lists everything that keeps it from beginning. A dual write that fails does not fail the application's
request: it is counted, and replication writes what is missing.

**Roll back by** the DAG `rollback`: a change of mode, nothing is lost.
"""

from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import dry_run, number
from docferry_airflow.operators.cutover import BeginDualWriteOperator

for migration in migrations():
    params = {
        "compare": number("Compared reads", 100, "Percent of the reads.", minimum=0, maximum=100),
        "dry_run": dry_run(),
    }
    with phase_dag(migration, "dual_write", doc=__doc__, params=params):
        BeginDualWriteOperator(
            task_id="begin_dual_write", compare="{{ params.compare }}", plan_only="{{ params.dry_run }}"
        )
