"""Finalize: the soak is over; reverse replication stops, and MongoDB is left as it is.

**Enter when** DynamoDB has led for as long as you wanted a way back, and nobody reads MongoDB any more.

**Steps**
1. Type the migration's name into `confirm`. From here on there is no way back by replication.
2. `leave_mongodb` makes the mode FINAL.

**Done when** the run succeeds. Keep a backup of MongoDB. `_v` and `_t` stay on the items: the client lives on them.

**If it fails** nothing has changed: the error says why.

**Roll back by** nothing.
"""

from airflow.sdk import Param
from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.operators.cutover import FinalizeOperator

for migration in migrations():
    params = {"confirm": Param("", type="string", description="The migration's name, typed.")}
    with phase_dag(migration, "finalize", doc=__doc__, params=params):
        FinalizeOperator(task_id="leave_mongodb", confirmed="{{ params.confirm }}")
