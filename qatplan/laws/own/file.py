"""A law of one's own from its TOML file, or from the same as a mapping."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from qatplan.errors import DataError, UsageError, closest, first_line, kind, shorten
from qatplan.laws.own.definition import Declared, Definition
from qatplan.laws.own.law import OwnLaw, law_of
from qatplan.storage.incoming import read_bytes

LARGEST = 2**20
"""Bytes of a file."""
_KEYS = ("name", "title", "formula", "source", "parameters")
_OF_PARAMETERS = ("domain", "unit", "meaning", "start", "scale")
_SOURCE = "none is given"


def read(path: str | os.PathLike[str], taken: Collection[str]) -> type[OwnLaw]:
    """The law in a TOML file; UsageError names the file, the field that is wrong and what is allowed.

    `taken` are names that it may not have.
    """
    place = Path(path)
    try:
        data = tomllib.loads(read_bytes(place, LARGEST).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"law {place} cannot be read: {error.strerror}.") from error
    except DataError as error:
        raise UsageError(f"law {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"law {place} is not UTF-8 text at byte {error.start}.") from error
    except RecursionError as error:
        raise UsageError(f"law {place} is nested too deeply.") from error
    except ValueError as error:  # TOMLDecodeError is one; so is a number of more than 4300 digits
        raise UsageError(f"law {place} is not valid TOML: {first_line(error)}.") from error
    try:
        return made(data, name=place.stem.lower(), taken=taken)
    except UsageError as error:
        raise UsageError(f"law {place}: {str(error).rstrip('.')}.") from error


def made(data: Mapping[str, Any], *, name: str, taken: Collection[str]) -> type[OwnLaw]:
    """The law that the keys of a file describe; it is called `name` where they do not say."""
    _refuse_unknown(data, _KEYS, "")
    table = data.get("parameters", {})
    if not isinstance(table, Mapping):
        raise UsageError("parameters is not a table")
    called = _text(data, "name", "", name)
    if called in taken:
        raise UsageError(f"name is {called!r}, which is that of a law of qatplan")
    definition = Definition(
        name=called,
        formula=_text(data, "formula", "", None),
        title=_text(data, "title", "", called),
        source=_text(data, "source", "", _SOURCE),
        parameters=tuple(_parameter(each, values) for each, values in table.items()),
    )
    return law_of(definition)


def _parameter(name: str, values: Any) -> Declared:
    where = f"parameters.{shorten(name)}"
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is not a table of {', '.join(_OF_PARAMETERS)}")
    _refuse_unknown(values, _OF_PARAMETERS, f"{where}.")
    scale = values.get("scale")
    if scale is not None and scale not in ("log", "linear"):
        raise UsageError(f"{where}.scale is {shorten(repr(scale))}; allowed are log and linear")
    if "domain" not in values:
        raise UsageError(f"{where}.domain is missing: a low and a high end, such as [0, 3] or [0, inf]")
    return Declared(
        name=name,
        meaning=_text(values, "meaning", f"{where}.", None),
        unit=_text(values, "unit", f"{where}.", None),
        domain=_pair(values["domain"], f"{where}.domain"),
        start=_pair(values["start"], f"{where}.start") if values.get("start") is not None else None,
        scale=scale,
    )


def _pair(value: Any, where: str) -> tuple[float, float]:
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool) and v == v] if isinstance(
        value, list | tuple) else []  # fmt: skip
    if len(numbers) != 2 or len(value) != 2:
        raise UsageError(f"{where} is {shorten(_shown(value))}; allowed are two numbers such as [0.1, 1.0]")
    try:
        return float(numbers[0]), float(numbers[1])
    except OverflowError as error:
        raise UsageError(f"{where} holds a number beyond 1e300") from error


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # a whole number of more than 4300 digits
        return "a list of numbers that are too long to show"


def _text(table: Mapping[str, Any], key: str, where: str, default: str | None) -> str:
    value = table.get(key, default)
    if value is None:
        raise UsageError(f"{where}{key} is missing")
    if not isinstance(value, str):
        raise UsageError(f"{where}{key} is {kind(value)}; a text is needed")
    return value


def _refuse_unknown(table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in allowed:
            hint = closest(str(key), allowed) or f"; allowed are {', '.join(allowed)}"
            raise UsageError(f"{where}{shorten(str(key))} is not a known key{hint}")
