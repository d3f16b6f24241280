"""Who else uses MongoDB, from many short looks at its connections. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from docferry.core.cutover.fence_plan import user_id
from docferry.core.settings import CutoverSettings

LIBRARY_APP = "docferry-client"
"""The appName of applications that write through docferry's own client."""
NAMESPACES = 20
"""So many a client are listed, and the rest counted."""


class Doing(StrEnum):
    """What a connection was seen doing at one look."""

    WRITE = "write"
    READ = "read"
    IDLE = "idle"
    """Between two operations: it may have read or written just before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One connection at one look. `driver` is name and version, `user` `<database>.<name>`, `host` without the port."""

    app: str
    driver: str
    user: str
    host: str
    doing: Doing
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All connections at one time, but for MongoDB's own and docferry's. `unseen` are members that did not answer."""

    sightings: tuple[Sighting, ...]
    unseen: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Client:
    """Connections that look the same to MongoDB, and what they were seen doing: how often, and where.

    `most` is how many there were at one look. `waived`: the file knows of it.
    """

    app: str
    driver: str
    user: str
    host: str
    own: bool = False
    waived: bool = False
    looks: int = 0
    most: int = 0
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Doing, 0))
    namespaces: set[str] = field(default_factory=set)

    @property
    def does(self) -> Doing:
        """The most that it was seen doing."""
        return next((one for one in Doing if self.seen[one]), Doing.IDLE)

    def to_dict(self) -> dict[str, Any]:
        names = ("app", "driver", "user", "host", "own", "waived", "looks")
        found = {name: getattr(self, name) for name in names}
        return found | {
            "connections": self.most,
            "does": self.does.value,
            "seen": {one.value: self.seen[one] for one in Doing},
            "namespaces": sorted(self.namespaces)[:NAMESPACES],
            "more_namespaces": max(0, len(self.namespaces) - NAMESPACES),
        }


class ClientsSeen:
    """Looks, added up by (appName, driver, user, host)."""

    def __init__(self, settings: CutoverSettings) -> None:
        self._writers, self._readers = frozenset(settings.waived_writers), frozenset(settings.waived_readers)
        self._found: dict[tuple[str, str, str, str], Client] = {}

    def add(self, look: Iterable[Sighting]) -> None:
        """One look at all connections."""
        counted: dict[tuple[str, str, str, str], int] = {}
        for one in look:
            key = (one.app, one.driver, one.user, one.host)
            client = self._found.get(key)
            if client is None:
                own = one.app == LIBRARY_APP
                client = Client(app=one.app, driver=one.driver, user=one.user, host=one.host, own=own)
                self._found[key] = client
            counted[key] = counted.get(key, 0) + 1
            client.seen[one.doing] += 1
            if one.namespace:
                client.namespaces.add(one.namespace)
        for key, number in counted.items():
            self._found[key].looks += 1
            self._found[key].most = max(self._found[key].most, number)

    def clients(self) -> tuple[Client, ...]:
        """Everybody so far: who writes first, then who reads."""
        for client in self._found.values():
            known = self._writers if client.does is Doing.WRITE else self._writers | self._readers
            client.waived = _is_named(client, known)
        order = {one: number for number, one in enumerate(Doing)}
        return tuple(
            sorted(self._found.values(), key=lambda one: (order[one.does], one.app, one.user, one.host, one.driver))
        )


def _is_named(client: Client, names: frozenset[str]) -> bool:
    """By its appName, or its user's name; an appName is the client's own word."""
    return bool(client.app and client.app in names) or bool(client.user and client.user in map(user_id, names))
