"""What an application's processes wrote down, replayed: what must be in the database that leads, and what was answered wrongly.

Shares no code with docferry: bson, and `judge`, which has the playbook's tables written down by hand. `aftermath` compares with
the databases. The format is described in `docferry.rehearsal.history`.

A document is written by one thread of one process, so what it was told says what the document is. An attempt whose outcome is
not known (no `end`, or an error that does not say) may have happened or not: then a document may be one of several things, and
all that follows is replayed on each of them.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bson import json_util

from docferry.rehearsal.independent.appearance import canonical
from docferry.rehearsal.independent.replay import REFUSED, Document, State, matches, replay
from docferry.rehearsal.independent.uniqueness import RefusedValue, unique_problems
from docferry.rehearsal.independent.verdict import id_key

NOT_DONE = frozenset({REFUSED, "WritesHeld", "CallRefused", "LeaderUnknown", "MembershipBroken"})
"""Errors which say that nothing was written."""
PROMISED = frozenset({"MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_ONLY", "FINAL"})
"""Modes in which a process reads what it wrote. In DYNAMODB_READS, DynamoDB may be behind."""
IN_DYNAMODB = frozenset({"DYNAMODB_ONLY", "FINAL"})
INDEXED = frozenset({"email", "userId"})
"""Asked of an index, which on AWS lags: there a document may be missing for a moment, but never be an old one."""
FOREVER = math.inf
_JSON: json_util.JSONOptions = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL, tz_aware=False)


# --- histories -------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """One request: its `begin`, and its `end`, empty if there is none."""

    process: int
    about: Document
    end: Document

    @property
    def began(self) -> float:
        return float(self.about["time"])

    @property
    def ended(self) -> float:
        return float(self.end["time"]) if self.end else FOREVER

    @property
    def ok(self) -> bool:
        return self.end.get("outcome") == "ok"

    @property
    def error(self) -> str:
        """ "" if it went well, or is not known."""
        return str(self.end.get("error") or "")

    @property
    def happened(self) -> bool | None:
        """None if that is not known."""
        if self.ok:
            return True
        return False if self.error in NOT_DONE else None

    @property
    def is_write(self) -> bool:
        return str(self.about["kind"]) != "read"

    def __str__(self) -> str:
        about = self.about
        return (
            f"process {self.process}, request {about['n']}: {about['collection']}.{about['method']} in {about['mode']}"
        )


@dataclass
class History:
    """One process's requests, in order of their beginning, and the modes it saw. `stopped`: it ended of its own accord."""

    process: int
    requests: list[Request]
    modes: list[tuple[float, str]]
    stopped: bool
    counts: Mapping[str, int] = field(default_factory=dict)

    def leading_modes(self, began: float, ended: float) -> set[str]:
        """The modes by which reads went between two moments. In HOLD they go as before."""
        last = max(0, bisect_right(self.modes, (began, "~")) - 1)
        return {mode for at, mode in self.modes[last:] if at <= ended or at == self.modes[last][0]}


def read_history(path: Path) -> History:
    """A history. The last line of a process that was killed may be half a line."""
    lines = [*_lines(path)]
    number = next((int(line["number"]) for line in lines if line["at"] == "start"), -1)
    ends = {line["n"]: line for line in lines if line["at"] == "end"}
    requests = [Request(number, line, ends.get(line["n"], {})) for line in lines if line["at"] == "begin"]
    stop = next((line for line in lines if line["at"] == "stop"), None)
    modes: list[tuple[float, str]] = []
    for line in sorted((line for line in lines if "mode" in line), key=lambda line: float(line["time"])):
        held = line["mode"].startswith("HOLD")
        modes.append((float(line["time"]), modes[-1][1] if held and modes else line["mode"]))
    counts = stop["counts"] if stop else {}
    return History(number, sorted(requests, key=lambda one: one.began), modes, stop is not None, counts)


def _lines(path: Path) -> Iterator[Document]:
    whole, _, _ = path.read_text("ascii").rpartition("\n")
    for line in whole.splitlines():
        yield json_util.loads(line, json_options=_JSON)


# --- what a document was ---------------------------------------------------------------------------------------------


@dataclass
class Version:
    """What a document may be from somewhere between two moments on."""

    began: float
    ended: float
    states: list[State]


@dataclass
class Story:
    """One document, from its first insert on."""

    collection: str
    id: Any
    versions: list[Version] = field(default_factory=lambda: [Version(-FOREVER, -FOREVER, [None])])

    @property
    def states(self) -> list[State]:
        """What it may be now."""
        return self.versions[-1].states

    def __str__(self) -> str:
        return f"{self.collection} {self.id}"

    def between(self, began: float, ended: float) -> list[State]:
        """What a read between two moments may have seen."""
        last = max(index for index, one in enumerate(self.versions) if one.ended <= began)
        seen = list(self.versions[last].states)
        for one in self.versions[last + 1 :]:
            if one.began < ended:
                seen += one.states
        return seen


@dataclass
class HistoryVerdict:
    """What was found. Each list is empty if all is well."""

    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    stale: int = 0
    """Reads that were behind where nothing else was promised."""
    unindexed: int = 0
    """Documents that an index of DynamoDB did not name yet."""
    documents: int = 0
    unique: Counter[str] = field(default_factory=Counter)
    """Of e-mail addresses that several processes wanted: `taken`, `refused`, `exchanged` between two documents."""
    requests: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    pauses_s: list[float] = field(default_factory=list)
    """The longest one between two successful reads, of each process."""
    writes_s: list[float] = field(default_factory=list)
    held_s: list[float] = field(default_factory=list)
    """Of writes that waited while the leader was changed."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return len(self.lost), len(self.resurrected), len(self.failed), len(self.contradicted)

    def __str__(self) -> str:
        rate = self.requests["write"] / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.requests['write']:,} writes ({rate:.1f}/s) and {self.requests['read']:,} reads in {self.seconds:.1f} s, "
            f"{self.documents:,} documents; lost/resurrected/failed/contradicted {self.counts}",
            f"write latency {_distribution(self.writes_s)}",
            f"held writes   {_distribution(self.held_s)}",
            f"longest pause between two reads of a process {max(self.pauses_s, default=0.0):.2f} s; behind where nothing else is "
            f"promised: {self.stale}; not yet in an index: {self.unindexed}",
            f"e-mail addresses that many want: {self.unique['taken']} taken, {self.unique['refused']} refused, "
            f"{self.unique['exchanged']} exchanged",
        ]
        for kind in ("lost", "resurrected", "failed", "contradicted"):
            lines += [f"{kind}: {one}" for one in getattr(self, kind)[:8]]
        return "\n".join(lines)


def _distribution(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    points = {f"p{part}": ordered[min(len(ordered) - 1, len(ordered) * part // 100)] for part in (50, 90, 99)}
    return f"{len(ordered):,}: " + ", ".join(
        f"{name} {value:.3f} s" for name, value in {**points, "max": ordered[-1]}.items()
    )


class Replayed:
    """All histories, replayed. `verdict` holds what they alone can tell; the databases come on top."""

    def __init__(self, histories: Sequence[History], counters: Mapping[str, int] | None = None) -> None:
        """`counters` are the shared documents' values before."""
        self.histories, self.verdict = histories, HistoryVerdict()
        self.stories: dict[tuple[str, bytes], Story] = {}
        self.counters = {name: (value, value) for name, value in (counters or {}).items()}
        self._by_value: dict[tuple[str, str, bytes], dict[int, Story]] = defaultdict(dict)
        self._refusals: list[RefusedValue] = []
        kinds = {"write": self._write, "increment": self._increment, "exchange": self._exchange}
        for history in histories:
            for request in history.requests:
                if request.is_write:
                    kinds[request.about["kind"]](request)
        self._judge_values()
        for history in histories:
            _measure(history, self.verdict)
            for request in history.requests:
                if not request.is_write and request.ok:
                    self._read(history, request)
        self.verdict.documents = len(self.stories)
        times = [time for history in histories for time, _ in history.modes]
        self.verdict.seconds = max(times) - min(times) if times else 0.0

    # --- writes

    def _write(self, request: Request) -> None:
        about = request.about
        if about.get("refused"):
            self._refused(request)
        elif about.get("contested") and request.error == REFUSED:
            self._refused_value(request, about["contested"])
        elif self._may_have_happened(request):
            self.verdict.unique["taken"] += bool(about.get("contested"))
            self._apply(request, about, request.end.get("result"))

    def _may_have_happened(self, request: Request) -> bool:
        if request.error:
            self.verdict.failed.append(f"{request}: {_error(request)}")
        return request.happened is not False

    def _exchange(self, request: Request) -> None:
        """Several writes of one transaction, which all happened or none."""
        writes = request.about["writes"]
        if self._may_have_happened(request):
            self.verdict.unique["exchanged"] += 1
            told = request.end["result"]["writes"] if request.ok else [None] * len(writes)
            for write, one in zip(writes, told, strict=True):
                self._apply(request, write, one)

    def _apply(self, request: Request, about: Document, answer: Any) -> None:
        """One document's write, and what it was told."""
        story = self._story(request.about["collection"], about["_id"])
        outcomes = [replay(state, about) for state in story.states]
        after = [state for state, _ in outcomes]
        if request.ok:
            told = canonical(answer)
            fitting = [state for state, must in outcomes if canonical(must) == told]
            if not fitting:
                must = _short(outcomes[0][1])
                self.verdict.contradicted.append(f"{request} was told {_short(answer)}, not {must}")
            after = fitting or after
        else:
            after = _distinct([*story.states, *after])
        story.versions.append(Version(request.began, request.ended, after))
        self._note_values(story, after)

    def _refused(self, request: Request) -> None:
        """An insert under a key that is taken."""
        if request.ok:
            self.verdict.contradicted.append(f"{request} was taken, but its key was another document's")
        elif request.error not in ("", REFUSED):
            self.verdict.failed.append(f"{request}: {_error(request)}")

    def _refused_value(self, request: Request, field: str) -> None:
        """A value that was another's, as it says."""
        argument = request.about["argument"]
        self.verdict.unique["refused"] += 1
        story = str(self._story(request.about["collection"], request.about["_id"]))
        value = argument.get("$set", argument)[field]
        self._refusals.append(RefusedValue(story, str(request), value, request.began, request.ended))

    def _judge_values(self) -> None:
        users = {str(story): story.versions for story in self.stories.values() if story.collection == "users"}
        self.verdict.contradicted += unique_problems("email", users, self._refusals)

    def _note_values(self, story: Story, states: Sequence[State]) -> None:
        """So that a read finds the stories of which it should have seen something."""
        for state in states:
            for name, value in (state or {}).items():
                if name in ("_id", "username", *INDEXED):
                    self._by_value[story.collection, name, id_key(value)][id(story)] = story

    def _story(self, collection: str, identity: Any) -> Story:
        return self.stories.setdefault((collection, id_key(identity)), Story(collection, identity))

    def _increment(self, request: Request) -> None:
        name = request.about["counter"]
        least, most = self.counters.get(name, (0, 0))
        if request.error:
            self.verdict.failed.append(f"{request}: {_error(request)}")
        if request.ok and request.end["result"] != {"matched": 1, "modified": 1}:
            self.verdict.contradicted.append(f"{request} was told {_short(request.end['result'])}")
        least += int(request.ok)
        most += int(request.happened is not False)
        self.counters[name] = (least, most)

    # --- reads

    def _read(self, history: History, request: Request) -> None:
        modes = history.leading_modes(request.began, request.ended)
        wrong = list(self._contradictions(history, request, modes))
        if modes <= PROMISED:
            self.verdict.contradicted += [f"{request} ({', '.join(sorted(modes))}): {one}" for one in wrong]
        else:
            self.verdict.stale += bool(wrong)

    def _contradictions(self, history: History, request: Request, modes: set[str]) -> Iterator[str]:
        about, found = request.about, request.end["result"]["documents"]
        ((name, value),) = about["query"].items()
        if value in self.counters:
            yield from self._counter_contradictions(history, request, str(value), found)
            return
        for document in found:
            story = self.stories.get((about["collection"], id_key(document["_id"])))
            seen = story.between(request.began, request.ended) if story else []
            if not any(state is not None and canonical(state) == canonical(document) for state in seen):
                gone = seen and all(state is None for state in seen)
                yield f"{document['_id']} was seen {'after it was deleted' if gone else 'as it no longer was'}"
        ids = {id_key(document["_id"]) for document in found}
        for story in self._by_value[about["collection"], name, id_key(value)].values():
            states = story.between(request.began, request.ended)
            if id_key(story.id) in ids or not all(state and matches(state, about["query"]) for state in states):
                continue
            if name in INDEXED and modes & IN_DYNAMODB:
                self.verdict.unindexed += 1
            else:
                yield f"{story.id} was not found"

    def _counter_contradictions(
        self, history: History, request: Request, name: str, found: Sequence[Document]
    ) -> Iterator[str]:
        """At least what this process has been told before."""
        own = sum(
            one.ok and one.ended <= request.began and one.about.get("counter") == name for one in history.requests
        )
        value = found[0]["visits"] if found else None
        if value is None or value < own:
            yield f"{name} was seen as {value}, after {own} increments of this process alone"


def _distinct(states: Iterable[State]) -> list[State]:
    return list({canonical(state): state for state in states}.values())


def _error(request: Request) -> str:
    return f"{request.error} {request.end.get('code') or ''} {request.end.get('words') or ''}".strip()


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:200]


def _measure(history: History, verdict: HistoryVerdict) -> None:
    """Latencies, pauses, and who was killed."""
    if not history.stopped:
        verdict.killed.append(history.process)
    last = None
    longest = 0.0
    for request in sorted(history.requests, key=lambda one: one.ended):
        verdict.requests["write" if request.is_write else "read"] += 1
        if request.is_write and request.ok:
            verdict.writes_s.append(request.ended - request.began)
            if request.about["mode"].startswith("HOLD") or len(history.leading_modes(request.began, request.ended)) > 1:
                verdict.held_s.append(request.ended - request.began)
        elif request.ok:
            longest = max(longest, request.ended - last) if last is not None else 0.0
            last = request.ended
        elif not request.is_write and request.error:
            verdict.failed.append(f"{request}: {_error(request)}")
    verdict.pauses_s.append(longest)
