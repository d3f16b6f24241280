"""Health: is all well that this migration rests on? Part by part.

**Enter when** you like, and before each phase of the night. It changes nothing.

**Steps**
1. `ask_every_part`: the replica set, tables, lag in either direction, the last validation, dead letters, the watch, the
   application, the fence, the mapping; and while all reads come from DynamoDB, what would refuse a change of leader.

**Done when** the run succeeds: every part is healthy.

**If it fails** the log has a line for each part, with what to do. What cannot be told is `unknown`, and that is not healthy.

**Roll back by** nothing: it only looks.
"""

from docferry_airflow.dag_factory import MENDING, migrations, phase_dag
from docferry_airflow.operators.mending.look import HealthOperator

for migration in migrations():
    with phase_dag(migration, "health", doc=__doc__, params={}, tags=(MENDING,)):
        HealthOperator(task_id="ask_every_part")
