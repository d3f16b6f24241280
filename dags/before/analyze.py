"""Analyze: what to build in DynamoDB, why, and what it will cost.

**Enter when** you like: it reads MongoDB within a budget, prefers a secondary, waits while the server is busy, and changes
nothing there. The DAG `analyze` needs no migration file: it looks at the database that you name. `<migration>.analyze` looks at
its file's own.

**Steps**
1. `read_mongodb` samples every collection, tries references, and asks the server for indexes and calls. The button *Report* on
   the task's page leads to `report.html`; beside it are `report.md`, `report.json` and `migration.yaml`.
2. `prove_the_model` (of `<migration>.analyze`, with `prove`) loads a sample into scratch tables, asks each access pattern of the
   file on both sides, and removes the tables. *Report* leads to `proof.html`.

**Done when** the run succeeds and the report has been read: its first page says what it costs, what does not fit, and what is to
decide. The proposed migration file passes `docferry check`; put it where your migration files are.

**If it fails** the log says why. Scratch tables of a proof that was killed are removed by the next one. Rights that are missing
do not fail it: the report names them, and the command that grants them. Run it again; a larger budget reads more.

**Roll back by** nothing: MongoDB was only read, and the scratch tables are gone.
"""

from collections.abc import Mapping, Sequence

from airflow.sdk import Param
from docferry_airflow.dag_factory import dag_without_file, migrations, phase_dag
from docferry_airflow.forms import SCOPE, flag, number
from docferry_airflow.operators.analyze import AnalyzeOperator, ProveOperator
from docferry_airflow.pools import DYNAMO_WRITE, MONGO_READ


def form(names: Sequence[str] = ()) -> dict[str, Param]:
    """What a person may choose; `names` are the collections that are known."""
    known: Mapping[str, Sequence[str]] = {"examples": list(names)} if names else {}
    return {
        "collections": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Collections",
            section=SCOPE,
            description="Only these collections; none means all.",
            **known,
        ),
        "documents": number(
            "Documents a collection", 20_000, "Read at most so many documents of each collection.", minimum=1
        ),
        "minutes": number("Minutes", 30.0, "Read for at most so long altogether.", exclusiveMinimum=0),
    }


BUDGET = {name: f"{{{{ params.{name} }}}}" for name in ("collections", "documents", "minutes")}
WHERE = {
    "mongo_connection": Param(
        "mongo_default",
        type="string",
        minLength=1,
        title="Connection",
        section=SCOPE,
        description="The Airflow connection to MongoDB.",
    ),
    "database": Param(
        "", type="string", minLength=1, title="Database", section=SCOPE, description="The MongoDB database to look at."
    ),
}

with dag_without_file("analyze", doc=__doc__, params=WHERE | form()):
    AnalyzeOperator(
        task_id="read_mongodb",
        mongo_conn_id="{{ params.mongo_connection }}",
        database="{{ params.database }}",
        pool=MONGO_READ,
        **BUDGET,
    )

PROOF = {
    "prove": flag(
        "Prove the model",
        "Load a sample into scratch tables, and ask the file's access patterns on both sides.",
        on=True,
    ),
    "calls": number("Calls", 100, "How often each access pattern is asked for the proof.", minimum=1),
}

for migration in migrations():
    with phase_dag(migration, "analyze", doc=__doc__, params=form(list(migration.mappings)) | PROOF):
        looked = AnalyzeOperator(
            task_id="read_mongodb",
            mongo_conn_id=migration.source.connection,
            database=migration.source.database,
            elsewhere=migration.namespaces.elsewhere,
            pool=MONGO_READ,
            **BUDGET,
        )
        proved = ProveOperator(
            task_id="prove_the_model",
            enabled="{{ params.prove }}",
            calls="{{ params.calls }}",
            pool=DYNAMO_WRITE,
        )
        looked >> proved
