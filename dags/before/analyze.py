"""Analyze: what to build in DynamoDB, why, and what it will cost.

**Enter when** you like: it reads MongoDB within a budget, prefers a secondary, waits while the server is busy, and changes
nothing. The DAG `analyze` needs no migration file: it looks at the database that you name. `<migration>.analyze` looks at its
file's own.

**Steps**
1. `read_mongodb` samples every collection, tries references, and asks the server for indexes and calls. The button *Report* on
   the task's page leads to `report.html`; beside it are `report.md`, `report.json` and `migration.yaml`.

**Done when** the run succeeds and the report has been read: its first page says what it costs, what does not fit, and what is to
decide. The proposed migration file passes `docferry check`; put it where your migration files are.

**If it fails** the log says why. Rights that are missing do not fail it: the report names them, and the command that grants them.
Run it again; a larger budget reads more.

**Roll back by** nothing: nothing was changed.
"""

from collections.abc import Mapping, Sequence

from airflow.sdk import Param
from docferry_airflow.dag_factory import dag_without_file, migrations, phase_dag
from docferry_airflow.operators.analyze import AnalyzeOperator
from docferry_airflow.pools import MONGO_READ


def form(names: Sequence[str] = ()) -> dict[str, Param]:
    """What a person may choose; `names` are the collections that are known."""
    known: Mapping[str, Sequence[str]] = {"examples": list(names)} if names else {}
    return {
        "collections": Param(
            [],
            type="array",
            items={"type": "string"},
            title="Collections",
            description="Only these collections; none means all.",
            **known,
        ),
        "documents": Param(
            20_000,
            type="integer",
            minimum=1,
            title="Documents a collection",
            description="Read at most so many documents of each collection.",
        ),
        "minutes": Param(
            30, type="number", exclusiveMinimum=0, title="Minutes", description="Read for at most so long altogether."
        ),
    }


BUDGET = {name: f"{{{{ params.{name} }}}}" for name in ("collections", "documents", "minutes")}
WHERE = {
    "mongo_connection": Param(
        "mongo_default",
        type="string",
        minLength=1,
        title="Connection",
        description="The Airflow connection to MongoDB.",
    ),
    "database": Param("", type="string", minLength=1, title="Database", description="The MongoDB database to look at."),
}

with dag_without_file("analyze", doc=__doc__, params=WHERE | form()):
    AnalyzeOperator(
        task_id="read_mongodb",
        mongo_conn_id="{{ params.mongo_connection }}",
        database="{{ params.database }}",
        pool=MONGO_READ,
        **BUDGET,
    )

for migration in migrations():
    with phase_dag(migration, "analyze", doc=__doc__, params=form(list(migration.mappings))):
        AnalyzeOperator(
            task_id="read_mongodb",
            mongo_conn_id=migration.source.connection,
            database=migration.source.database,
            pool=MONGO_READ,
            **BUDGET,
        )
