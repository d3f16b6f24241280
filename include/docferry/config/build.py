"""The frozen settings of a migration, made from a file without problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from docferry.config.schema import CollectionFile, ItemFile, MigrationFile, PatternFile
from docferry.core import settings as s
from docferry.core.mapping.mapping import DocumentMapping
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

    def table(self, name: str) -> s.TableSettings:
        """The settings of a table that the file names."""
        return next(table for table in self.tables if table.name == name)

    def entities(self, table: str) -> dict[str, DocumentMapping]:
        """entityType -> mapping, for all items that may be in a table."""
        found = [mapping for mapping in self.mappings.values() if mapping.table == table]
        return {entity: mapping for mapping in found for entity in (mapping.root.entity, *mapping.children)}


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
        to_create=frozenset(name for name, one in file.collections.items() if one is not None and one.create),
        mappings={settings.name: DocumentMapping(settings) for settings in collections},
    )


def _table_settings(name: str, table: s.TableDesign) -> s.TableSettings:
    return s.TableSettings(name=name, **{one.name: getattr(table, one.name) for one in fields(table)})


def collection_settings(file: MigrationFile, name: str) -> s.CollectionSettings:
    collection = file.collections[name] or CollectionFile()
    table = collection.table or next(iter(file.tables))
    if collection.item is None:
        entity = name.upper()
        item = s.ItemSettings(entity=entity, key={"PK": entity + "#{_id}", "SK": "DATA"})
    else:
        item = _item_settings(collection.item)
    return s.CollectionSettings(
        name=name,
        table=table,
        item=item,
        children={key: _item_settings(child) for key, child in collection.children.items()},
        unmapped=collection.unmapped,
        generic=collection.item is None,
        index_names=file.tables[table].indexes,
        ttl_attribute=file.tables[table].ttl_attribute,
    )


def _item_settings(item: ItemFile) -> s.ItemSettings:
    return s.ItemSettings(
        entity=item.entity,
        key=item.key,
        index={name: {"PK": keys.PK, "SK": keys.SK} for name, keys in item.index.items()},
        when={name: keys.when for name, keys in item.index.items() if keys.when},
        attributes=item.attributes,
        types=item.types,
    )


def _pattern(name: str, pattern: PatternFile) -> s.AccessPattern:
    key = {"PK": pattern.PK} | ({"SK": pattern.SK} if pattern.SK else {})
    return s.AccessPattern(name=name, collection=pattern.collection, key=key, index=pattern.index)
