"""How well a law predicts rows it has not seen, where its residuals show structure, and whether they are noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError
from qatplan.fitting.options import holdout_of
from qatplan.fitting.rows import Rows, known
from qatplan.fitting.solver.whitening import Whitening
from qatplan.laws.fit_parts import Pair, ResidualGroup, Residuals, Score
from qatplan.laws.flags import Flag
from qatplan.laws.inputs import Floats
from qatplan.laws.law import Law

_LEAST = 5
_MOST_SIZES = 12
"""With more sizes, residuals are shown by ranges of size."""

_MAD = 1.4826  # standard deviation of a normal distribution per median absolute deviation

Refit = Callable[[Rows], Law]
"""Fits the same kind of law on some of the rows."""


def held_out(rows: Rows, spec: str) -> NDArray[np.bool_]:
    """The rows that `largest-n`, `largest-d` or `top-compute:SHARE` takes out of the fit.

    largest-n and largest-d take the rows at the largest value; where those are fewer than 5 (sizes that hardly
    repeat), the top tenth. Compute is N * D_total. Raises UsageError for another specification and DataError where
    nothing would remain.
    """
    kind, share = holdout_of(spec)
    values = {"largest-n": rows.x.n, "largest-d": rows.x.d_total, "top-compute": rows.x.n * rows.x.d_total}[kind]
    mask = values >= values.max() * (1 - 1e-9)
    if kind == "top-compute" or int(mask.sum()) < _LEAST:
        count = max(1, math.ceil(share * len(rows)))
        mask = values >= np.sort(values)[-count]
    if mask.all():
        raise DataError(f"holdout {spec} would leave no row to fit: all rows share that value")
    return np.asarray(mask, dtype=np.bool_)


def score(rows: Rows, mask: NDArray[np.bool_], refit: Refit, name: str, n: float | None = None) -> Score:
    """Fit without the masked rows and predict them; `n` is the size they have, where they are those of one size."""
    test = rows.take(mask)
    predicted = refit(rows.take(~mask)).predict(test.x)
    usable = np.isfinite(predicted)
    made = Score(
        n=n, kind=name, rows=int(usable.sum()), fitted_rows=int((~mask).sum()), not_predictable=int((~usable).sum())
    )
    if not usable.any():
        return made
    error = predicted[usable] / test.y[usable] - 1.0
    size = np.abs(error)
    return replace(
        made,
        mape=float(np.mean(size)),
        max_ape=float(np.max(size)),
        bias=float(np.mean(error)),
        worst_run=test.run_id[int(np.flatnonzero(usable)[np.argmax(size)])],
    )


def leave_one_size_out(rows: Rows, refit: Refit) -> tuple[Score, ...]:
    """One score per model size, the law fitted on the other sizes."""
    sizes = np.unique(rows.x.n)
    if len(sizes) < 3:
        raise DataError(f"leaving one size out needs at least 3 model sizes; the rows have {len(sizes)}")
    if len(sizes) > 40:
        raise DataError(f"leaving one size out needs sizes that repeat; the rows have {len(sizes)} different ones")
    return tuple(score(rows, rows.x.n == n, refit, "leave-one-size-out", float(n)) for n in sizes)


def residual_tables(rows: Rows, residuals: Floats) -> Residuals:
    """Mean, standard deviation and largest size of log(predicted/observed), by bits, model size and fraction."""
    x, q = rows.x, rows.x.quantized
    few = len(np.unique(x.n)) <= _MOST_SIZES
    return Residuals(
        bits=_by_value(residuals, x.bits, "full precision"),
        n=_by_value(residuals, x.n) if few else _binned(residuals, x.n),
        fraction=_binned(residuals[q], x.fraction[q]) if q.any() else None,
    )


def _by_value(residuals: Floats, values: Floats, missing: str = "") -> tuple[ResidualGroup, ...]:
    groups = [_group(residuals[values == v], float(v)) for v in np.unique(values[~np.isnan(values)])]
    without = residuals[np.isnan(values)]
    return (*groups, _group(without, missing)) if without.size else tuple(groups)


def _binned(residuals: Floats, values: Floats, bins: int = 6) -> tuple[ResidualGroup, ...]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    if len(edges) < 2:
        return (_group(residuals, float(values[0])),)
    where = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return tuple(
        _group(residuals[where == b], (float(edges[b]), float(edges[b + 1])))
        for b in range(len(edges) - 1)
        if np.any(where == b)
    )


def _group(residuals: Floats, value: str | float | Pair) -> ResidualGroup:
    return ResidualGroup(
        value=value,
        rows=int(residuals.size),
        mean=float(residuals.mean()),
        sd=float(residuals.std(ddof=1)) if residuals.size > 1 else None,
        largest=float(np.max(np.abs(residuals))),
    )


def information_criteria(
    objective: float, rows: int, parameters: int, delta: float, whitening: Whitening | None = None
) -> tuple[float, float]:
    """(AIC, BIC) of the density proportional to exp(-Huber(r) / s), with its scale s fitted and counted.

    This is the likelihood whose maximum the fit is, so criteria and objective rank alike for equal parameters. With
    random effects r is whitened, and their variances count as parameters.
    """
    deviance = min(_deviance(objective, rows, delta, math.exp(t)) for t in np.linspace(-32.0, 4.0, 2401))
    k = parameters + 1
    if whitening is not None:
        deviance, k = deviance + whitening.log_determinant, k + len(whitening.ratios)
    return deviance + 2 * k, deviance + k * math.log(rows)


def _deviance(objective: float, rows: int, delta: float, scale: float) -> float:
    inner = math.sqrt(2 * math.pi * scale) * math.erf(delta / math.sqrt(2 * scale))
    outer = 2 * scale / delta * math.exp(-(delta**2) / (2 * scale))
    return 2 * (objective / scale + rows * math.log(max(inner + outer, 1e-300)))


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """Run-to-run noise from runs that differ in the seed alone."""

    sd: float
    """Standard deviation of log loss, pooled."""
    freedom: int
    """Degrees of freedom: runs minus groups of runs that agree."""


def seed_noise(rows: Rows) -> SeedNoise | None:
    """Pool the variance of log loss over runs that agree in everything but the seed; None without such runs.

    `loss_se` plays no part: the validation set is common to all runs, so its error shifts them together.
    """
    x = rows.x
    groups: dict[tuple[object, ...], dict[float, float]] = {}
    for i in range(len(rows)):
        if np.isnan(rows.seed[i]):
            continue
        key = (*(known(v[i]) for v in (x.n, x.d_fp, x.d_qat, x.bits, x.group_size)), rows.method[i][:3])
        groups.setdefault(key, {}).setdefault(float(rows.seed[i]), float(np.log(rows.y[i])))
    replicated = [np.array(list(g.values())) for g in groups.values() if len(g) > 1]
    freedom = sum(len(g) - 1 for g in replicated)
    if not freedom:
        return None
    total = sum(float(np.sum((g - g.mean()) ** 2)) for g in replicated)
    return SeedNoise(sd=float(np.sqrt(total / freedom)), freedom=freedom)


def residual_deviation(residuals: Floats, parameters: int) -> float:
    """Robust standard deviation of log residuals, corrected for the fitted parameters."""
    freedom = max(len(residuals) - parameters, 1)
    return float(_MAD * np.median(np.abs(residuals)) * np.sqrt(len(residuals) / freedom))


def fit_quality(residuals: Floats, parameters: int, seeds: SeedNoise | None, huber: float) -> list[str]:
    """Flags about lack of fit and about the Huber delta."""
    sd = residual_deviation(residuals, parameters)
    flags = []
    if seeds is not None:
        # A rough F test at 1 %: the 99 % point of F(large, freedom) is about 1 + 3.3 sqrt(2 / freedom) + 6 / freedom.
        limit = 1 + 3.3 * np.sqrt(2 / seeds.freedom) + 6 / seeds.freedom
        ratio = sd / seeds.sd if seeds.sd > 0 else np.inf
        if ratio**2 > limit:
            flags.append(Flag.LACK_OF_FIT(sd=sd, ratio=ratio, seeds=seeds.sd, freedom=seeds.freedom))
    if sd > 0 and huber < 0.02 * sd:
        flags.append(Flag.HUBER(delta=huber, share=huber / sd, sd=sd))
    return flags
