"""A sweep specification: TOML in, frozen dataclasses out, every mistake named before anything is spent."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from qatplan import units
from qatplan.errors import DataError, UsageError
from qatplan.quant import registry
from qatplan.training.corpus import Source
from qatplan.training.shape import shape_of_width
from qatplan.training.texts import PACKAGED

SCHEDULES = ("classic", "fused", "fused-late")
OPTIMIZER_STATES = ("kept", "reset")
BACKENDS = ("auto", "eager", "compiled")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all runs of a sweep share; see `docs` of each field for its unit."""

    sequence: int = 128
    """Tokens per sequence."""
    sequences: int = 16
    """Sequences per step."""
    learning_rate: float = 4.5e-3
    """Peak learning rate at width 64."""
    learning_rate_exponent: float = -1.0
    """The peak learning rate of a width is learning_rate * (width / 64) ^ learning_rate_exponent."""
    warmup: float = 100e3
    """Tokens of linear warmup at the start of every trunk."""
    weight_decay: float = 0.1
    cooldown: float = 0.2
    """Share of D_fp (classic, full precision) or D_total (fused-late) over which the learning rate falls to zero."""
    validation_tokens: float = 262144
    """Tokens of held-out text on which every run is evaluated."""
    backend: str = "auto"
    """eager, compiled, or auto: compiled where a compiler exists and a size trains long enough to repay it."""
    keep_models: bool = False
    """Keep the checkpoint of every segment instead of deleting those no longer needed."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A full factorial over its lists; a sweep is the union of its grids."""

    widths: tuple[int, ...]
    tokens: tuple[float, ...] = ()
    """D_total of each run."""
    tokens_per_parameter: tuple[float, ...] = ()
    """D_total as a multiple of N (all parameters), instead of or beside `tokens`."""
    bits: tuple[float, ...] = ()
    fractions: tuple[float, ...] = ()
    """D_qat / D_total; 0 is rounding after training, 1 is quantized from the start."""
    schedules: tuple[str, ...] = ("classic",)
    quantizers: tuple[str, ...] = ("paretoq",)
    group_sizes: tuple[int | None, ...] = (None,)
    embedding_bits_floor: float = 4
    """Embedding and head have at least this many bits; 0 gives them the bits of the other weights."""
    seeds: tuple[int, ...] = (0,)
    trunk_learning_rates: tuple[float, ...] = (1.0,)
    """Multiples of the learning-rate rule, for tuning it."""
    qat_learning_rates: Mapping[float | None, tuple[float, ...]] = field(default_factory=lambda: {None: (1.0,)})
    """Peak learning rate of the QAT phase relative to the trunk's, by bit width; None is every other bit width."""
    scale_learning_rates: tuple[float, ...] = (1.0,)
    """Learning rate of the quantizer scales relative to that of the weights."""
    optimizer_states: tuple[str, ...] = ("kept",)
    rewarmups: tuple[float, ...] = (0.05,)
    """Re-warmup as a share of the QAT phase."""
    full_precision: bool = True
    """Include the full-precision control of every (width, tokens, seed)."""

    def ratios(self, bits: float) -> tuple[float, ...]:
        """The relative QAT learning rates of a bit width."""
        return self.qat_learning_rates.get(bits) or self.qat_learning_rates[None]


@dataclass(frozen=True, kw_only=True)
class Specification:
    """A whole sweep."""

    corpus: Source
    training: Training
    grids: tuple[Grid, ...]


def read(path: Path) -> Specification:
    """The specification in a TOML file; UsageError names the field that is wrong and what is allowed."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"specification {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"specification {path} is not valid TOML: {error}.") from error
    return parse(data, folder=path.parent)


def parse(data: Mapping[str, Any], folder: Path) -> Specification:
    """The specification in a TOML document; relative paths in it start at `folder`."""
    _only(data, ("corpus", "training", "grid"), "")
    grids = data.get("grid", [])
    if not isinstance(grids, list) or not grids:
        raise UsageError("grid is missing: a specification has at least one [[grid]].")
    return Specification(
        corpus=_corpus(_table(data, "corpus"), folder),
        training=_training(_table(data, "training")),
        grids=tuple(_grid(table, f"grid {number}: ") for number, table in enumerate(grids, 1)),
    )


def _corpus(table: Mapping[str, Any], folder: Path) -> Source:
    _only(table, [f.name for f in fields(Source)], "corpus.")
    for key, value in table.items():
        if not isinstance(value, str):
            raise UsageError(f"corpus.{key} {value!r} is not a string.")
    if ("name" in table) == ("path" in table):
        raise UsageError(f"corpus needs exactly one of name ({', '.join(PACKAGED)}) and path.")
    if "name" in table and table["name"] not in PACKAGED:
        raise UsageError(f"corpus.name {table['name']!r} is not one of {', '.join(PACKAGED)}.")
    paths = {key: str((folder / table[key]).resolve()) for key in ("path", "tokenizer") if key in table}
    for key, name in paths.items():
        if not Path(name).exists():
            raise DataError(f"corpus.{key} {name} does not exist.")
    return Source(**{**table, **paths})


def _training(table: Mapping[str, Any]) -> Training:
    _only(table, [f.name for f in fields(Training)], "training.")
    where = "training."
    whole = lambda low: _number(low, 1e12, whole=True)  # noqa: E731
    readers: dict[str, Callable[[Any, str], Any]] = {
        "sequence": whole(8),
        "sequences": whole(1),
        "learning_rate": _number(1e-6, 1.0),
        "learning_rate_exponent": _number(-2, 1),
        "warmup": _count,
        "weight_decay": _number(0, 10),
        "cooldown": _number(0.01, 1),
        "validation_tokens": _count,
        "backend": _choice(BACKENDS),
        "keep_models": _boolean,
    }
    return Training(**{key: readers[key](value, f"{where}{key}") for key, value in table.items()})


def _grid(table: Mapping[str, Any], where: str) -> Grid:
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}is not a table.")
    names = [f.name for f in fields(Grid)]
    _only(table, names, where)
    for needed in ("widths",):
        if needed not in table:
            raise UsageError(f"{where}{needed} is missing.")
    if not ("tokens" in table or "tokens_per_parameter" in table):
        raise UsageError(f"{where}tokens or tokens_per_parameter is missing.")
    readers: dict[str, Callable[[Any, str], Any]] = {
        "widths": _width,
        "tokens": _count,
        "tokens_per_parameter": _number(1e-3, 1e6),
        "bits": _number(1, 16),
        "fractions": _number(0, 1),
        "schedules": _choice(SCHEDULES),
        "quantizers": lambda value, name: registry.entry(_string(value, name)).name,
        "group_sizes": _group_size,
        "seeds": _number(0, 2**31, whole=True),
        "trunk_learning_rates": _number(1e-4, 1e3),
        "scale_learning_rates": _number(0, 1e3),
        "optimizer_states": _choice(OPTIMIZER_STATES),
        "rewarmups": _number(0, 1),
    }
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in readers:
            values[key] = _list(value, readers[key], f"{where}{key}")
        elif key == "qat_learning_rates":
            values[key] = _by_bits(value, f"{where}{key}")
        elif key == "embedding_bits_floor":
            values[key] = _number(0, 16)(value, f"{where}{key}")
        else:
            values[key] = _boolean(value, f"{where}{key}")
    grid = Grid(**values)
    if bool(grid.bits) != bool(grid.fractions):
        raise UsageError(f"{where}bits and fractions go together: give both, or neither for full precision alone.")
    for quantizer in grid.quantizers:
        for bits in grid.bits:
            registry.check_bits(quantizer, bits)
    return grid


def _by_bits(value: Any, where: str) -> dict[float | None, tuple[float, ...]]:
    reader = _number(1e-4, 1e3)
    if not isinstance(value, Mapping):
        return {None: _list(value, reader, where)}
    result: dict[float | None, tuple[float, ...]] = {None: (1.0,)}
    for key, ratios in value.items():
        try:
            bits = None if key == "other" else float(key)
        except ValueError:
            raise UsageError(f'{where}: key {key!r} is not a bit width or "other".') from None
        result[bits] = _list(ratios, reader, f"{where}.{key}")
    return result


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"{name} is not a table.")
    return table


def _only(table: Mapping[str, Any], allowed: Any, where: str) -> None:
    for key in table:
        if key not in allowed:
            raise UsageError(f"{where}{key} is not a known key; allowed are {', '.join(allowed)}.")


def _list(value: Any, reader: Callable[[Any, str], Any], where: str) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UsageError(f"{where} is empty.")
    return tuple(dict.fromkeys(reader(item, where) for item in items))


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[Any, str], Any]:
    kind = "a whole number" if whole else "a number"

    def read_number(value: Any, where: str) -> Any:
        bad = isinstance(value, bool) or not isinstance(value, int | float) or (whole and value != int(value))
        if bad or not low <= value <= high:
            raise UsageError(f"{where} {value!r} is not {kind} from {low:g} to {high:g}.")
        return int(value) if whole else float(value)

    return read_number


def _count(value: Any, where: str) -> float:
    try:
        count = units.parse_count(str(value) if not isinstance(value, bool) else "true")
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if count < 1:
        raise UsageError(f"{where} {value!r} is less than one token.")
    return float(count)


def _choice(allowed: tuple[str, ...]) -> Callable[[Any, str], str]:
    def read_choice(value: Any, where: str) -> str:
        if value not in allowed:
            raise UsageError(f"{where} {value!r} is not one of {', '.join(allowed)}.")
        return str(value)

    return read_choice


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where} {value!r} is not a string.")
    return value


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} {value!r} is not true or false.")
    return value


def _width(value: Any, where: str) -> int:
    width = _number(1, 1e6, whole=True)(value, where)
    try:
        shape_of_width(width)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return int(width)


def _group_size(value: Any, where: str) -> int | None:
    if value == "channel":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise UsageError(f'{where} {value!r} is not "channel" or a whole number of inputs from 2 on.')
    return value
