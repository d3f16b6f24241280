"""What OpenLineage is told of data that moves: which collections and tables, and how many documents and items.

Airflow's OpenLineage provider asks for it where it is installed and switched on; nothing of OpenLineage is imported otherwise.
Nothing of a document is told, no user and no password.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from docferry_airflow.operators.base import MigrationOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context
    from docferry.config import Migration

    Lineage = OperatorLineage[Any, Any]

Movement = Literal["to the tables", "to the collections", "none"]
Place = tuple[str, str]
"""A data set's namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How many documents of a collection, and items of a table, were read or written; only of those of which it is known."""

    collections: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)


def of_the_only(names: Iterable[str], count: int) -> dict[str, int]:
    """What a stream has counted, if that can have been of one collection or table only."""
    known = set(names)
    return dict.fromkeys(known, count) if len(known) == 1 else {}


class LineageOperator(MigrationOperator):
    """Base of operators that move documents, or compare them.

    `movement`: where they go; "none": both databases are read.
    """

    movement: Movement = "to the tables"
    _summary: Any = None

    def execute(self, context: Context) -> Any:
        self._summary = None
        self._summary = super().execute(context)
        return self._summary

    def touched(self) -> Sequence[str]:
        """The collections that this task is about; empty means all of the file."""
        return ()

    def rows(self, migration: Migration, summary: Any) -> Rows:
        """What a task that has succeeded has counted."""
        return Rows()

    def get_openlineage_facets_on_start(self) -> Lineage:
        """The data sets, without counts."""
        return self._lineage(None)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Lineage:
        """The data sets, with the counts of this attempt if it has succeeded."""
        return self._lineage(self._summary)

    def _lineage(self, summary: Any) -> Lineage:
        from airflow.providers.openlineage.extractors import OperatorLineage
        from docferry.config import load_migration

        migration = load_migration(self.migration_file)
        rows = self.rows(migration, summary) if summary else Rows()
        chosen = [one for one in migration.collections if one.name in (self.touched() or (one.name,))]
        collections = {one.name: _place_of_collection(migration, one.name) for one in chosen}
        tables = {one.table: _place_of_table(migration, one.table) for one in chosen}
        if self.movement == "none":
            read = [*_inputs(collections, rows.collections), *_inputs(tables, rows.tables)]
            return OperatorLineage(inputs=read)
        if self.movement == "to the tables":
            return OperatorLineage(inputs=_inputs(collections, rows.collections), outputs=_outputs(tables, rows.tables))
        return OperatorLineage(inputs=_inputs(tables, rows.tables), outputs=_outputs(collections, rows.collections))


def _place_of_collection(migration: Migration, name: str) -> Place:
    """`mongodb://host:port` and `database.collection`; the hosts of a set in one order, whatever that of the connection."""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(migration.source.connection)
    port = f":{connection.port}" if connection.port else ""
    hosts = ",".join(sorted(f"{host}{port}" for host in (connection.host or "").split(",")))
    return f"mongodb://{hosts}", ".".join(migration.namespaces.place_of(name))


def _place_of_table(migration: Migration, name: str) -> Place:
    return f"dynamodb://{migration.target.region}", name


def _inputs(places: Mapping[str, Place], rows: Mapping[str, int]) -> list[Any]:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    counted = {name: statistics.InputStatisticsInputDatasetFacet(rowCount=count) for name, count in rows.items()}
    return [
        InputDataset(*place, inputFacets={"inputStatistics": counted[name]} if name in counted else {})
        for name, place in places.items()
    ]


def _outputs(places: Mapping[str, Place], rows: Mapping[str, int]) -> list[Any]:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    counted = {name: statistics.OutputStatisticsOutputDatasetFacet(rowCount=count) for name, count in rows.items()}
    return [
        OutputDataset(*place, outputFacets={"outputStatistics": counted[name]} if name in counted else {})
        for name, place in places.items()
    ]
