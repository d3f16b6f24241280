"""What the form of a file cannot say of its settings. `mapping_checks` does the same for its mappings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docferry.config.checking.estate import check_estate
from docferry.config.checking.imports import import_problems
from docferry.config.checking.tables import NAME_RULE, check_keys, plain_names
from docferry.config.names import bad_database_name, bad_schedule, bad_tags
from docferry.config.schema import TABLE_NAME, MigrationFile
from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.core.mapping.items import SYSTEM
from docferry.core.settings import ExternalFence
from docferry.errors import Problem

_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "backfill": {
        "chunk_documents": (1, 1_000_000_000),
        "page_documents": (1, 100_000),
        "max_tasks": (1, 200),
        "budget_wcu": (0, 10_000_000),
        "dead_letter_share": (0, 1),
        "dead_letter_count": (0, 1_000_000_000),
        "lease_s": (1, 3_600),
        "concurrency": (1, 1_000),
        "late_writes_s": (0, 3_600),
    },
    "validate_": {"first_differences": (0, 100_000), "settle_s": (0, 3_600), "budget_rcu": (0, 10_000_000)},
    "dax": {"nodes": (1, 11)},
    "monitoring": {"every_s": (10, 3_600)},
    "cutover": {"hold_s": (1, 300), "drain_s": (0, 300), "watch_s": (0, 86_400)},
}
_SCAN: Mapping[str, tuple[float, float]] = {"most_read_units": (1, 100_000)}
_CAPACITY: Mapping[str, tuple[float, float]] = {
    "read_units": (1, 10_000_000),
    "write_units": (1, 10_000_000),
    "max_read_units": (1, 10_000_000),
    "max_write_units": (1, 10_000_000),
    "target_percent": (20, 90),  # Application Auto Scaling's own range
}


class SettingsChecker:
    """Looks for every setting of a well-formed file that could not be carried out."""

    def __init__(self, file: MigrationFile, lines: Lines) -> None:
        self.file, self.lines = file, lines

    def problems(self) -> list[Problem]:
        found = [*self._secrets(), *self._tables(), *self._target(), *self._numbers(), *self._names(), *self._cutover()]
        found += import_problems(self.file, self.lines)
        return [*found, *self._rollback_points(), *self._notify(), *check_estate(self.file, self.lines)]

    def _problem(self, path: Path_, what: str, suggestion: str = "") -> Problem:
        return problem_at(self.lines, path, what, suggestion)

    def _secrets(self) -> Iterator[Problem]:
        for side, value in (("source", self.file.source.connection), ("target", self.file.target.connection)):
            if "://" in value or "@" in value:
                path = (side, "connection")
                yield self._problem(
                    path,
                    "looks like an address or a secret, which does not belong in the file",
                    "name an Airflow connection instead",
                )

    def _numbers(self) -> Iterator[Problem]:
        for section, ranges in _RANGES.items():
            settings = getattr(self.file, section)
            if settings is not None:
                path = (section.rstrip("_"),)
                yield from self._ranges(path, settings, ranges)
        for name, collection in self.file.collections.items():
            if collection is not None and collection.scan is not None:
                yield from self._ranges(("collections", name, "scan"), collection.scan, _SCAN)
        for name, table in self.file.tables.items():
            if table.capacity is not None:
                yield from self._ranges(("tables", name, "capacity"), table.capacity, _CAPACITY)
                for kind in ("read", "write"):
                    low, high = (getattr(table.capacity, f"{prefix}{kind}_units") for prefix in ("", "max_"))
                    if high is not None and high < low:
                        at = ("tables", name, "capacity", f"max_{kind}_units")
                        yield self._problem(at, f"{high} is less than {kind}_units")

    def _ranges(self, path: Path_, settings: Any, ranges: Mapping[str, tuple[float, float]]) -> Iterator[Problem]:
        for key, (low, high) in ranges.items():
            value = getattr(settings, key)
            if value is not None and not low <= value <= high:  # not <=: NaN is in no range
                yield self._problem((*path, key), f"{value} is out of range", f"from {low:,} to {high:,}")

    def _cutover(self) -> Iterator[Problem]:
        cutover = self.file.cutover
        if not cutover.drain_s < cutover.hold_s:
            at = ("cutover", "drain_s")
            yield self._problem(
                at, f"{cutover.drain_s} leaves nothing of hold_s for the fence", "make it less than hold_s"
            )
        if cutover.four_eyes and len(set(cutover.approvers)) == 1:
            yield self._problem(
                ("cutover", "approvers"), "names one person, and four_eyes asks for two", "name another"
            )
        for key in ("app_users", "waived_writers", "waived_readers", "approvers"):
            names = getattr(cutover, key)
            if not all(name.strip() for name in names):
                yield self._problem(("cutover", key), "holds a name that is empty", "remove it")
        if isinstance(cutover.fence, ExternalFence):
            yield from self._external_fence(cutover.fence)
        if cutover.fence == "revoke" and not cutover.app_users:
            at = ("cutover", "app_users")
            yield self._problem(at, "names no user whose roles could be revoked", "name the application's users")

    def _external_fence(self, fence: ExternalFence) -> Iterator[Problem]:
        path: Path_ = ("cutover", "fence")
        yield from self._ranges(path, fence, {"quiet_s": (1, 120), "within_s": (1, 240)})
        if not fence.external or not all(word.strip() for word in fence.external[:1]):
            yield self._problem((*path, "external"), "names no command", "external: [command, argument, ...]")
        if any("://" in word and "@" in word for word in fence.external):
            advice = "give it to the command as an environment variable whose name begins with DOCFERRY_FENCE_"
            yield self._problem((*path, "external"), "holds an address with a password", advice)
        cutover = self.file.cutover
        least_s = fence.within_s + fence.quiet_s + cutover.drain_s
        if cutover.hold_s < least_s:
            what = f"{cutover.hold_s:g} is too short: one run of the command, quiet_s and drain_s take {least_s:g}"
            yield self._problem(("cutover", "hold_s"), what, "make it longer, or within_s shorter")

    def _notify(self) -> Iterator[Problem]:
        forms = {"sns": (r"arn:[a-z-]+:sns:[a-z0-9-]+:\d{12}:\S+", "a topic's ARN"), "smtp": (r"\S+@\S+", "an address")}
        for number, one in enumerate(self.file.notify):
            form, what = forms.get(one.by, (r"\S+", "a channel"))
            if not re.fullmatch(form, one.to):
                yield self._problem(("notify", number, "to"), f"'{one.to}' is not {what}", f"{one.by} tells {what}")

    def _rollback_points(self) -> Iterator[Problem]:
        points = self.file.rollback_points
        if points is None:
            return
        at: Path_ = ("rollback_points", "to")
        if points.method != "snapshot" and any(
            one is not None and one.database for one in self.file.collections.values()
        ):
            what = f"{points.method} makes a rollback point of one database, and collections are in several"
            advice = "method: snapshot, and take one of the whole cluster; or a file for each database"
            yield self._problem(("rollback_points", "method"), what, advice)
        if points.method == "snapshot":
            if points.to:
                yield self._problem(at, "a snapshot is made elsewhere, and only named here", "remove to")
        elif not points.to:
            yield self._problem(at, "is missing", "an absolute path, or s3://bucket/prefix")
        elif points.to.startswith("s3://"):
            if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?", points.to):
                yield self._problem(at, "is no bucket and prefix", "such as s3://backups/shop")
        elif "://" in points.to:
            yield self._problem(at, "is neither a path nor s3://", "an absolute path, or s3://bucket/prefix")
        elif not Path(points.to).is_absolute():
            yield self._problem(
                at, "is relative, and each task may run on another machine", "an absolute path, or s3://bucket/prefix"
            )

    def _target(self) -> Iterator[Problem]:
        target = self.file.target
        if not re.fullmatch(r"(\d{12})?", target.account):
            yield self._problem(
                ("target", "account"), f"'{target.account}' is no AWS account", "twelve digits, in quotes"
            )
        for path, region in [
            (("target", "region"), target.region),
            *((("target", "replicas", index), region) for index, region in enumerate(target.replicas)),
        ]:
            if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+){1,2}-\d", region):
                yield self._problem(path, f"'{region}' is no AWS region", "such as eu-west-1")
        if len(set(target.replicas)) != len(target.replicas):
            yield self._problem(("target", "replicas"), "names a region twice")
        if target.region in target.replicas:
            yield self._problem(("target", "replicas"), f"{target.region} is the table's own region", "leave it out")

    def _tables(self) -> Iterator[Problem]:
        for name, table in self.file.tables.items():
            path = ("tables", name)
            if table.billing == "provisioned" and table.capacity is None:
                yield self._problem(
                    path, "is provisioned but has no capacity", "add capacity: {read_units: , write_units: }"
                )
            if table.billing == "on_demand" and table.capacity is not None:
                yield self._problem(
                    (*path, "capacity"), "an on-demand table has none", "remove it, or set billing: provisioned"
                )
            yield from check_keys(name, table, self.lines)
            for tag, what in bad_tags(table.tags):
                yield self._problem(
                    (*path, "tags", tag) if tag is not None else (*path, "tags"), what, "choose another"
                )
            if self.file.target.replicas and not table.stream:
                yield self._problem((*path, "stream"), "replicas need a stream", "set stream: true")

    def _names(self) -> Iterator[Problem]:
        for name, table in self.file.tables.items():
            if (
                table.ttl_attribute in (SYSTEM - {"_ttl"}) | plain_names(table) | {"_id", ""}
                or table.ttl_attribute[0] == "~"
            ):
                path = ("tables", name, "ttl_attribute")
                yield self._problem(path, "is a name that docferry needs itself", "choose another, such as _ttl")
        ledger = self.file.ledger.table
        if ledger in self.file.tables:
            yield self._problem(("ledger", "table"), f"{ledger} already holds documents", "give the ledger its own")
        elif not re.fullmatch(TABLE_NAME, ledger):
            yield self._problem(("ledger", "table"), f"'{ledger}' is no table name", NAME_RULE)
        if self.file.dax is not None:
            for tag, what in bad_tags(self.file.dax.tags):
                yield self._problem(
                    ("dax", "tags", tag) if tag is not None else ("dax", "tags"), what, "choose another"
                )
        schedule = self.file.validate_.schedule
        if schedule is not None and (what := bad_schedule(schedule)):
            yield self._problem(("validate", "schedule"), what, "such as '0 2 * * *', at two o'clock; null for none")
        if wrong := bad_database_name(self.file.source.database):
            yield self._problem(("source", "database"), wrong)
