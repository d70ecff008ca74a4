"""The optimal QAT fraction against tokens per parameter byte: published law, refitted law, measured optima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from qatplan.errors import DataError
from qatplan.figures.axes import log_axis, padded_log, shade
from qatplan.figures.style import FULL_PRECISION, INK, applied, bits_look, bits_name, legend, panel_grid
from qatplan.fitting.curves import MeasuredOptimum
from qatplan.laws.fit_parts import FractionDiagnostics
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.inputs import Inputs
from qatplan.laws.predictor import Band, FloatArray, Predictor
from qatplan.laws.qat_fraction import PUBLISHED_A, QatFraction
from qatplan.laws.split_interval import split_interval
from qatplan.units import format_count

_PUBLISHED: dict[str, Any] = {"color": INK, "linewidth": 1.3}
_REFITTED: dict[str, Any] = {"color": FULL_PRECISION, "linestyle": (0, (5, 2)), "linewidth": 1.3}
_ARROW = 0.055
_LEAST_S = 2.0
"""Below this the published law gives fractions under 1e-4, and at 1 it ends."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """Optimal fraction of a fitted law along budgets, for one size and bit width."""

    n: float
    bits: float
    s_total: FloatArray
    fraction: Band


@dataclass(frozen=True, kw_only=True)
class FractionFigure:
    """Everything `draw` needs."""

    optima: tuple[MeasuredOptimum, ...]
    s_total: FloatArray
    published: FloatArray
    """exp(-6.7297 / ln S_total), arXiv 2509.22935."""
    refitted: Band | None
    refitted_a: float | None
    paths: tuple[Path, ...]
    title: str
    notes: tuple[str, ...]


def fraction_figure(
    optima: Sequence[MeasuredOptimum] = (),
    predictor: Predictor | None = None,
    sizes: Sequence[float] = (),
    bits: Sequence[float] = (),
    tokens: tuple[float, float] | None = None,
    surface: FittedLaw | None = None,
) -> FractionFigure:
    """The series from measured optima, a fitted law, or both.

    A `qat-fraction` law becomes the refitted line; a loss law, or a fit of an optimum surface, one path per bit width
    at the middle one of `sizes`, over `tokens` (lowest and highest D_total). The band of a loss law comes from its
    draws, that of a surface from its errors on curves that it was not fitted to. Raises DataError when there is
    nothing to draw.
    """
    refit = predictor if predictor is not None and isinstance(predictor.law, QatFraction) else None
    paths: tuple[Path, ...] = ()
    said = _said(predictor, surface)
    if said is not None and sizes and bits and tokens is not None:
        paths = tuple(_path(said, sorted(sizes)[len(sizes) // 2], b, tokens) for b in sorted(bits))
    usable = tuple(o for o in optima if o.s_total > 0)
    if not usable and predictor is None:
        raise DataError("no curve of loss against the QAT fraction has an optimum, so there is nothing to draw.")
    spots = [o.s_total for o in usable] + [s for p in paths for s in (p.s_total[0], p.s_total[-1])]
    low, high = padded_log(spots) if spots else (10.0, 1e5)
    low, high = min(max(low, 1.2), 10.0), max(high, 1e3)
    s = np.geomspace(max(low, _LEAST_S), high, 161)
    refitted = None if refit is None else refit.value(Inputs.of(n=8.0, d_total=s, bits=1.0, fraction=0.5))
    a = refit.law.params()["a"] if refit is not None else None
    return FractionFigure(
        optima=usable, s_total=s, published=QatFraction(a=PUBLISHED_A).fraction(s), refitted=refitted, refitted_a=a,
        paths=paths, title=_title(usable, a),
        notes=(*_notes(usable, paths, predictor, surface), *_missed(usable, said if paths else None)),
    )  # fmt: skip


def _said(predictor: Predictor | None, surface: FittedLaw | None) -> Callable[[Inputs], Band] | None:
    """What a law says of the best fraction, with its band; None for laws that become no path."""
    if surface is not None and isinstance(surface.diagnostics, FractionDiagnostics):
        evidence = surface.diagnostics.split

        def calibrated(x: Inputs) -> Band:
            value = surface.predict(x)
            if evidence is None:
                return Band(value=value, low=None, high=None)
            low, high = split_interval(evidence, x, value, surface.ranges, level=surface.level)
            return Band(value=value, low=low, high=high)

        return calibrated
    if predictor is not None and predictor.law.sees_fraction:
        return lambda x: predictor.optimum(n=x.n, d_total=x.d_total, bits=x.bits)[1]
    return None


def _path(said: Callable[[Inputs], Band], n: float, bits: float, tokens: tuple[float, float]) -> Path:
    d_total = np.geomspace(tokens[0], tokens[1], 61)
    band = said(Inputs.of(n=n, d_total=d_total, bits=bits, fraction=0.5))
    return Path(n=n, bits=bits, s_total=d_total / (n * bits / 8.0), fraction=band)


def _missed(optima: Sequence[MeasuredOptimum], said: Callable[[Inputs], Band] | None) -> tuple[str, ...]:
    """How many of the optima that are drawn lie outside what the law says for their own size, tokens and bits."""
    inner = [o for o in optima if o.end == 0]
    if said is None or not inner:
        return ()
    size, tokens, width = zip(*((o.n, o.d_total, o.bits) for o in inner), strict=True)
    band = said(Inputs.of(n=size, d_total=tokens, bits=width, fraction=0.5))
    if band.low is None or band.high is None:
        return ()
    fraction = np.array([o.fraction for o in inner])
    outside = int(np.sum((fraction < band.low) | (fraction > band.high)))
    how = f"hold all {len(inner)}" if not outside else f"miss {outside} of the {len(inner)}"
    return (f"At their own sizes, the law's intervals {how} measured optima between the ends.",)


def _title(optima: Sequence[MeasuredOptimum], a: float | None) -> str:
    inner = [o for o in optima if o.end == 0 and o.s_total > 1]
    if len(inner) < 3:
        return "Optimal QAT fraction against tokens per parameter byte" + (f"; refitted a = {a:.3g}" if a else "")
    ranks = [np.argsort(np.argsort(v)) for v in ([o.s_total for o in inner], [o.fraction for o in inner])]
    rank = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    gap = float(np.mean([abs(o.fraction - np.exp(-PUBLISHED_A / np.log(o.s_total))) for o in inner]))
    trend = "grows" if rank > 0.5 else "falls" if rank < -0.5 else "neither clearly grows nor falls"
    return (
        f"The measured optimal fraction {trend} with tokens per parameter byte (rank correlation {rank:.2f}); "
        f"mean distance from the published law {gap:.2f}"
    )


def _notes(
    optima: Sequence[MeasuredOptimum], paths: Sequence[Path], predictor: Predictor | None, surface: FittedLaw | None
) -> tuple[str, ...]:
    notes = []
    if optima:
        text = "Points: measured optima, bars their intervals."
        if any(o.end for o in optima):
            text += " Hollow: loss is lowest at the outermost fraction measured; the arrow points to the optimum."
        if any(a != o.s_total for a, o in zip(apart([o.s_total for o in optima]), optima, strict=True)):
            text += " Points of equal S_total are drawn side by side."
        notes.append(text)
    if paths:
        what = "optimum of the fitted loss law" if surface is None else f"fitted law {surface.law.name}"
        notes.append(f"Thin lines: {what} at N = {format_count(paths[0].n)}.")
    if paths and surface is not None:
        sure = f"{surface.level:.0%} intervals at this size, from errors on curves that it was not fitted to"
        notes.append(f"Bands: {sure}.")
        return tuple(notes)
    shown = bool(paths) or (predictor is not None and isinstance(predictor.law, QatFraction))
    if predictor is not None and predictor.draws is not None and shown:
        notes.append(f"Bands: central {predictor.level:.0%} of {len(predictor.draws)} draws of the fit.")
    return tuple(notes)


@applied()
def draw(series: FractionFigure) -> Figure:
    """The laws as lines, the measured optima as points."""
    figure, [[axes]] = panel_grid(series.title, series.notes, panel=(4.3, 2.9), right=1.75, top=0.12)
    _axes(axes, series)
    _laws(axes, series)
    _optima(axes, series.optima)
    legend(axes, _entries(series))
    return figure


def _axes(axes: Axes, series: FractionFigure) -> None:
    low = min([float(series.s_total[0]), *(o.s_total / 1.15 for o in series.optima)])
    log_axis(axes, "x", low, float(series.s_total[-1]), format_count, most=7)
    tops = [float(series.published.max()), *(o.high for o in series.optima), *(o.fraction for o in series.optima)]
    tops += [float(np.nanmax(p.fraction.value)) for p in series.paths]
    # Below the lowest optima there is room for the arrows that point down.
    bottom = min([0.0, *(o.fraction - _ARROW - 0.01 for o in series.optima if o.end < 0)])
    axes.set_ylim(bottom, min(1.0, 0.1 * np.ceil(10 * max(tops) + 0.3)) + 0.015)
    axes.yaxis.set_major_locator(MultipleLocator(0.1))
    axes.grid(axis="y")
    axes.set(xlabel="Tokens per parameter byte, S_total = D_total / (N · bits / 8)")
    axes.set(ylabel="Optimal QAT fraction f* = D_qat / D_total")


def _laws(axes: Axes, series: FractionFigure) -> None:
    axes.plot(series.s_total, series.published, **_PUBLISHED, zorder=2)
    if series.refitted is not None:
        shade(axes, series.s_total, series.refitted, FULL_PRECISION, 0.15, 1)
        axes.plot(series.s_total, series.refitted.value, **_REFITTED, zorder=2)
    for path in series.paths:
        look = bits_look(path.bits)
        shade(axes, path.s_total, path.fraction, look.color, 0.15, 1)
        axes.plot(path.s_total, path.fraction.value, **look.stroke, linewidth=0.9, zorder=2)


def apart(places: Sequence[float], reach: float = 0.08, near: float = 0.02) -> list[float]:
    """Log-axis places with nearly equal ones (within `near`) fanned out by up to `reach` either way, in given order."""
    result, rest = list(map(float, places)), sorted(range(len(places)), key=lambda i: places[i])
    while rest:
        group = sorted(i for i in rest if places[i] <= places[rest[0]] * (1 + near))
        for rank, i in enumerate(group):
            result[i] *= float(np.exp(reach * (2 * (rank + 0.5) / len(group) - 1)))
        rest = rest[len(group) :]
    return result


def _optima(axes: Axes, optima: Sequence[MeasuredOptimum]) -> None:
    for optimum, s_total in zip(optima, apart([o.s_total for o in optima]), strict=True):
        look = bits_look(optimum.bits)
        axes.plot([s_total] * 2, [optimum.low, optimum.high], color=look.color, linewidth=0.6, alpha=0.8, zorder=3)
        face = look.color if optimum.end == 0 else "white"
        axes.plot([s_total], [optimum.fraction], **look.points, markersize=4.4, markerfacecolor=face, zorder=4,
                  clip_on=False)  # fmt: skip
        if optimum.end:
            axes.annotate("", (s_total, optimum.fraction + _ARROW * optimum.end),
                          (s_total, optimum.fraction + 0.012 * optimum.end), zorder=3,
                          arrowprops={"arrowstyle": "->", "color": look.color, "linewidth": 0.7,
                                      "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6})  # fmt: skip


def _entries(series: FractionFigure) -> list[dict[str, Any]]:
    entries = [{**_PUBLISHED, "label": f"published law, a = {PUBLISHED_A:g}"}]
    if series.refitted_a is not None:
        entries.append({**_REFITTED, "label": f"refitted law, a = {series.refitted_a:.3g}"})
    with_path, with_point = {p.bits for p in series.paths}, {o.bits for o in series.optima}
    for bits in sorted(with_path | with_point):
        look = bits_look(bits)
        style = look.both if bits in with_path & with_point else look.points if bits in with_point else look.stroke
        entries.append({**style, "linewidth": 0.9, "markersize": 4.4, "label": bits_name(bits)})
    return entries
