"""Reverse: while DynamoDB leads, MongoDB follows its streams, so that going back loses nothing.

**Enter when** `stop_mongo_writes` has been prepared: unpause this DAG and leave it on. It waits until DynamoDB leads.

**Steps**
1. `wait_until_dynamodb_leads` holds no slot.
2. `follow_streams` applies what DynamoDB holds, document by document; one run follows the other. Its log tells lag and rate.

**Done when** `finalize` or a rollback says so. Until then the lag stays at a few seconds.

**If it fails** it goes on by itself where all was applied; a stream keeps its records for 24 hours. Documents that MongoDB cannot
take (a unique index) are dead letters, tried again every few seconds; they keep a rollback from beginning: `docferry status`.

**Roll back by** pausing this DAG; unpause it within a day, and it catches up.
"""

from docferry_airflow.dag_factory import CONTINUOUS, migrations, phase_dag
from docferry_airflow.forms import number
from docferry_airflow.operators.reverse import ReverseOperator
from docferry_airflow.sensors.ledger import DynamoDBLeadsSensor

for migration in migrations():
    params = {"minutes": number("Minutes", 20.0, "How long a run lasts.", exclusiveMinimum=0, maximum=240)}
    with phase_dag(migration, "reverse", doc=__doc__, params=params, schedule=CONTINUOUS):
        leads = DynamoDBLeadsSensor(task_id="wait_until_dynamodb_leads", poke_interval=15, timeout=30 * 24 * 3600)
        leads >> ReverseOperator(task_id="follow_streams", minutes="{{ params.minutes }}")
