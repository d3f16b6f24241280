"""`python3 -m docferry.adapters.atlas.fence plan|close|open|state`: a fence on MongoDB Atlas, by its Administration API. An
example of the command that `cutover.fence: {external: [...]}` names; docs/cutover.md has the contract. It needs only Python.

Closing gives each of the application's database users the reading roles in the place of its writing ones on the migration's
database; opening gives back exactly what `plan` has found. A change counts once Atlas says that the cluster has it (APPLIED).

    DOCFERRY_FENCE_ATLAS_PROJECT      the project's id (24 hexadecimal digits)
    DOCFERRY_FENCE_ATLAS_CLUSTER      the cluster's name
    DOCFERRY_FENCE_ATLAS_PUBLIC_KEY   an API key with the role Project Database Access Admin (its id is no secret)
    DOCFERRY_FENCE_ATLAS_PRIVATE_KEY  its private half
    DOCFERRY_FENCE_ATLAS_ROLES        JSON {"a custom role": "the one to have instead"}, where users have custom roles
    DOCFERRY_FENCE_ATLAS_URL          https://cloud.mongodb.com/api/atlas/v2

Exit status: 0 done; 75 try again (Atlas does not answer, or has not applied the change in time); 1 refused, with the reason.

Source: https://www.mongodb.com/docs/api/doc/atlas-admin-api-v2/operation/operation-updategroupdatabaseuser and
        .../operation-getgroupclusterstatus, stored copies, looked up 2026-11-29; digest authentication by the API's guide.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

URL = "https://cloud.mongodb.com/api/atlas/v2"
ACCEPT = "application/vnd.atlas.2023-01-01+json"
WORDS = ("plan", "close", "open", "state")
AGAIN, REFUSED, USAGE = 75, 1, 2
POLL_S, ANSWER_S = 1.0, 20.0
READS = {"readWrite": "read", "readWriteAnyDatabase": "readAnyDatabase", "dbAdmin": None, "dbAdminAnyDatabase": None}
"""What a user has in the place of a role that changes documents or collections; None: nothing."""
HARMLESS = frozenset({"read", "readAnyDatabase", "clusterMonitor", "backup", "enableSharding"})
ANY_DATABASE = frozenset({"readWriteAnyDatabase", "dbAdminAnyDatabase"})

Role = Mapping[str, Any]


class Refused(Exception):
    """It cannot be done; trying again does not help."""


class Again(Exception):
    """It may work later."""


@dataclass(frozen=True)
class Settings:
    """Where and as whom; the private key stays out of the repr."""

    project: str
    cluster: str
    public_key: str
    private_key: str = field(repr=False)
    url: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    instead: Mapping[str, str]
    within_s: float

    @staticmethod
    def of(environment: Mapping[str, str]) -> Settings:
        """Raises Refused, naming what is not set."""
        atlas = "DOCFERRY_FENCE_ATLAS_"
        needed = {
            name: environment.get(atlas + name, "") for name in ("PROJECT", "CLUSTER", "PUBLIC_KEY", "PRIVATE_KEY")
        }
        if missing := [atlas + name for name, value in needed.items() if not value]:
            raise Refused(f"{', '.join(missing)} must be set")
        users = tuple(json.loads(environment.get("DOCFERRY_FENCE_USERS", "[]")))
        if not users:
            raise Refused("cutover.app_users names no user: whose roles are to be taken?")
        return Settings(
            project=needed["PROJECT"],
            cluster=needed["CLUSTER"],
            public_key=needed["PUBLIC_KEY"],
            private_key=needed["PRIVATE_KEY"],
            url=environment.get(atlas + "URL", URL).rstrip("/"),
            databases=_databases_in(environment),
            users=users,
            instead=json.loads(environment.get(atlas + "ROLES", "{}")),
            within_s=float(environment.get("DOCFERRY_FENCE_WITHIN_S", "60")),
        )


def _databases_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    if several := environment.get("DOCFERRY_FENCE_DATABASES"):
        return tuple(json.loads(several))
    return (environment.get("DOCFERRY_FENCE_DATABASE", ""),)


class Atlas:
    """The few calls of the API that a fence takes. Raises Refused, Again; neither tells a key."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, settings.url, settings.public_key, settings.private_key)
        self._opener = urllib.request.build_opener(urllib.request.HTTPDigestAuthHandler(passwords))

    def roles_of(self, user: str) -> list[Role]:
        return list(self._call("GET", self._user(user))["roles"])

    def give(self, user: str, roles: Sequence[Role]) -> None:
        self._call("PATCH", self._user(user), {"roles": list(roles)})

    def has_applied(self) -> bool:
        """Whether the cluster has all that was asked for."""
        status = self._call("GET", f"clusters/{urllib.parse.quote(self._settings.cluster, safe='')}/status")
        return str(status.get("changeStatus")) == "APPLIED"

    @staticmethod
    def _user(user: str) -> str:
        database, _, name = user.partition(".")
        return f"databaseUsers/{urllib.parse.quote(database, safe='')}/{urllib.parse.quote(name, safe='')}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        address = f"{self._settings.url}/groups/{urllib.parse.quote(self._settings.project, safe='')}/{path}"
        headers = {"Accept": ACCEPT} | ({"Content-Type": ACCEPT} if body is not None else {})
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(address, data=data, headers=headers, method=method)  # noqa: S310 - Atlas's, or the test's
        try:
            with self._opener.open(request, timeout=ANSWER_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            what = f"{method} {path}: Atlas answered {error.code} {_code_in(error)}".rstrip()
            raise (Again if error.code == 429 or error.code >= 500 else Refused)(what) from None
        except (OSError, ValueError) as error:
            kind = type(getattr(error, "reason", error)).__name__
            raise Again(f"{method} {path}: Atlas does not answer ({kind})") from None


def _code_in(error: urllib.error.HTTPError) -> str:
    """Atlas's own word for what is wrong."""
    try:
        return str(json.loads(error.read(10_000)).get("errorCode", ""))[:100]
    except (OSError, ValueError, AttributeError):
        return ""


# --- what is taken ---------------------------------------------------------------------------------------------------


def fenced(roles: Sequence[Role], databases: Sequence[str], instead: Mapping[str, str]) -> list[Role]:
    """The roles of a user while the fence is closed. Raises Refused for a role that cannot be told to write or not."""
    kept: list[Role] = []
    for role in roles:
        name, about = role["roleName"], role.get("databaseName", "")
        if name in instead:
            kept.append({**role, "roleName": instead[name]})
        elif name in HARMLESS or (name in READS and name not in ANY_DATABASE and about not in databases):
            kept.append(role)
        elif name in READS:
            reads = READS[name]
            kept += [{**role, "roleName": reads}] if reads is not None else []
        else:
            raise Refused(f"the role {name} may write: name another in DOCFERRY_FENCE_ATLAS_ROLES, or take it away")
    return _each_once(kept)


def _each_once(roles: Sequence[Role]) -> list[Role]:
    found: dict[tuple[str, ...], Role] = {}
    for role in roles:
        found.setdefault(_name_of(role), role)
    return list(found.values())


def _name_of(role: Role) -> tuple[str, ...]:
    return (str(role["roleName"]), str(role.get("databaseName", "")), str(role.get("collectionName") or ""))


def _same(one: Sequence[Role], other: Sequence[Role]) -> bool:
    return {*map(_name_of, one)} == {*map(_name_of, other)}


# --- the words -------------------------------------------------------------------------------------------------------


def plan(atlas: Atlas, settings: Settings) -> str:
    """Each user's roles as they are, and as they will be. Changes nothing."""
    memo: dict[str, Any] = {}
    for user in settings.users:
        roles = atlas.roles_of(user)
        closed = fenced(roles, settings.databases, settings.instead)
        if _same(roles, closed):
            raise Refused(f"{user} has no role by which it writes: there is nothing to take")
        if not closed:
            closed = [
                {"roleName": "read", "databaseName": one} for one in settings.databases
            ]  # Atlas wants one role at least
        memo[user] = {"open": roles, "closed": closed}
    return json.dumps({"users": memo})


def change(atlas: Atlas, memo: str, to: str, within_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Make all users `closed` or `open`, and wait until the cluster has it."""
    deadline = monotonic() + within_s * 0.9
    for user, roles in _users_in(memo).items():
        if not _same(atlas.roles_of(user), roles[to]):
            atlas.give(user, roles[to])
    while not atlas.has_applied():
        if monotonic() > deadline:
            raise Again("the cluster has not applied the change yet")
        time.sleep(POLL_S)


def state(atlas: Atlas, memo: str) -> str:
    found: set[str] = set()
    for user, roles in _users_in(memo).items():
        held = atlas.roles_of(user)
        found.add(next((word for word in ("closed", "open") if _same(held, roles[word])), "partly"))
    settled = found.pop() if len(found) == 1 else "partly"
    return settled if atlas.has_applied() else "partly"


def _users_in(memo: str) -> Mapping[str, Mapping[str, Sequence[Role]]]:
    try:
        users: Mapping[str, Mapping[str, Sequence[Role]]] = json.loads(memo)["users"]
    except (ValueError, KeyError, TypeError):
        raise Refused("standard input must be what `plan` has said") from None
    return users


def run(word: str, memo: str, environment: Mapping[str, str]) -> str:
    """What is to be printed. Raises Refused, Again."""
    settings = Settings.of(environment)
    atlas = Atlas(settings)
    if word == "plan":
        return plan(atlas, settings)
    if word == "state":
        return state(atlas, memo)
    change(atlas, memo, {"close": "closed", "open": "open"}[word], settings.within_s)
    return ""


def main() -> int:
    word = sys.argv[-1]
    if word not in WORDS:
        sys.stderr.write(f"usage: python3 -m docferry.adapters.atlas.fence {'|'.join(WORDS)}\n")
        return USAGE
    try:
        sys.stdout.write(run(word, "" if word == "plan" else sys.stdin.read(), os.environ))
    except (Refused, Again) as error:
        sys.stderr.write(f"{error}\n")
        return AGAIN if isinstance(error, Again) else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
