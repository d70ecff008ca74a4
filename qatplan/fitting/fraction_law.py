"""The fraction law refitted: from measured optima, and from the optima that a fitted loss law predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from qatplan.errors import DataError, QatplanError, UsageError
from qatplan.fitting.curves import Curve, Minimum, NoMinimum, curves, minima
from qatplan.fitting.loss_law import fit_loss_law
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import provenance, ranges
from qatplan.fitting.rows import BEATEN, Rows, select
from qatplan.laws.fit_parts import BitsError, Certificate, CurveRecord, FractionDiagnostics, LossLawOptima, Pair
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.flags import Flag
from qatplan.laws.inputs import Floats
from qatplan.laws.optimum import optimal_fraction
from qatplan.laws.qat_fraction import PUBLISHED_A, PUBLISHED_MAE, QatFraction
from qatplan.laws.qat_loss import QatLoss
from qatplan.laws.quantiles import central

_STARTS = 48
_LOW, _HIGH = 0.05, 200.0


def fit_fraction(
    table: Any, options: FitOptions, *, loss_law: bool = True, sources: Sequence[str] = (), command: str | None = None
) -> FittedLaw:
    """Fit `a` of f = exp(-a / ln S_total) to the measured optima of loss-against-fraction curves.

    Curves come from the classic schedule unless `rows` chooses others; of several learning rates at one point the
    best counts. Optima are weighted by 1 / (their variance + the law's own misfit). `bootstrap` draws resample
    curves, and each curve's optimum from its uncertainty. With `loss_law` the unified loss law is fitted to the same
    table, with the parameters that `fix` fixes, and its optimal fractions are compared and fitted too.
    Raises UsageError for a fixed parameter that is not the loss law's, and DataError where no curve has a minimum
    inside its measured fractions.
    """
    seed, bootstrap, level = options.seed, options.bootstrap, options.level
    known = [p.name for p in QatLoss.declared()]
    for name in options.fix:
        if name not in known:
            raise UsageError(f"{name} is no parameter of qat-loss, which is what can be fixed here: {', '.join(known)}")
    chosen = select(table, "qat-fraction", shape=QatFraction, expression=options.rows, n=options.n)
    found = minima(curves(chosen), draws=max(bootstrap, 200), seed=seed)
    inner = [m for m in found if m.none is None]
    if not inner:
        why = "; ".join(sorted({m.note for m in found if m.note}))[:300] or "there are no quantized rows"
        raise DataError(f"no curve of loss against fraction has an inner minimum to fit ({why})", evidence=found)
    s = np.array([m.curve.s_total for m in inner])
    f = np.array([m.fraction for m in inner])
    variance = _variances(inner)
    a, objective, agreeing = _fit_a(s, f, variance)
    draws = _draws(inner, s, variance, bootstrap, seed) if bootstrap else None
    law = QatFraction(a=a)
    error = law.fraction(s) - f
    published = QatFraction().fraction(s) - f
    by_bits = errors_by_bits(inner, error)
    flags = curve_flags(found, chosen, s, f, error, by_bits)
    loss_law_optima = None
    if loss_law:
        loss_law_optima, more = _from_loss_law(table, inner, s, f, options)
        flags += more
    interval: dict[str, Pair] = {} if draws is None else {"a": central(draws[:, 0], level)}
    return FittedLaw(
        law=law,
        draws=draws,
        intervals=interval,
        interval_kind="bootstrap" if interval else "none",
        level=level,
        objective=objective,
        rows=len(chosen),
        left_out=chosen.left_out,
        status=Status.GOOD,
        flags=tuple(flags),
        identifiability=() if len(inner) > 2 else (f"a rests on {len(inner)} measured optima only",),
        n_convention=options.n,
        bytes_per_token=chosen.bytes_per_token,
        noise=float(np.sqrt(np.mean(np.log(law.fraction(s) / f) ** 2))),
        ranges=ranges(chosen) | {"s_total": (float(s.min()), float(s.max()))},
        certificate=Certificate(starts=_STARTS, starts_agreeing=agreeing, objective="weighted squares of fractions"),
        diagnostics=FractionDiagnostics(
            curves=tuple(curve_record(m, level, laws=_said(m.curve, law)) for m in found),
            measured_optima=len(inner),
            without_inner_minimum=len(found) - len(inner),
            mae=float(np.mean(np.abs(error))),
            mae_published_law=float(np.mean(np.abs(published))),
            by_bits=by_bits,
            loss_law=loss_law_optima,
        ),
        derived=law.derived(),
        provenance=provenance(chosen, seed=seed, sources=sources, command=command, rows=options.rows),
    )


def _variances(inner: Sequence[Minimum]) -> Floats:
    """Variance of each measured fraction, at least (0.005)^2 so that no curve decides alone."""
    deviation = np.array([m.deviation() for m in inner])
    typical = float(np.nanmedian(deviation)) if np.isfinite(deviation).any() else 0.02
    return np.maximum(np.where(np.isfinite(deviation), deviation, typical), 0.005) ** 2


def _fit_a(s: Floats, f: Floats, variance: Floats) -> tuple[float, float, int]:
    """(a, objective, starts that agree): weighted least squares, the misfit variance found by iteration."""
    misfit, a, best, agreeing = 0.0, PUBLISHED_A, math.inf, 0
    for _ in range(20):
        weight = 1.0 / (variance + misfit)
        a, best, agreeing = _minimise(s, f, weight)
        left = np.exp(-a / np.log(s)) - f
        new = max(float(np.mean(left**2 - variance)), 0.0) * len(f) / max(len(f) - 1, 1)
        if abs(new - misfit) <= 1e-12:
            break
        misfit = new
    return a, best, agreeing


def _minimise(s: Floats, f: Floats, weight: Floats) -> tuple[float, float, int]:
    log_s = np.log(s)

    def objective(log_a: float) -> float:
        return float(np.sum(weight * (np.exp(-math.exp(log_a) / log_s) - f) ** 2))

    grid = np.linspace(math.log(_LOW), math.log(_HIGH), _STARTS)
    values = np.array([objective(g) for g in grid])
    step = grid[1] - grid[0]
    lows = [j for j in range(_STARTS) if values[j] == values[max(j - 1, 0) : j + 2].min()]
    ends = [minimize_scalar(objective, bounds=(grid[j] - step, grid[j] + step), method="bounded",
                            options={"xatol": 1e-10}) for j in lows]  # fmt: skip
    best = min(ends, key=lambda e: float(e.fun))
    # Every start of the grid descends to the valley next to it, so those of the best valley agree.
    winner = lows[ends.index(best)]
    edges = [j for j in range(1, _STARTS - 1) if values[j] >= max(values[j - 1], values[j + 1])]
    left = max([e for e in edges if e < winner], default=-1)
    right = min([e for e in edges if e > winner], default=_STARTS)
    return float(math.exp(best.x)), float(best.fun), right - left - 1


def _draws(inner: Sequence[Minimum], s: Floats, variance: Floats, count: int, seed: int) -> Floats:
    rng = np.random.default_rng([seed, 3])
    pools = []
    for m in inner:
        # Artificial optima scatter about the measured one; their own bias is not added to it.
        pools.append(m.known - m.known.mean() + m.fraction if m.known.size else np.array([m.fraction]))
    result = np.empty((count, 1))
    for k in range(count):
        pick = rng.integers(len(inner), size=len(inner))
        f = np.clip([pools[i][rng.integers(len(pools[i]))] for i in pick], 1e-4, 1 - 1e-4)
        result[k, 0] = float(f"{_fit_a(s[pick], f, variance[pick])[0]:.10g}")
    return result


def _said(curve: Curve, law: QatFraction) -> tuple[float | None, float | None]:
    if not curve.s_total > 1:
        return None, None
    return float(law.fraction(curve.s_total)), float(QatFraction().fraction(curve.s_total))


def curve_record(
    m: Minimum, level: float, *, laws: tuple[float | None, float | None], whole: bool = False
) -> CurveRecord:
    """A measured curve with its minimum, and what the refitted and the published law say; `whole` with its losses."""
    c, known = m.curve, m.none is None
    return CurveRecord(
        n=c.n,
        d_total=c.d_total,
        bits=c.bits,
        seed=c.seed,
        s_total=c.s_total,
        points=len(c.fraction),
        optimum=m.fraction if known else None,
        interval=m.interval(level) if known else None,
        loss=m.loss if known else None,
        refitted_law=laws[0],
        published_law=laws[1],
        note=m.note,
        fractions=tuple(c.fraction.tolist()) if whole else None,
        losses=tuple(c.loss.tolist()) if whole else None,
    )


def errors_by_bits(inner: Sequence[Minimum], error: Floats) -> tuple[BitsError, ...]:
    bits = np.array([m.curve.bits for m in inner])
    return tuple(
        BitsError(
            bits=float(b),
            curves=int(np.sum(bits == b)),
            mean_error=float(error[bits == b].mean()),
            mae=float(np.abs(error[bits == b]).mean()),
        )
        for b in np.unique(bits)
    )


def curve_flags(
    found: Sequence[Minimum], chosen: Rows, s: Floats, f: Floats, error: Floats, by_bits: Sequence[BitsError]
) -> list[str]:
    flags = []
    ends = sum(m.none in (NoMinimum.AT_SMALLEST, NoMinimum.AT_LARGEST) for m in found)
    if ends:
        flags.append(Flag.AT_ENDS(ends=ends, all=len(found)))
    short = len(found) - len(s) - ends
    if short:
        flags.append(Flag.SHORT(short=short, all=len(found)))
    if any(e.reason == BEATEN for e in chosen.left_out):
        flags.append(Flag.ENVELOPE())
    if len(s) >= 5:
        rank = float(np.corrcoef(np.argsort(np.argsort(s)), np.argsort(np.argsort(f)))[0, 1])
        how = "grows" if rank > 0.5 else "falls" if rank < -0.5 else "neither clearly grows nor falls"
        flags.append(Flag.TREND(how=how, rank=rank, curves=len(s)))
    gap = max(e.mean_error for e in by_bits) - min(e.mean_error for e in by_bits)
    if gap > 0.1:
        flags.append(Flag.BITS_DIFFER(gap=gap))
    mae = float(np.mean(np.abs(error)))
    if mae > PUBLISHED_MAE[1]:
        flags.append(Flag.MISSES(mae=mae, published=PUBLISHED_MAE))
    return flags


def _from_loss_law(
    table: Any, inner: Sequence[Minimum], s: Floats, f: Floats, options: FitOptions
) -> tuple[LossLawOptima | None, list[str]]:
    """(`a` and errors from the optimal fractions of the loss law fitted on the same rows, flags about them)."""
    asked = FitOptions(n=options.n, rows=options.rows, fix=options.fix, seed=options.seed, restrict=True)
    try:
        fitted = fit_loss_law(table, asked)
    except QatplanError as error:
        return None, [Flag.LOSS_LAW_MISSING(error=error)]
    flags = [] if fitted.status is Status.GOOD else [Flag.LOSS_LAW_FAILS(status=fitted.status)]
    best = optimal_fraction(
        fitted.law,
        n=np.array([m.curve.n for m in inner]),
        d_total=np.array([m.curve.d_total for m in inner]),
        bits=np.array([m.curve.bits for m in inner]),
    )
    inside = best.interior
    made = LossLawOptima(
        a=_fit_a(s[inside], best.fraction[inside], np.full(int(inside.sum()), 1e-4))[0] if inside.any() else math.nan,
        mae=float(np.mean(np.abs(best.fraction - f))),
        status=str(fitted.status),
        fractions=tuple(best.fraction.tolist()),
        at_an_end=int(np.sum(~inside)),
    )
    return made, flags
