"""A proxy in front of DynamoDB that fails on purpose: throttles, 500s, cut connections, lost answers, UnprocessedItems.

It speaks as much HTTP/1.1 as botocore and docferry's own writer use, and draws what to do from a seeded deck, so that
every fault comes up.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Mapping
from random import Random
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

Head = tuple[bytes, dict[bytes, bytes]]
DECK = 25
REFUSALS = {
    "throttle": (400, "ProvisionedThroughputExceededException"),
    "throttle_other": (400, "ThrottlingException"),
    "error_500": (500, "InternalServerError"),
    "error_503": (503, "ServiceUnavailable"),
}


class FaultProxy:
    """`faults` maps an operation ("BatchWriteItem", or "ledger:PutItem" for one table) to faults and their shares.

    Faults: those of REFUSALS; `cut_before` and `cut_after` (the connection breaks before or after DynamoDB has done it);
    `half_answer` (it breaks in the middle of the answer); `unprocessed` (part of a batch is not written and given back);
    `damaged` (the same, but the answer has lost its mention, which only its checksum shows; a single put is made); `html` (a 502
    page that is
    no DynamoDB error); `late` (the connection breaks at once, and DynamoDB gets the request later, by `late_s`: from, to, in
    seconds). `seen` counts what was done, and `delivered late` what has come by now.
    """

    def __init__(
        self,
        upstream: str,
        faults: Mapping[str, Mapping[str, float]],
        seed: int = 1,
        ledger: str = "",
        late_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._late_s = late_s
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._faults, self._ledger, self._random = faults, ledger, Random(seed)
        self._decks: dict[str, list[str]] = {}
        self.seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._ready = threading.Event()
        self._port = 0

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 25))
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    def _end(self) -> None:
        self._loop.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False when the connection is to end."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, headers = _parse(head)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        operation = headers.get(b"x-amz-target", b"").decode().rpartition(".")[2]
        fault = self._choose(operation, body)
        self.seen[f"{operation} {fault or 'passed'}"] += 1
        if fault == "cut_before":
            return False
        if fault == "late":
            self._tasks.add(asyncio.create_task(self._deliver_late(first, headers, body)))
            return False
        if fault in REFUSALS:
            writer.write(_refusal(*REFUSALS[fault]))
            return True
        if fault == "html":
            writer.write(_answer(502, b"<html><body>Bad Gateway</body></html>", b"text/html"))
            return True
        of_batch = operation == "BatchWriteItem" and fault in ("unprocessed", "damaged")
        held, body = _hold_back(body, self._random) if of_batch else ({}, body)
        answer = await self._pass_on(first, headers, body)
        return self._finish(fault, held, answer, writer)

    async def _deliver_late(self, first: bytes, headers: Mapping[bytes, bytes], body: bytes) -> None:
        await asyncio.sleep(self._random.uniform(*self._late_s))
        await self._pass_on(first, headers, body)
        self.seen["delivered late"] += 1

    def _finish(self, fault: str, held: dict[str, Any], answer: bytes, writer: asyncio.StreamWriter) -> bool:
        if fault == "cut_after":
            return False
        if fault == "half_answer":
            writer.write(answer[: len(answer) * 2 // 3])
            return False
        if fault == "damaged":
            _, _, body = answer.partition(b"\r\n\r\n")
            writer.write(_answer(200, body, extra=b"x-amz-crc32: 1\r\n"))
            return True
        if held:
            _, _, body = answer.partition(b"\r\n\r\n")
            writer.write(_answer(200, json.dumps({**json.loads(body), "UnprocessedItems": held}).encode()))
            return True
        writer.write(answer)
        return True

    def _choose(self, operation: str, body: bytes) -> str:
        is_ledger = bool(self._ledger) and self._ledger.encode() in body
        name = f"ledger:{operation}" if is_ledger else operation
        if not self._decks.get(name):
            self._decks[name] = _deck(self._faults.get(name, {}), self._random)
        return self._decks[name].pop()

    async def _pass_on(self, first: bytes, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream, limit=1 << 25)
        dropped = (b"content-length", b"connection", b"expect")
        lines = [name + b": " + value for name, value in headers.items() if name not in dropped]
        lines += [b"content-length: %d" % len(body), b"connection: close"]
        writer.write(first + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answer = await reader.read(-1)
        writer.close()
        status, answered = _parse(answer[: answer.index(b"\r\n\r\n") + 4])
        content = answer[answer.index(b"\r\n\r\n") + 4 :]
        if answered.get(b"transfer-encoding", b"").lower() == b"chunked":
            content = _unchunk(content)
        return _answer(int(status.split(b" ")[1]), content)


def _parse(head: bytes) -> Head:
    first, *lines = head[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _unchunk(data: bytes) -> bytes:
    out, at = b"", 0
    while size := int(data[at : (end := data.index(b"\r\n", at))].split(b";")[0], 16):
        out += data[end + 2 : end + 2 + size]
        at = end + 4 + size
    return out


def _answer(status: int, body: bytes, kind: bytes = b"application/x-amz-json-1.0", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Answer\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status,
        kind,
        extra,
        len(body),
        body,
    )


def _refusal(status: int, code: str) -> bytes:
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return _answer(status, json.dumps({"__type": kind, "message": "by the fault proxy"}).encode())


def _deck(shares: Mapping[str, float], random: Random) -> list[str]:
    """What to do to the next DECK requests: each fault as often as its share says, at least once, in any order."""
    faults = [fault for fault, share in shares.items() for _ in range(max(1, round(share * DECK)))]
    deck = faults + [""] * (DECK - len(faults))
    random.shuffle(deck)
    return deck


def _hold_back(body: bytes, random: Random) -> tuple[dict[str, Any], bytes]:
    """(the items that DynamoDB will not see, the request without them); at least one item stays."""
    request = json.loads(body)
    ((table, puts),) = request["RequestItems"].items()
    random.shuffle(puts)
    count = random.randrange(len(puts))
    request["RequestItems"] = {table: puts[count:]}
    return ({table: puts[:count]} if count else {}), json.dumps(request).encode()
