"""Errors that a user can cause: one sentence each, an exit code, and the evidence gathered before. And warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qatplan.shown import without_secrets


class QatplanError(Exception):
    """A problem that is the user's to solve; `exit_code` is what the command line ends with.

    `evidence` holds whatever was already computed (a partial result, the offending rows), so that nothing is lost.
    The message has no credentials: they are cut from the addresses in it.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, evidence: Any = None) -> None:
        super().__init__(without_secrets(message))
        self.evidence = evidence


class UsageError(QatplanError):
    """A command, option, specification or number that is not allowed."""

    exit_code = 2


class MissingExtra(QatplanError):
    """An optional dependency is not installed."""

    exit_code = 2


class DataError(QatplanError):
    """A file or table that cannot be used."""

    exit_code = 3


class NotTrustworthy(QatplanError):
    """A fit or a plan that exists but must not be relied upon; `evidence` is the object itself."""

    exit_code = 4


class SweepIncomplete(QatplanError):
    """A sweep that ended before every run was recorded."""

    exit_code = 5


class QatplanWarning(UserWarning):
    """What a person should know about the data although it can be used; the command line shows it on stderr."""

    def __init__(self, message: object = "") -> None:
        super().__init__(without_secrets(str(message)))


def closest(name: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'bits'?)` for a message about an unknown name, or nothing where no allowed name is close."""
    import difflib  # 5 ms that a command without a mistake need not spend

    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def first_line(error: BaseException) -> str:
    """What an error says in its first line, without the full stop; its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def kind(value: object) -> str:
    """What a value is, for a message that needs another: `a number`, `a list`, or the name of its type."""
    names = {bool: "true or false", int | float: "a number", str: "a text", list | tuple: "a list", dict: "a table"}
    return next((name for types, name in names.items() if isinstance(value, types)), f"a {type(value).__name__}")


def shorten(text: str, longest: int = 60) -> str:
    """`text` for a message, cut where it is longer; half an address would keep its secrets, so they go first."""
    text = without_secrets(text)
    return text if len(text) <= longest else text[:longest] + "..."
