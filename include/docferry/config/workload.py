"""What is asked of the collections, read from a YAML file or from the report of an analysis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from docferry.core.cost.calls import CallRates, IndexReads, only_counted
from docferry.core.cost.forecast import Workload
from docferry.core.cost.migration import MigrationPlan
from docferry.core.cost.roi import GROWTH_A_YEAR
from docferry.core.cost.sizes import CollectionSizes
from docferry.core.cost.units import read_units, write_units
from docferry.errors import ConfigError, Problem

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _IndexFile(_Model):
    calls: Amount
    results: Amount = 1.0


class _RatesFile(_Model):
    """Calls a second."""

    by_key: Amount = 0.0
    by_index: dict[str, _IndexFile] = Field(default_factory=dict)
    insert: Amount = 0.0
    update: Amount = 0.0
    delete: Amount = 0.0
    moved: dict[str, Share] = Field(default_factory=dict)


class _PlanFile(_Model):
    follow_weeks: Amount = 0.0
    dual_write_weeks: Amount = 2.0
    validations: Annotated[int, Field(ge=0)] = 14
    compared: Share = 0.0
    way_back_weeks: Amount = 1.0
    shards: Annotated[int, Field(ge=0)] = 4
    processes: Annotated[int, Field(ge=0)] = 0
    backups: Annotated[int, Field(ge=0)] = 0
    team_weeks: Amount = 0.0
    team_week_usd: Amount = 0.0
    by_import: bool = False


class _WorkloadFile(_Model):
    collections: dict[str, _RatesFile] = Field(default_factory=dict)
    day: Annotated[list[Amount], Field(min_length=24, max_length=24)] | None = None
    growth: Annotated[float, Field(ge=-1, le=100)] = GROWTH_A_YEAR
    backups: Amount = 0.0
    cold_backups: Amount = 0.0
    transfer_out_gb: Amount = 0.0
    infrequent: list[str] = Field(default_factory=list)
    plan: _PlanFile = Field(default_factory=_PlanFile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzed:
    """What a report of `docferry analyze` says of collections: documents, their mean bytes, reads and writes a second."""

    source: str
    documents: Mapping[str, float]
    bytes: Mapping[str, float]
    rates: Mapping[str, CallRates] = field(default_factory=dict)


def load_workload(path: Path, collections: Mapping[str, object], indexes: set[str]) -> Workload:
    """The workload in a file. Raises ConfigError with every problem, also for collections and indexes that a migration
    does not have."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), [Problem(where="file", what=f"cannot be read: {type(error).__name__}")]) from error
    try:
        file = _WorkloadFile.model_validate(tree)
    except ValidationError as error:
        problems = [Problem(where=".".join(map(str, one["loc"])), what=one["msg"].lower()) for one in error.errors()]
        raise ConfigError(str(path), problems) from error
    problems = [
        Problem(where=f"collections.{name}", what="is no collection of the migration file")
        for name in file.collections
        if name not in collections
    ]
    problems += [
        Problem(where=f"collections.{name}.{part}.{index}", what="is no index of the migration file")
        for name, one in file.collections.items()
        for part, named in (("by_index", one.by_index), ("moved", one.moved))
        for index in named
        if index not in indexes
    ]
    if file.day is not None and not any(file.day):
        problems.append(Problem(where="day", what="is 0 in every hour"))
    if problems:
        raise ConfigError(str(path), problems)
    return _workload(file)


def _workload(file: _WorkloadFile) -> Workload:
    rates = {name: _rates(one) for name, one in file.collections.items()}
    plan = MigrationPlan(**file.plan.model_dump())
    made = Workload(
        rates=rates,
        growth=file.growth,
        backups=file.backups,
        cold_backups=file.cold_backups,
        transfer_out_gb=file.transfer_out_gb,
        infrequent=frozenset(file.infrequent),
        plan=plan,
    )
    return made if file.day is None else replace(made, day=tuple(file.day))


def _rates(one: _RatesFile) -> CallRates:
    return CallRates(
        by_key=one.by_key,
        by_index={name: IndexReads(calls=each.calls, results=each.results) for name, each in one.by_index.items()},
        insert=one.insert,
        update=one.update,
        delete=one.delete,
        moved=dict(one.moved),
    )


def load_analysis(path: Path) -> Analyzed:
    """The facts in a `report.json`. Raises ConfigError if it is none."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))["facts"]["collections"]
        return Analyzed(
            source=str(path),
            documents={one["name"]: float(one["documents"]) for one in facts},
            bytes={one["name"]: float(one["average_bytes"]) for one in facts},
            rates={
                one["name"]: only_counted(one["reads_s"], one["writes_s"])
                for one in facts
                if one["reads_s"] is not None and one["writes_s"] is not None
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"is no report of docferry analyze ({type(error).__name__})"
        raise ConfigError(str(path), [Problem(where="file", what=what, suggestion="give its report.json")]) from error


def analyzed_sizes(found: Analyzed, collection: str, table: str) -> CollectionSizes:
    """One item a document, of its mean size in BSON: all that is known without a sample."""
    size = found.bytes.get(collection, 0.0)
    documents = found.documents.get(collection, 0.0)
    if not size or not documents:
        return CollectionSizes(collection=collection, table=table, documents=documents, sampled=0)
    put, get = write_units(size), read_units(size, "strong")
    return CollectionSizes(
        collection=collection, table=table, documents=documents, sampled=1, items=1.0, item_bytes=size,
        put_units=put, dual_units=put, root_units=put, read_units=get, get_units=get,
    )  # fmt: skip
