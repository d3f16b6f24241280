"""Clients: the application's processes, and the programs that use MongoDB without docferry's client.

**Enter when** you want to know who would be stopped by the fence, or who has not followed a change of mode. It changes
nothing.

**Steps**
1. `list_instances`: what each process of the application notes of itself: its mode and epoch, and when it was seen last.
2. `look_at_mongodb` looks at MongoDB's connections for `seconds`: who writes, who reads, who is idle.

**Done when** the run succeeds: no program writes to MongoDB without the client.

**If it fails** the log names the programs that write: their appName, user and host. Move them to the client, or name them in
the file (`cutover.waived_writers`) if their writes may be lost.

**Roll back by** nothing: it only looks.
"""

from docferry_airflow.dag_factory import MENDING, migrations, phase_dag
from docferry_airflow.forms import number
from docferry_airflow.operators.mending.look import ListInstancesOperator, MongoClientsOperator

for migration in migrations():
    seconds = number("Seconds", 10.0, "How long MongoDB's connections are looked at.", minimum=0.5, maximum=3600)
    with phase_dag(migration, "clients", doc=__doc__, params={"seconds": seconds}, tags=(MENDING,)):
        ListInstancesOperator(task_id="list_instances")
        MongoClientsOperator(task_id="look_at_mongodb", seconds="{{ params.seconds }}")
