"""Drill: rehearse the whole way to DynamoDB, back, and there again, before the night.

**Enter when** you like: it touches nothing of yours. It starts a throw-away MongoDB and AWS emulator on the worker, loads a small
shop, lets an application of many processes read and write all the while, and kills one of them.

**Steps**
1. `there_and_back_and_there_again` runs `docferry drill`; its log shows every command with the time that it took: the commands of
   the night.

**Done when** the run succeeds: no acknowledged write was lost, no deleted document came back, no request failed.

**If it fails** do not migrate: the log says which request was lost, or which command failed. Please report it.

**Roll back by** nothing: the stack is gone when the run ends.
"""

from docferry_airflow.dag_factory import migrations, phase_dag
from docferry_airflow.forms import number
from docferry_airflow.operators.drill import DrillOperator

for migration in migrations():
    params = {"processes": number("Processes", 8, "Of the application.", minimum=2, maximum=64)}
    with phase_dag(migration, "drill", doc=__doc__, params=params, retries=0):
        DrillOperator(task_id="there_and_back_and_there_again", processes="{{ params.processes }}")
