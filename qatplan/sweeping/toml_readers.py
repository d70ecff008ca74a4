"""Readers of the values in a TOML document: each takes a value and the name of its key, and says what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qatplan import units
from qatplan.errors import UsageError, shorten
from qatplan.quant.registry import GroupSize
from qatplan.training.shape import shape_of_width

MOST_TOKENS = 1e18
Reader = Callable[[Any, str], Any]


def brief(value: Any) -> str:
    """A value in a message."""
    return shorten(repr(value))


def read_table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The table called `name`, empty where there is none."""
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"{name} is not a table.")
    return table


def refuse_unknown(table: Mapping[str, Any], allowed: Any, where: str) -> None:
    """Raise UsageError for a key that is none of `allowed`."""
    for key in table:
        if key not in allowed:
            raise UsageError(f"{where}{shorten(key)} is not a known key; allowed are {', '.join(allowed)}.")


def read_list(reader: Reader, value: Any, where: str) -> tuple[Any, ...]:
    """The values of a list, or of a single value, each once."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UsageError(f"{where} is empty.")
    return tuple(dict.fromkeys(reader(item, where) for item in items))


def read_number(low: float, high: float, *, whole: bool = False) -> Reader:
    """A reader of numbers from `low` to `high`."""
    kind = "a whole number" if whole else "a number"

    def reader(value: Any, where: str) -> Any:
        bad = isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high
        if bad or (whole and value != int(value)):
            raise UsageError(f"{where} {brief(value)} is not {kind} from {low:g} to {high:g}.")
        return int(value) if whole else float(value)

    return reader


def read_count(value: Any, where: str) -> float:
    """A number of tokens, at least one: `500K`, `8M`, `2e9`."""
    try:
        count = units.parse_count(str(value) if isinstance(value, str | int | float) else "no number")
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if not 1 <= count <= MOST_TOKENS:
        raise UsageError(f"{where} {brief(value)} is not between one token and {MOST_TOKENS:g}.")
    return float(count)


def read_choice(allowed: tuple[str, ...]) -> Callable[[Any, str], str]:
    """A reader of one of the `allowed` words."""

    def reader(value: Any, where: str) -> str:
        if value not in allowed:
            raise UsageError(f"{where} {brief(value)} is not one of {', '.join(allowed)}.")
        return str(value)

    return reader


def read_boolean(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where} {brief(value)} is not true or false.")
    return value


def read_width(value: Any, where: str) -> int:
    """A width of the model family."""
    width = read_number(1, 1e6, whole=True)(value, where)
    try:
        shape_of_width(width)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return int(width)


def read_group_size(value: Any, where: str) -> GroupSize:
    """What shares a range: `channel` (None), `tensor`, or a number of inputs."""
    if value == "channel":
        return None
    if value == "tensor":
        return "tensor"
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= 2**31:
        raise UsageError(f'{where} {brief(value)} is not "channel", "tensor" or a whole number of inputs from 2 on.')
    return value


def read_activation_bits(value: Any, where: str) -> float | None:
    """Bits of the inputs of a layer; `full` (None) leaves them in full precision."""
    return None if value == "full" else read_number(1, 16)(value, where)


def read_by_bits(value: Any, where: str) -> dict[float | None, tuple[float, ...]]:
    """Ratios by bit width, where `other` (None) stands for the rest; or one list of them for all."""
    reader = read_number(1e-4, 1e3)
    if not isinstance(value, Mapping):
        return {None: read_list(reader, value, where)}
    result: dict[float | None, tuple[float, ...]] = {None: (1.0,)}
    for key, ratios in value.items():
        try:
            bits = None if key == "other" else read_number(1, 16)(float(key), where)
        except (ValueError, UsageError):
            raise UsageError(f'{where}: key {brief(key)} is not a bit width from 1 to 16 or "other".') from None
        result[bits] = read_list(reader, ratios, f"{where}.{key}")
    return result
