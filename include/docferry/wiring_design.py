"""The composition root of the design phase: an analysis, an application's source, prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from docferry.adapters.javascript.parsers import javascript_parsers
from docferry.adapters.local.analysis_files import AnalysisDirectory
from docferry.adapters.local.application import SourceDirectory
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.mongodb.source import MongoSource
from docferry.adapters.price_list import ADDRESS, fetch_offer
from docferry.adapters.sketches import sketches
from docferry.config import Migration
from docferry.core.cost.price_list import DAX, DYNAMODB, ListedPrices, read_offer
from docferry.core.namespaces import Namespaces
from docferry.core.source.program.python import parse_python
from docferry.errors import ConfigError, Problem
from docferry.ports.analyze import Sketches, SourceParser, SourceTree
from docferry.wiring import MONGO_URI, clean_uri

PRICE_LIST = ADDRESS
"""Where AWS publishes its prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisPorts:
    """MongoDB for an analysis, and sketches."""

    source: MongoAnalysis
    sketches: Sketches


def analysis_source(uri: str, where: Namespaces | str, also: Sequence[str] = ()) -> AnalysisPorts:
    """How an analysis reaches MongoDB; `also` are further databases, all of whose collections are looked at.

    Raises: ConfigError without a URI, or without the extra `analyze`; StoreError.
    """
    if not uri.strip():
        problem = Problem(
            where=MONGO_URI, what="is not set", suggestion="export it: mongodb://user:password@host/?replicaSet=..."
        )
        raise ConfigError("environment", [problem])
    source = MongoAnalysis(clean_uri(uri), where)
    if also:
        source.look_in(also)
    return AnalysisPorts(source=source, sketches=sketches())


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationPorts:
    """An application's source, and what reads its files: ending -> parser."""

    tree: SourceTree
    parsers: Mapping[str, SourceParser]


def application_source(directory: Path) -> ApplicationPorts:
    """How an application's source is read. Raises ConfigError for what is no directory, or without the extra `analyze`."""
    parsers: Mapping[str, SourceParser] = {".py": parse_python, **javascript_parsers()}
    return ApplicationPorts(tree=SourceDirectory(directory, parsers), parsers=parsers)


def analysis_directory(path: Path) -> AnalysisDirectory:
    """Where an analysis leaves its report and the file that it proposes."""
    return AnalysisDirectory(path)


def call_counter(uri: str, where: Namespaces) -> MongoAnalysis:
    """MongoDB as it counts calls."""
    return MongoAnalysis(clean_uri(uri), where)


def mongo_source(uri: str, migration: Migration) -> MongoSource:
    """MongoDB alone, where nothing of AWS is asked."""
    return MongoSource(clean_uri(uri), migration.namespaces)


def listed_prices(region: str, address: str) -> list[ListedPrices]:
    """AWS's public price lists of DynamoDB and DAX in one region; DAX's is left out where the region has none.

    Raises: Unavailable, ConfigError.
    """
    lists = [read_offer(fetch_offer(DYNAMODB, region, address), DYNAMODB)]
    with suppress(ConfigError):
        lists.append(read_offer(fetch_offer(DAX, region, address), DAX))
    return lists
