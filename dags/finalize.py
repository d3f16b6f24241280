"""Finalize: the soak is over; reverse replication stops, and MongoDB is left as it is.

**Enter when** DynamoDB has led for as long as you wanted a way back, and nobody reads MongoDB any more.

**Steps**
1. Type the migration's name into `confirm`.
2. `wait_for_approval` asks under Required Actions, on the evidence of a validation made since DynamoDB leads. From there on
   there is no way back by replication.
3. `leave_mongodb` makes the mode FINAL.

**Done when** the run succeeds. Keep a backup of MongoDB. `_v` and `_t` stay on the items: the client lives on them.

**If it fails** nothing has changed: the error says why.

**Roll back by** nothing.
"""

from airflow.sdk import Param
from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.operators.cutover import FinalizeOperator
from docferry_airflow.sensors.approval import PhaseApprovalSensor

for migration in migrations():
    params = {"confirm": Param("", type="string", description="The migration's name, typed.")}
    with phase_dag(migration, "finalize", doc=__doc__, params=params):
        approved = PhaseApprovalSensor(task_id="wait_for_approval", phase="finalize")
        approved >> FinalizeOperator(task_id="leave_mongodb", confirmed="{{ params.confirm }}")
