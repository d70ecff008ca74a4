"""From the plain values of a JSON file to a dataclass: every field is of its type, or the error names it."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from qatplan.errors import kind, shorten

ABSENT = {"absent": True}
"""Of a field that a file has only where it is known; any other number without a value is null there."""
_Part = TypeVar("_Part")
_KINDS = {int: "a whole number", str: "text", bool: "true or false"}
_LARGEST = 2**63


def parse(kind: type[_Part], value: Any, where: str = "") -> _Part:
    """A dataclass from its JSON object; keys that it does not know are passed over.

    Raises ValueError for an object that is none, which names the field below `where` and what it must be.
    """
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    prefix = f"{where}." if where else ""
    hints = _hints(kind)  # type: ignore[arg-type]
    made = {name: _parsed(hint, value[name], f"{prefix}{name}") for name, hint in hints.items() if name in value}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in made and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{prefix}{field.name} is missing")
    return kind(**made)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    # A number that a file has as null, although it has its key, is not finite.
    absent = {f.name for f in dataclasses.fields(kind) if f.metadata == ABSENT}
    return {name: typing.get_args(hint)[0] if name in absent else hint for name, hint in hints.items()}


def _parsed(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float:
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1.7e308:
            raise _wrong(where, value, "a finite number or null")
        return float(value)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return None if value is None else _parsed(_member(typing.get_args(hint), value), value, where)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "an object")
        return {name: _parsed(inner[1], v, f"{where}.{name}") for name, v in value.items()}
    if origin is tuple:
        each = inner if inner[-1] is not ... else inner[:1] * len(value) if isinstance(value, list | tuple) else ()
        if not isinstance(value, list | tuple) or len(value) != len(each):
            raise _wrong(where, value, "a list" if inner[-1] is ... else f"a list of {len(inner)}")
        return tuple(_parsed(part, v, f"{where}[{i}]") for i, (part, v) in enumerate(zip(each, value, strict=True)))
    if origin is typing.Literal:
        if value not in inner:
            raise _wrong(where, value, f"one of {', '.join(map(str, inner))}")
        return value
    if dataclasses.is_dataclass(hint):
        part = typing.cast(type[Any], hint)
        return value if isinstance(value, part) else parse(part, value, where)
    if issubclass(hint, Enum):
        words = [member.value for member in hint]
        if value not in words:
            raise _wrong(where, value, f"one of {', '.join(map(str, words))}")
        return hint(value)
    if not isinstance(value, hint) or (hint is int and (isinstance(value, bool) or abs(value) >= _LARGEST)):
        raise _wrong(where, value, _KINDS.get(hint, hint.__name__))
    return value


def _wrong(where: str, value: Any, wanted: str) -> ValueError:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LARGEST:
        shown = "a number of too many digits"
    else:
        shown = kind(value) if isinstance(value, list | dict) else shorten(repr(value))
    return ValueError(f"{where or 'it'} is {shown}, which is not {wanted}")


def _member(members: tuple[Any, ...], value: Any) -> Any:
    """The type of a union that a JSON value is of."""
    if isinstance(value, list):
        return next((m for m in members if typing.get_origin(m) is tuple), members[0])
    if isinstance(value, str) and str in members:
        return str
    if isinstance(value, Mapping):
        parts = [m for m in members if isinstance(m, type) and dataclasses.is_dataclass(m)]
        return max(parts, key=lambda part: len(_hints(part).keys() & value.keys()), default=members[0])
    return next((m for m in members if m is not str), str)
