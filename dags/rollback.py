"""Rollback: MongoDB leads again, from whatever mode, and nothing that was written meanwhile is lost.

**Enter when** somebody decides so. Run it with `dry_run` first: the log says what it would do, and what would refuse it.

**Steps**
1. From DUAL_WRITE or DYNAMODB_READS: a change of mode.
2. From DYNAMODB_ONLY: writes wait (seconds, with a deadline), every process acknowledges and says what it wrote last, MongoDB has
   applied all of it, the fence is lifted, MongoDB leads. Reads never stop.

**Done when** the run succeeds: `docferry mode` says MONGO_ONLY. The DAG `replicate` goes on from there by itself.

**If it fails** everything is as it was. An instance that vanished without a word may still have a request on its way: wait, or
name it in `waived` if you know that it is gone.

**Roll back by** going forward again: `dual_write`, `flip_reads`, `stop_mongo_writes`.
"""

from airflow.sdk import Param
from docferry_airflow.dag_factory import flag, migrations, phase_dag
from docferry_airflow.operators.cutover import RollbackOperator

for migration in migrations():
    gone = Param([], type="array", items={"type": "string"}, description="Instances (ids) that are known to be gone.")
    params = {"dry_run": flag("Only say what would be done."), "waived": gone}
    with phase_dag(migration, "rollback", doc=__doc__, params=params):
        RollbackOperator(
            task_id="give_mongodb_the_lead", plan_only="{{ params.dry_run }}", waived="{{ params.waived }}"
        )
