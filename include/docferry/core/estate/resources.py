"""What a kind of resource beside tables and DAX is: one module that says what is wanted, what is there, and the calls.

A kind never calls AWS: it takes an `Ask`, and gives `AwsCall`s. So it is pure, and each of its calls can be held against
botocore's models. The rules are in `resource_plan`, once for all kinds:

    observe(ask) -> Seen | None     what is there
    plan_resource(spec, seen)       the steps: create; set what differs; tags; finish
    call_of(step, ask) -> AwsCall   the one request of a step

A kind that one request cannot make whole (`later`) is born with the tag `docferry:provisioning` = digest of the spec, as a
table is, and the last step takes it off: what is in `later` may be finished under that tag without being asked.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

MARKER = "docferry:provisioning"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCall:
    """One request to a control plane. `operation` as boto3 names its method; `region` '' is the target's own.

    `absent` are the codes of errors that say that the thing does not exist: the reply is None then.
    """

    service: str
    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    region: str = ""
    absent: tuple[str, ...] = ()


Ask = Callable[[AwsCall], Mapping[str, Any] | None]
"""Carries out a call that only reads. Raises StoreError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there: fields as a person reads them. `tags` None: this kind has none. `known`: ids and ARNs for the calls."""

    fields: Mapping[str, str]
    tags: Mapping[str, str] | None = None
    settled: bool = True
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsPlace:
    """Where an estate is: account and region, from which ARNs follow."""

    account: str
    region: str

    @property
    def partition(self) -> str:
        by_prefix = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        return next((name for prefix, name in by_prefix.items() if self.region.startswith(prefix)), "aws")

    def arn(self, service: str, resource: str, region: str = "") -> str:
        return f"arn:{self.partition}:{service}:{region or self.region}:{self.account}:{resource}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(ABC):
    """One thing that AWS should hold. `region` '' is the target's own."""

    fixed: ClassVar[frozenset[str]] = frozenset()
    """Fields that no call can change."""
    later: ClassVar[tuple[str, ...]] = ()
    """Fields that the creating call cannot set, in the order in which they are set."""
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    """IAM's actions of `observe` and of what knows no resource; and of the calls that change, on `arns`."""
    removes: ClassVar[tuple[str, ...]] = ()
    """IAM's actions of `removal`, on `arns`."""
    condition: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """What IAM binds `writes` to, beside `arns`."""

    name: str
    region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    owner: Mapping[str, str] = field(default_factory=dict)
    """The tag that says for which migration it was made: it is born with it, and only what bears it is ever removed."""

    @property
    @abstractmethod
    def resource(self) -> str:
        """As reports name it, such as 'alarm shop-lag'."""

    @property
    def arns(self) -> tuple[str, ...]:
        """To which IAM can bind `writes`; '*' where the service knows no narrower resource."""
        return ("*",)

    @property
    def seen_arns(self) -> tuple[str, ...]:
        """The same for `reads`."""
        return ("*",)

    @abstractmethod
    def wanted(self) -> Mapping[str, str]:
        """Each field as it should be, in the words of `Seen.fields`."""

    @abstractmethod
    def observe(self, ask: Ask) -> Seen | None:
        """What is there now; None if there is no such thing. Raises StoreError."""

    @abstractmethod
    def create(self, ask: Ask, tags: Mapping[str, str]) -> AwsCall:
        """The request that makes it, tags and all."""

    @abstractmethod
    def change(self, seen: Seen, changed: Sequence[str]) -> AwsCall:
        """The request that sets these fields."""

    def retag(self, seen: Seen, tags: Mapping[str, str], off: Sequence[str]) -> AwsCall:
        """Put tags on, or take tags off; only ever asked for one of the two. Of kinds with tags."""
        raise NotImplementedError(self.resource)

    def removal(self, seen: Seen, ask: Ask) -> AwsCall | None:
        """The next request on the way to its being gone; None if nothing is left to be removed by itself."""
        return None

    def stays(self, seen: Seen, ask: Ask) -> str:
        """Why it must not be removed; '' if it may be."""
        return ""

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name this spec, in every process."""
        found = [
            (one.name, repr(_canonical(getattr(self, one.name)))) for one in fields(self) if one.name not in _BESIDE
        ]
        return hashlib.sha256(repr((type(self).__name__, found)).encode()).hexdigest()[:16]

    @property
    def birth_tags(self) -> dict[str, str]:
        return {**self.tags, **self.owner, **({MARKER: self.digest} if self.later else {})}


_BESIDE = frozenset({"owner", "emptied"})
"""What a spec says that is nothing of the thing itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfTable(Resource):
    """What a table has beside itself. `name` is the table, `arn` its; IAM binds looking, too, to it."""

    arn: str

    @property
    def arns(self) -> tuple[str, ...]:
        return (self.arn,)

    @property
    def seen_arns(self) -> tuple[str, ...]:
        return self.arns


def _canonical(value: object) -> object:
    return sorted((key, _canonical(one)) for key, one in value.items()) if isinstance(value, Mapping) else value


def page_through(ask: Ask, call: AwsCall, items: str, token: str, given: str = "") -> Iterator[Any]:
    """The items of all pages: `token` is the reply's field with the next page's name, `given` the request's, if another."""
    more: dict[str, Any] = {}
    while True:
        reply = ask(AwsCall(**{**_parts(call), "arguments": {**call.arguments, **more}})) or {}
        yield from reply.get(items, ())
        if not reply.get(token):
            return
        more = {given or token: reply[token]}


def _parts(call: AwsCall) -> dict[str, Any]:
    return {one.name: getattr(call, one.name) for one in fields(call)}


def tag_list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: name, value: text} for name, text in sorted(tags.items())]
