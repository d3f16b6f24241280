"""What every error has, and the few that are of no one room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class MigrationError(Exception):
    """Base of all docferry errors. `retryable` says whether the same call may work later."""

    retryable = False
    hint = ""

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.context, self.__dict__)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip() if self.hint else self.message


def _rebuild(cls: type[MigrationError], message: str, context: dict[str, Any], state: dict[str, Any]) -> MigrationError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a file or a server. `line` is 1-based, None where there is no file."""

    where: str
    what: str
    suggestion: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: {self.where}" if self.line else self.where
        return f"{place}: {self.what}" + (f" ({self.suggestion})" if self.suggestion else "")


def _join(problems: Sequence[Problem]) -> str:
    return "\n".join(f"  - {problem}" for problem in problems)


class ConfigError(MigrationError):
    """The migration file is refused. `problems` holds every reason, not just the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{source}: {len(problems)} problem(s); nothing was touched\n{_join(problems)}")
        self.source, self.problems = source, tuple(problems)


class PreflightFailed(MigrationError):
    """The servers cannot carry this migration as the file describes it."""

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{subject}: {len(problems)} problem(s); nothing was touched\n{_join(problems)}")
        self.problems = tuple(problems)


class RetryExhausted(MigrationError):
    """A transient error that did not go away. The cause is chained."""

    def __init__(self, operation: str, attempts: int, elapsed_s: float, last: str = "") -> None:
        super().__init__(f"{operation} still failed after {attempts} attempts in {elapsed_s:.1f} s: {last}")
        self.operation, self.attempts, self.elapsed_s = operation, attempts, elapsed_s


class Stopped(MigrationError):
    """Asked to stop. All that was acknowledged is checkpointed; run again to continue."""

    retryable = True


class InvariantBroken(MigrationError):
    """Our own bug. Never caught."""
