"""A local stand-in for Atlas's Administration API: digest authentication is checked, users' roles can be read and changed, and a
change is PENDING for as long as the test says.

It answers as the documentation has it (operations getGroupDatabaseUser, updateGroupDatabaseUser, getGroupClusterStatus).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

PROJECT, CLUSTER = "5e2211c17a3e5a48f5497de3", "Cluster0"
PUBLIC, PRIVATE = "abcdefgh", "11111111-2222-3333-4444-private"
REALM, NONCE = "MMS Public API", "the-nonce"
MEDIA = "application/vnd.atlas.2023-01-01+json"
Roles = list[dict[str, Any]]


@dataclass
class AtlasStandIn:
    """`users` are (database, name) -> roles; the next `pending` looks at the cluster find a change under way; `fail` are statuses
    that the next answers have. `asked` are the requests that were let in."""

    users: dict[tuple[str, str], Roles] = field(default_factory=dict)
    pending: int = 0
    fail: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refused: int = 0
    changed: Any = None
    """Called with a user and its new roles."""
    port: int = 0

    def environment(self) -> dict[str, str]:
        prefix = "DOCFERRY_FENCE_ATLAS_"
        return {
            f"{prefix}URL": f"http://127.0.0.1:{self.port}/api/atlas/v2",
            f"{prefix}PROJECT": PROJECT,
            f"{prefix}CLUSTER": CLUSTER,
            f"{prefix}PUBLIC_KEY": PUBLIC,
            f"{prefix}PRIVATE_KEY": PRIVATE,
        }

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.fail:
            status = self.fail.pop(0)
            return status, {"error": status, "errorCode": "UNEXPECTED_ERROR"}
        group = f"/api/atlas/v2/groups/{PROJECT}/"
        if not path.startswith(group):
            return 404, {"error": 404, "errorCode": "GROUP_NOT_FOUND"}
        parts = [unquote(one) for one in path.removeprefix(group).split("/")]
        if parts == ["clusters", CLUSTER, "status"] and method == "GET":
            self.pending -= self.pending > 0
            return 200, {"changeStatus": "PENDING" if self.pending else "APPLIED"}
        if parts[:1] == ["databaseUsers"] and len(parts) == 3 and (parts[1], parts[2]) in self.users:
            return self._user(method, (parts[1], parts[2]), body)
        return 404, {"error": 404, "errorCode": "USERNAME_NOT_FOUND"}

    def _user(self, method: str, user: tuple[str, str], body: Any) -> tuple[int, Any]:
        if method == "PATCH":
            if not body.get("roles"):
                return 400, {"error": 400, "errorCode": "MISSING_ROLES"}
            self.users[user] = body["roles"]
            if self.changed is not None:
                self.changed(user, body["roles"])
        return 200, {"databaseName": user[0], "username": user[1], "groupId": PROJECT, "roles": self.users[user]}


@contextmanager
def standing_in(atlas: AtlasStandIn) -> Iterator[AtlasStandIn]:
    """For as long as the block lasts, at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._serve()

        def do_PATCH(self) -> None:
            self._serve()

        def _serve(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not is_digest_right(self.command, self.path, self.headers.get("Authorization", "")):
                atlas.refused += 1
                challenge = (
                    f'Digest realm="{REALM}", domain="", nonce="{NONCE}", algorithm=MD5, qop="auth", stale=false'
                )
                self._say(401, {"error": 401, "errorCode": "UNAUTHORIZED"}, {"WWW-Authenticate": challenge})
                return
            atlas.asked.append(f"{self.command} {self.path.rpartition('/groups/')[2]}")
            if self.headers.get("Accept") != MEDIA or (data and self.headers.get("Content-Type") != MEDIA):
                self._say(406, {"error": 406, "errorCode": "INVALID_VERSION"})
                return
            self._say(*atlas.answer(self.command, self.path, json.loads(data) if data else None))

        def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": MEDIA, "Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    atlas.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield atlas
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_digest_right(method: str, path: str, given: str) -> bool:
    """RFC 2617, qop=auth."""
    said = dict(re.findall(r'(\w+)="?([^",]+)"?', given.removeprefix("Digest ")))
    if not given.startswith("Digest ") or (said.get("username"), said.get("uri"), said.get("nonce")) != (
        PUBLIC,
        path,
        NONCE,
    ):
        return False
    first, second = _md5(f"{PUBLIC}:{REALM}:{PRIVATE}"), _md5(f"{method}:{path}")
    return said.get("response") == _md5(f"{first}:{NONCE}:{said['nc']}:{said['cnonce']}:{said['qop']}:{second}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
