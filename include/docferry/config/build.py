"""The frozen settings of a migration, made from a file without problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from docferry.config.schema import (
    CollectionFile,
    ExistsFile,
    IndexFile,
    ItemFile,
    MigrationFile,
    PatternFile,
    TableFile,
)
from docferry.config.transforms import find_transform
from docferry.core import settings as s
from docferry.core.mapping.items import KIND
from docferry.core.mapping.large.overflow import fitting_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.table_layout import TableLayout
from docferry.core.namespaces import Namespaces
from docferry.core.settings_estate import EstateSettings
from docferry.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration: its settings and its compiled mappings. `digest` names the file's exact content."""

    name: str
    path: str
    digest: str
    source: s.SourceSettings
    target: s.TargetSettings
    tables: tuple[s.TableSettings, ...]
    collections: tuple[s.CollectionSettings, ...]
    access_patterns: tuple[s.AccessPattern, ...]
    ledger: s.LedgerSettings
    dax: s.DaxSettings | None
    backfill: s.BackfillSettings
    validate: s.ValidateSettings
    cutover: s.CutoverSettings
    rollback_points: s.RollbackPointSettings | None
    monitoring: s.MonitoringSettings | None = None
    notify: tuple[s.NotifySettings, ...] = ()
    estate: EstateSettings = field(default_factory=EstateSettings)
    to_create: frozenset[str] = frozenset()
    """Collections that need not exist yet: provision makes them."""
    mappings: Mapping[str, DocumentMapping] = field(compare=False, repr=False)

    def mapping(self, collection: str) -> DocumentMapping:
        """The compiled mapping of a collection. Raises ConfigError, with what there is, for an unknown one."""
        if collection not in self.mappings:
            known = ", ".join(self.mappings)
            raise ConfigError(
                self.path, [Problem(where="collections", what=f"there is no {collection}; there are {known}")]
            )
        return self.mappings[collection]

    @property
    def namespaces(self) -> Namespaces:
        """Where the collections are in MongoDB."""
        elsewhere = {one.name: (one.database, one.collection) for one in self.collections if one.database}
        return Namespaces(self.source.database, elsewhere)

    def table(self, name: str) -> s.TableSettings:
        """The settings of a table that the file names."""
        return next(table for table in self.tables if table.name == name)

    @property
    def layouts(self) -> dict[str, TableLayout]:
        """Of the tables that do not keep every item as it is everywhere else."""
        found = {
            table.name: TableLayout(
                table.key,
                {index: one.key for index, one in table.designs.items()},
                fitting_of(one for one in self.collections if one.table == table.name),
            )
            for table in self.tables
        }
        return {name: layout for name, layout in found.items() if not layout.plain}

    def entities(self, table: str) -> dict[str, DocumentMapping]:
        """entityType -> mapping, for all items of documents that may be in a table: their guards hold nothing of them."""
        found = [mapping for mapping in self.mappings.values() if mapping.table == table]
        return {entity: mapping for mapping in found for entity in (mapping.root.entity, *mapping.children)}

    def kinds(self, table: str) -> dict[str, DocumentMapping]:
        """The same with guards: all items that the migration may have in a table."""
        found = [mapping for mapping in self.mappings.values() if mapping.table == table]
        return {entity: mapping for mapping in found for entity in mapping.kinds}


def build(file: MigrationFile, source: str, digest: str) -> Migration:
    collections = tuple(collection_settings(file, name) for name in file.collections)
    return Migration(
        name=file.migration,
        path=source,
        digest=digest,
        source=file.source,
        target=file.target,
        tables=tuple(_table_settings(name, table) for name, table in file.tables.items()),
        collections=collections,
        access_patterns=tuple(_pattern(name, pattern) for name, pattern in file.access_patterns.items()),
        ledger=file.ledger,
        dax=file.dax,
        backfill=file.backfill,
        validate=file.validate_,
        cutover=file.cutover,
        rollback_points=file.rollback_points,
        monitoring=file.monitoring,
        notify=file.notify,
        estate=file.estate,
        to_create=frozenset(name for name, one in file.collections.items() if one is not None and one.create),
        mappings={settings.name: compiled(settings) for settings in collections},
    )


def _table_settings(name: str, table: TableFile) -> s.TableSettings:
    found = {index: table.design_of(index) for index in table.indexes}
    return s.TableSettings(
        name=name,
        key=table.key_design,
        indexes=tuple(table.indexes),
        designs={index: one for index, one in found.items() if one != s.IndexSettings(key=s.plain_index_key(index))},
        **{one.name: getattr(table, one.name) for one in fields(s.TableDesign)},
    )


def collection_settings(file: MigrationFile, name: str) -> s.CollectionSettings:
    collection = file.collections[name] or CollectionFile()
    table = collection.table or next(iter(file.tables))
    made = file.tables[table]
    designs = {index: made.design_of(index) for index in made.indexes}
    if collection.item is None:
        entity = name.upper()
        item = s.ItemSettings(entity=entity, key=_generic_key(entity, made.key_design))
    else:
        item = _item_settings(collection.item)
    elsewhere = collection.database is not None
    return s.CollectionSettings(
        name=name,
        database=collection.database or "",
        collection=(collection.collection or name) if elsewhere else "",
        table=table,
        item=item,
        children={key: _item_settings(child) for key, child in collection.children.items()},
        unmapped=collection.unmapped,
        order=collection.order,
        transform=collection.transform,
        scan=collection.scan,
        overflow=collection.overflow,
        filter=collection.filter,
        generic=collection.item is None,
        index_names=tuple(made.indexes),
        ttl_attribute=made.ttl_attribute,
        key=made.key_design,
        index_keys={index: one.key for index, one in designs.items() if one.key != s.plain_index_key(index)},
        without_kind=frozenset(index for index, one in designs.items() if not _projects(one, KIND)),
        unique=tuple(
            s.UniqueSettings(name=index, key=one.key, sparse=one.sparse, partial=one.partial)
            for index, one in collection.unique.items()
        ),
    )


def compiled(settings: s.CollectionSettings) -> DocumentMapping:
    """The mapping of a collection, with its transform. Raises ValueError if it is not there any more."""
    named = settings.transform
    return DocumentMapping(settings, None if named is None else find_transform(named.use))


def _generic_key(entity: str, key: s.KeyDesign) -> dict[str, str]:
    return {"PK": entity + "#{_id}"} | ({"SK": "DATA"} if key.SK is not None else {})


def _projects(index: s.IndexSettings, attribute: str) -> bool:
    return index.projection == "ALL" or attribute in index.include


def _item_settings(item: ItemFile) -> s.ItemSettings:
    return s.ItemSettings(
        entity=item.entity,
        key=item.key,
        index={name: {"PK": keys.PK} | ({"SK": keys.SK} if keys.SK else {}) for name, keys in item.index.items()},
        when={name: _conditions(keys) for name, keys in item.index.items() if keys.when},
        attributes=item.attributes,
        types=item.types,
    )


def _conditions(keys: IndexFile) -> dict[str, object]:
    return {path: {"exists": one.exists} if isinstance(one, ExistsFile) else one for path, one in keys.when.items()}


def _pattern(name: str, pattern: PatternFile) -> s.AccessPattern:
    key = {"PK": pattern.PK} | ({"SK": pattern.SK} if pattern.SK else {})
    return s.AccessPattern(name=name, collection=pattern.collection, key=key, index=pattern.index)
