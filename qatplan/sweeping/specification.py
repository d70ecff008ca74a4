"""A sweep specification: TOML in, frozen dataclasses out, every mistake named before anything is spent."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from qatplan.errors import DataError, UsageError, first_line, shorten
from qatplan.quant import registry
from qatplan.quant.registry import ActivationGranularity, GroupSize
from qatplan.runs.schema import CONTROL_BITS, OPTIMIZER_STATES, QAT_SCHEDULES
from qatplan.storage.incoming import read_bytes
from qatplan.sweeping import toml_readers as toml
from qatplan.sweeping.rates import qat_learning_rate
from qatplan.training.corpus.corpus import Source
from qatplan.training.corpus.documents import PACKAGED
from qatplan.training.recipes import POST_TRAINING
from qatplan.training.segment import ACTIVATION_GRANULARITIES, OPTIMIZERS, PRECISIONS, UPDATES, OptimizerState

BACKENDS = ("auto", "eager", "compiled")
LARGEST = 2**20
"""Bytes of a specification."""
MOST_POINTS = 10**6
"""Of a grid."""


def _quantizer(value: Any, where: str) -> str:
    return toml.read_choice(tuple(entry.name for entry in registry.ENTRIES))(value, where)


def _key(reader: toml.Reader, default: Any) -> Any:
    """A field that a TOML key of its name gives."""
    return field(default=default, metadata={"reader": reader})


def _keys(reader: toml.Reader, *default: Any) -> Any:
    """The same for a list, or a single value in place of it."""
    return _key(partial(toml.read_list, reader), default)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all runs of a sweep share; see `docs` of each field for its unit."""

    sequence: int = _key(toml.read_number(8, 1e12, whole=True), 128)
    """Tokens per sequence."""
    sequences: int = _key(toml.read_number(1, 1e12, whole=True), 16)
    """Sequences per step."""
    learning_rate: float = _key(toml.read_number(1e-6, 1.0), 4.5e-3)
    """Peak learning rate at width 64."""
    learning_rate_exponent: float = _key(toml.read_number(-2, 1), -1.0)
    """The peak learning rate of a width is learning_rate * (width / 64) ^ learning_rate_exponent."""
    warmup: float = _key(toml.read_count, 100e3)
    """Tokens of linear warmup at the start of every trunk."""
    weight_decay: float = _key(toml.read_number(0, 10), 0.1)
    cooldown: float = _key(toml.read_number(0.01, 1), 0.2)
    """Share of D_fp (classic, full precision) or D_total (fused-late) over which the learning rate falls to zero."""
    validation_tokens: float = _key(toml.read_count, 262144)
    """Tokens of held-out text on which every run is evaluated."""
    backend: str = _key(toml.read_choice(BACKENDS), "auto")
    """eager, compiled, or auto: compiled where a compiler exists and a size trains long enough to repay it."""
    precision: str = _key(toml.read_choice(PRECISIONS), "float32")
    """In which matrices are multiplied: float32, or bfloat16 with everything else in float32."""
    keep_models: bool = _key(toml.read_boolean, False)
    """Keep the checkpoint of every segment instead of deleting those no longer needed."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A full factorial over its lists; a sweep is the union of its grids."""

    widths: tuple[int, ...] = _keys(toml.read_width)
    tokens: tuple[float, ...] = _keys(toml.read_count)
    """D_total of each run."""
    tokens_per_parameter: tuple[float, ...] = _keys(toml.read_number(1e-3, 1e6))
    """D_total as a multiple of N (all parameters), instead of or beside `tokens`."""
    bits: tuple[float, ...] = _keys(toml.read_number(1, 16))
    """16 trains the second phase in full precision: what the schedule alone does."""
    fractions: tuple[float, ...] = _keys(toml.read_number(0, 1))
    """D_qat / D_total; 0 is rounding after training, 1 is quantized from the start."""
    schedules: tuple[str, ...] = _keys(toml.read_choice(QAT_SCHEDULES), "classic")
    quantizers: tuple[str, ...] = _keys(_quantizer, "paretoq")
    group_sizes: tuple[GroupSize, ...] = _keys(toml.read_group_size, None)
    embedding_bits_floor: float = _key(toml.read_number(0, 16), 4)
    """Embedding and head have at least this many bits; 0 gives them the bits of the other weights."""
    activation_bits: tuple[float | None, ...] = _keys(toml.read_activation_bits, None)
    """Bits of the inputs of the linear layers; None leaves them in full precision."""
    activation_quantizers: tuple[str, ...] = _keys(_quantizer, "beta-gamma")
    activation_granularities: tuple[ActivationGranularity, ...] = _keys(
        toml.read_choice(ACTIVATION_GRANULARITIES), "token"
    )
    post_training: tuple[str, ...] = _keys(toml.read_choice(POST_TRAINING), "rtn")
    """How fraction 0 finds its codes."""
    seeds: tuple[int, ...] = _keys(toml.read_number(0, 2**31, whole=True), 0)
    trunk_learning_rates: tuple[float, ...] = _keys(toml.read_number(1e-4, 1e3), 1.0)
    """Multiples of the learning-rate rule, for tuning it."""
    qat_learning_rates: Mapping[float | None, tuple[float, ...]] = field(
        default_factory=lambda: {None: (1.0,)}, metadata={"reader": toml.read_by_bits}
    )
    """Peak learning rate of the QAT phase relative to the trunk's, by bit width; None is every other bit width."""
    qat_rate_multiples: tuple[float, ...] = _keys(toml.read_number(1e-3, 1e3))
    """The same as multiples of a rule in bits, fraction and tokens (`qatplan.sweeping.rates`), instead of by value."""
    scale_learning_rates: tuple[float, ...] = _keys(toml.read_number(0, 1e3), 1.0)
    """Learning rate of the quantizer scales relative to that of the weights."""
    optimizer_states: tuple[OptimizerState, ...] = _keys(toml.read_choice(OPTIMIZER_STATES), "kept")
    optimizers: tuple[str, ...] = _keys(toml.read_choice(OPTIMIZERS), "adamw")
    """What updates the matrices in the QAT phase."""
    updates: tuple[str, ...] = _keys(toml.read_choice(UPDATES), "learning-rate")
    """What sets the size of its steps."""
    transition_rates: tuple[float, ...] = _keys(toml.read_number(0, 1), 5e-3)
    """Where a transition rate does: its first target over sqrt(bits) (arXiv 2404.19248)."""
    rewarmups: tuple[float, ...] = _keys(toml.read_number(0, 1), 0.05)
    """Re-warmup as a share of the QAT phase."""
    cooldowns: tuple[float, ...] = _keys(toml.read_number(0.01, 1))
    """Shares as `Training.cooldown`, which is the only one unless others are given."""
    qat_decays: tuple[float, ...] = _keys(toml.read_number(0.01, 1), 1.0)
    """Share of the QAT phase, its last, over which the learning rate falls to zero (classic, fused)."""
    full_precision: bool = _key(toml.read_boolean, True)
    """Include the full-precision control of every (width, tokens, seed, cooldown)."""

    def ratios(self, bits: float, fraction: float, tokens: float) -> tuple[float, ...]:
        """The relative QAT learning rates of a point, each once."""
        if self.qat_rate_multiples:
            rule = qat_learning_rate(bits, fraction, tokens)
            return tuple(dict.fromkeys(float(f"{rule * multiple:.2g}") for multiple in self.qat_rate_multiples))
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
        data = tomllib.loads(read_bytes(path, LARGEST).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"specification {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"specification {path} is not UTF-8 text at byte {error.start}.") from error
    except RecursionError as error:
        raise UsageError(f"specification {path} is nested too deeply.") from error
    except ValueError as error:  # TOMLDecodeError is one; so is a number of more than 4300 digits
        raise UsageError(f"specification {path} is not valid TOML: {first_line(error)}.") from error
    return parse(data, folder=path.parent)


def parse(data: Mapping[str, Any], folder: Path) -> Specification:
    """The specification in a TOML document; relative paths in it start at `folder`."""
    toml.refuse_unknown(data, ("corpus", "training", "grid"), "")
    grids = data.get("grid", [])
    if not isinstance(grids, list) or not grids:
        raise UsageError("grid is missing: a specification has at least one [[grid]].")
    return Specification(
        corpus=_corpus(toml.read_table(data, "corpus"), folder),
        training=_training(toml.read_table(data, "training")),
        grids=tuple(_grid(table, f"grid {number}: ") for number, table in enumerate(grids, 1)),
    )


def _corpus(table: Mapping[str, Any], folder: Path) -> Source:
    toml.refuse_unknown(table, [f.name for f in fields(Source)], "corpus.")
    for key, value in table.items():
        if not isinstance(value, str) or "\0" in value:
            raise UsageError(f"corpus.{key} {toml.brief(value)} is not a string, or has a zero byte.")
    if ("name" in table) == ("path" in table):
        raise UsageError(f"corpus needs exactly one of name ({', '.join(PACKAGED)}) and path.")
    if "name" in table and table["name"] not in PACKAGED:
        raise UsageError(f"corpus.name {toml.brief(table['name'])} is not one of {', '.join(PACKAGED)}.")
    for key in ("path", "tokenizer"):
        if "://" in table.get(key, ""):
            raise UsageError(f"corpus.{key} {shorten(table[key])} is an address; a local file or folder is needed.")
    paths = {key: str((folder / table[key]).resolve()) for key in ("path", "tokenizer") if key in table}
    for key, name in paths.items():
        if not os.path.exists(name):  # which is False for a name that no file can have, where Path raises
            raise DataError(f"corpus.{key} {shorten(name, 200)} does not exist.")
    return Source(**{**table, **paths})


def _read(kind: type[Training | Grid], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    readers = {f.name: f.metadata["reader"] for f in fields(kind)}
    return {key: readers[key](value, f"{where}{key}") for key, value in table.items()}


def _training(table: Mapping[str, Any]) -> Training:
    toml.refuse_unknown(table, [f.name for f in fields(Training)], "training.")
    return Training(**_read(Training, table, "training."))


def _grid(table: Mapping[str, Any], where: str) -> Grid:
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}is not a table.")
    toml.refuse_unknown(table, [f.name for f in fields(Grid)], where)
    if "widths" not in table:
        raise UsageError(f"{where}widths is missing.")
    if not ("tokens" in table or "tokens_per_parameter" in table):
        raise UsageError(f"{where}tokens or tokens_per_parameter is missing.")
    values = _read(Grid, table, where)
    if {"qat_learning_rates", "qat_rate_multiples"} <= values.keys():
        raise UsageError(
            f"{where}qat_learning_rates and qat_rate_multiples both say the rate of the QAT phase; give one."
        )
    grid = Grid(**values)
    points = math.prod(len(value) for value in vars(grid).values() if isinstance(value, tuple) and value)
    if points > MOST_POINTS:
        raise UsageError(f"{where}its lists make {points:.3g} points, more than {MOST_POINTS:.0e}; divide the grid.")
    for problem in _problems(grid):
        raise UsageError(f"{where}{problem}")
    return grid


def _problems(grid: Grid) -> Iterator[str]:
    """What does not go together in a grid, a sentence each."""
    if bool(grid.bits) != bool(grid.fractions):
        yield "bits and fractions go together: give both, or neither for full precision alone."
    for quantizer in grid.quantizers:
        if registry.entry(quantizer).live and set(grid.updates) != {"learning-rate"}:
            yield (
                f"quantizers {quantizer} has a range that follows the live values, but updates by a transition rate "
                "keep the grid where it is."
            )
    controls = (("activation_bits", grid.activation_bits, None), ("updates", grid.updates, "learning-rate"))
    for key, values, needed in controls if CONTROL_BITS in grid.bits else ():
        if set(values) != {needed}:
            yield (
                f"bits 16 trains the second phase in full precision, where {key} can only be {needed or 'full'}; put "
                "it in a grid of its own."
            )
    weights = list(product([bits for bits in grid.bits if bits != CONTROL_BITS], grid.quantizers))
    for bits, quantizer in weights:
        yield from _bits_problem(quantizer, bits, "bits")
        yield from _bits_problem(quantizer, max(bits, grid.embedding_bits_floor), "embedding_bits_floor")
    for bits, quantizer in product(filter(None, grid.activation_bits), grid.activation_quantizers):
        yield from _bits_problem(quantizer, bits, "activation_bits")
        entry = registry.entry(quantizer)
        if not set(grid.activation_granularities) <= set(entry.activations):
            why = "gives every token a range" if entry.rotates else "learns a range that is not live"
            yield (
                f"activation_quantizers {quantizer} {why}, so it needs "
                f'activation_granularities = "{entry.activations[0]}".'
            )
    if "importance" in grid.post_training:
        yield from _mixed_problems(grid, weights)
    if "fused-late" in grid.schedules and set(grid.qat_decays) != {1.0}:
        yield (
            "qat_decays says where classic and fused begin to decay; fused-late begins with the cooldown, so it needs "
            "a grid without qat_decays."
        )


def _bits_problem(quantizer: str, bits: float, key: str) -> Iterator[str]:
    allowed = registry.entry(quantizer).bits
    if bits not in allowed:
        yield f"{key}: {bits:g} is not a bit width of quantizer {quantizer}, which has {_listed(allowed)}."


def _mixed_problems(grid: Grid, weights: Sequence[tuple[float, str]]) -> Iterator[str]:
    if "tensor" in grid.group_sizes:
        yield (
            'post_training importance gives each output neuron bits of its own, so group_sizes "tensor" is not one of '
            '"channel" and a number of inputs.'
        )
    for bits, quantizer in weights:
        allowed = registry.entry(quantizer).bits
        middle = [b for b in allowed if {b - 1, b + 1} <= set(allowed)]
        if bits not in middle:
            yield (
                f"post_training importance mixes bits - 1, bits and bits + 1, so with {quantizer} bits {bits:g} is not "
                f"one of {_listed(middle)}."
            )


def _listed(widths: Iterable[float]) -> str:
    return ", ".join(f"{bits:g}" for bits in widths)
