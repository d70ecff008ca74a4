"""What a fitted law carries besides its parameters, typed, and how these parts lie in the fit's JSON file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from qatplan.laws.qat_fraction import PUBLISHED_A, PUBLISHED_MAE
from qatplan.shown import without_secrets
from qatplan.storage.typed import ABSENT

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows that were not used, for one reason."""

    reason: str
    rows: int
    examples: tuple[str, ...]
    """Up to three run ids."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How the bootstrap draws were made."""

    draws: int
    kind: str
    """case, residual or score."""
    clusters: int
    unfinished: int
    """Draws that did not converge tightly."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Random effects of log loss that the fit allowed for, as standard deviations."""

    kind: str
    """trunk, or curve: trunks and curves."""
    own: float
    """Of a run's own noise."""
    trunk: float
    """Of what the runs of one trunk at one budget share."""
    trunks: int
    curve: float | None = field(default=None, metadata=ABSENT)
    """Of what the runs of one curve share."""
    curves: int | None = field(default=None, metadata=ABSENT)
    settled: bool = True
    """Whether fit and variances came to rest."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The facts behind a fit's status. The fraction law has no gradient and no bounds to report."""

    starts: int = 0
    starts_agreeing: int = 0
    agreement: str | None = field(default=None, metadata=ABSENT)
    """What counts as agreeing."""
    share_agreeing: float | None = field(default=None, metadata=ABSENT)
    scaled_gradient: float | None = field(default=None, metadata=ABSENT)
    """Largest projected gradient in scaled coordinates, relative to the objective."""
    newton_decrement: float | None = field(default=None, metadata=ABSENT)
    """Relative decrease of the objective that one more Newton step would promise."""
    condition_number: float | None = field(default=None, metadata=ABSENT)
    """Of the information matrix in scaled coordinates; not a number where it is infinite."""
    parameters_at_bounds: tuple[str, ...] | None = field(default=None, metadata=ABSENT)
    bootstrap: Resampling | None = field(default=None, metadata=ABSENT)
    objective: str | None = field(default=None, metadata=ABSENT)
    """What was minimised, where it is no sum of Huber terms."""
    effects: Effects | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a law predicts rows that it was fitted without. Errors are shares of the loss."""

    n: float | None = field(default=None, metadata=ABSENT)
    """Size that was left out, for a score by size."""
    kind: str = ""
    """What was held out: largest-n, largest-d, top-compute:SHARE, leave-one-size-out."""
    rows: int = 0
    """Held-out rows that the law can predict."""
    fitted_rows: int = 0
    not_predictable: int = 0
    """Held-out rows for which the law has no value, such as bits that it was not fitted on."""
    mape: float | None = None
    """Mean absolute error; None where no row can be predicted."""
    max_ape: float | None = None
    bias: float | None = field(default=None, metadata=ABSENT)
    """Mean signed error."""
    worst_run: str | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True, kw_only=True)
class ResidualGroup:
    """Log residuals (predicted over observed) of the rows that share a value, or lie in a range of values."""

    value: str | float | Pair
    """A value, the ends of a range, or words for rows without a value."""
    rows: int
    mean: float
    sd: float | None
    """None for a single row."""
    largest: float
    """Largest absolute residual."""


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """Log residuals by bit width, model size and QAT fraction."""

    bits: tuple[ResidualGroup, ...]
    n: tuple[ResidualGroup, ...]
    fraction: tuple[ResidualGroup, ...] | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How well the largest size or budget is predicted from smaller ones without the smallest."""

    axis: str
    """n or d_total."""
    left_out: int
    """How many of the smallest sizes, budgets or ranges of them were left out."""
    least: float
    """The smallest that stayed."""
    rows: int
    """Rows of the largest that were predicted."""
    error: float
    """Mean absolute error, a share of the loss."""


@dataclass(frozen=True, kw_only=True)
class LossDiagnostics:
    """Where the residuals of a loss law show structure, and what its size costs."""

    residuals: Residuals
    leave_one_size_out: tuple[Score, ...] | None = field(default=None, metadata=ABSENT)
    """One score for each model size, where asked for."""
    rolling_origin: tuple[Origin, ...] | None = field(default=None, metadata=ABSENT)
    """For a table that no sweep of ours made."""
    aic: float
    bic: float


@dataclass(frozen=True, kw_only=True)
class CurveRecord:
    """A measured curve of loss against the QAT fraction: its optimum, and what the laws say of it."""

    n: float
    d_total: float
    bits: float
    seed: float
    s_total: float
    """Tokens per parameter byte."""
    points: int
    optimum: float | None
    """Measured optimal fraction; None where `note` says why there is none."""
    interval: Pair | None
    loss: float | None
    refitted_law: float | None
    published_law: float | None
    note: str | None
    fractions: tuple[float, ...] | None = field(default=None, metadata=ABSENT)
    """What was measured between 0 and 1, ascending."""
    losses: tuple[float, ...] | None = field(default=None, metadata=ABSENT)
    """Nats per token at `fractions`."""


@dataclass(frozen=True, kw_only=True)
class BitsError:
    """Errors of the fraction law at one bit width."""

    bits: float
    curves: int
    mean_error: float
    mae: float


@dataclass(frozen=True, kw_only=True)
class LossLawOptima:
    """What the loss law fitted to the same rows says of the optimal fractions."""

    a: float
    """Of the fraction law fitted to its optima; not a number where they all lie at an end."""
    mae: float
    status: str
    fractions: tuple[float, ...]
    at_an_end: int


@dataclass(frozen=True, kw_only=True)
class SplitScore:
    """How well a fraction law chose the split of measured curves that it was fitted without."""

    way: str
    """cell, tokens or size: what kept the curves from the fit."""
    curves: int
    mean_regret: float
    """Nats per token above the lowest measured loss."""
    worst_regret: float
    interior: int
    """Curves with a minimum between their fractions."""
    coverage: float
    """Share of those whose minimum lies inside the interval; not a number without any."""
    median_width: float
    """Of those intervals."""


@dataclass(frozen=True, kw_only=True)
class SplitEvidence:
    """What a fraction law's intervals rest on: its errors on measured curves that it was fitted without."""

    residuals: tuple[float, ...]
    """Measured minus predicted log-odds of the best fraction, cells held out, ascending. A curve that is lowest at an
    end of what was measured counts with the least that its error can be."""
    widening: float
    """Share by which the interval grows with each doubling of tokens or size beyond the fitted range."""
    scatter: float
    """Standard deviation of the measured log-odds about the law, without the measured minima's own errors."""
    scores: tuple[SplitScore, ...]


@dataclass(frozen=True, kw_only=True)
class FractionDiagnostics:
    """The measured optima behind the fraction law, and its mean absolute errors on the fraction."""

    curves: tuple[CurveRecord, ...]
    measured_optima: int
    without_inner_minimum: int
    mae: float
    mae_published_law: float
    published_a: float = PUBLISHED_A
    published_mae: Pair = PUBLISHED_MAE
    by_bits: tuple[BitsError, ...]
    loss_law: LossLawOptima | None = None
    """None where the loss law could not be fitted."""
    split: SplitEvidence | None = field(default=None, metadata=ABSENT)
    """Of a law whose intervals come from curves that it was fitted without."""


Diagnostics = LossDiagnostics | FractionDiagnostics


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What was fitted by what."""

    qatplan: str
    python: str
    numpy: str
    scipy: str
    rows_digest: str
    """SHA-256 of the rows used."""
    row_expression: str | None
    sources: tuple[str, ...]
    seed: int
    command: str | None

    def public(self) -> Provenance:
        """The same without credentials in addresses."""
        command = None if self.command is None else without_secrets(self.command)
        return dataclasses.replace(self, sources=tuple(map(without_secrets, self.sources)), command=command)


def plain(value: Any) -> Any:
    """The same value in plain JSON types: parts as objects, arrays as lists, numbers that are not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {f.name: plain(v) for f, v in known if not (v is None and f.metadata == ABSENT)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, str) else value
