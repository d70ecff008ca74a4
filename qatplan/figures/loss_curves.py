"""Loss against the QAT fraction: measured runs, the full-precision control, and the fitted curve if there is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qatplan.errors import DataError
from qatplan.figures.measured import POST_TRAINING, Run, best, control_loss, group, same_budgets
from qatplan.laws.inputs import Inputs
from qatplan.laws.predictor import Band, FittedCurve, Predictor, fitted_curve
from qatplan.runs.schema import CONTROL_BITS


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured fraction of a curve; loss in nats per token, None when the run diverged."""

    fraction: float
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Runs that differ in the QAT fraction alone (and in tuned settings, of which the lowest loss is kept)."""

    bits: float
    n: float
    d_total: float
    schedule: str
    seed: float | None
    variant: tuple[str, ...]
    points: tuple[Point, ...]
    """In order of fraction."""
    control: float | None
    """Full-precision loss at equal size and tokens."""
    beaten: tuple[Point, ...] = ()
    """Runs at the same fractions whose settings did worse; diverged ones are left out."""
    methods: tuple[str, ...] = ()
    """Post-training methods measured at fraction 0, where there are several; the best of them is the point."""
    fitted: FittedCurve | None = None

    @property
    def minimum(self) -> Point | None:
        """The measured point of lowest loss, where at least three fractions finished."""
        finished = [p for p in self.points if p.loss is not None]
        return min(finished, key=lambda p: p.loss or 0.0) if len(finished) >= 3 else None

    @property
    def interior(self) -> bool:
        """Whether the measured minimum lies strictly between the outermost fractions measured."""
        finished = [p.fraction for p in self.points if p.loss is not None]
        minimum = self.minimum
        return minimum is not None and min(finished) < minimum.fraction < max(finished)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes: curves of one bit width, and of one model size unless all share the panel (`n` None)."""

    bits: float
    n: float | None
    curves: tuple[Curve, ...]


@dataclass(frozen=True, kw_only=True)
class LossCurves:
    """Everything `loss_curves_drawing.draw` needs: panels in rows (sizes) by columns (bits); None is empty."""

    rows: tuple[tuple[Panel | None, ...], ...]
    title: str
    notes: tuple[str, ...] = field(default=())
    relative: bool = False
    """Whether losses are above the full-precision control of the same size and tokens."""

    @property
    def curves(self) -> tuple[Curve, ...]:
        """All curves, row by row."""
        return tuple(c for row in self.rows for panel in row if panel is not None for c in panel.curves)


def loss_curves(
    runs: Sequence[Run], predictor: Predictor | None = None, layout: str = "grid", relative: bool = False
) -> LossCurves:
    """The series of the figure from a sweep's runs, with fitted curves when `predictor` is given.

    `layout` "grid" gives one panel per size and bit width; "bits" one per bit width, all sizes in it. `relative`
    subtracts the full-precision loss of the same size and tokens; curves without one are left out, and counted.
    Raises DataError when no run is quantized, or none has a control to be relative to.
    """
    every = [_with_fit(c, predictor) for c in measured_curves(runs)]
    if not every:
        raise DataError("no run has bits, so there is no loss against the QAT fraction to draw.")
    curves = [_above_control(c, predictor) for c in every if c.control is not None] if relative else every
    if not curves:
        raise DataError("no curve has a full-precision run of its size and tokens, so no loss is relative to one.")
    bits = sorted({c.bits for c in curves})
    sizes: list[float | None] = sorted({c.n for c in curves}) if layout == "grid" else [None]  # type: ignore[assignment]
    rows = tuple(tuple(_panel(b, n, curves) for b in bits) for n in sizes)
    notes = _notes(curves, predictor)
    if len(curves) < len(every):
        notes += (f"{len(every) - len(curves)} of {len(every)} curves have no full-precision run and are not shown.",)
    return LossCurves(rows=rows, title=_title(curves), notes=notes, relative=relative)


def _panel(bits: float, n: float | None, curves: Sequence[Curve]) -> Panel | None:
    members = tuple(c for c in curves if c.bits == bits and n in (None, c.n))
    return Panel(bits=bits, n=n, curves=members) if members else None


def measured_curves(runs: Sequence[Run]) -> list[Curve]:
    """Curves by (bits, N, D_total, schedule, method, seed), in that order.

    Models rounded after training join the curves of their own quantizer, group size and activations; where there is
    no such curve, all others of their size, tokens and bits that have none of their own.
    """
    runs = same_budgets(runs)
    quantized = [r for r in runs if r.bits is not None]
    rounded = group(
        (r for r in quantized if r.schedule == POST_TRAINING or r.fraction == 0.0), lambda r: (_place(r), r.variant)
    )
    trained = [r for r in quantized if r.schedule != POST_TRAINING and r.fraction > 0.0]
    curves = []
    groups = group(trained, lambda r: (_place(r), r.schedule, r.variant))
    claimed = {(place, variant) for place, _, variant in groups}
    unclaimed = group((r for key, members in rounded.items() if key not in claimed for r in members), _place)
    for (place, schedule, variant), members in groups.items():
        own = rounded.get((place, variant))
        curves.append(_curve(members + (own or unclaimed.get(place, [])), runs, schedule, variant))
    covered = {place for place, _, _ in groups}
    for (place, _), members in rounded.items():
        if place not in covered:
            curves.append(_curve(members, runs, POST_TRAINING, members[0].variant))
    return sorted(
        curves, key=lambda c: (c.bits, c.n, c.d_total, c.schedule, c.variant, -1.0 if c.seed is None else c.seed)
    )


def _place(run: Run) -> tuple[float, float, float, float | None]:
    return (run.bits or 0.0, run.n, run.d_total, run.seed)


def _curve(members: Sequence[Run], runs: Sequence[Run], schedule: str, variant: tuple[str, ...]) -> Curve:
    first = members[0]
    at = group(members, lambda r: r.fraction)
    methods = tuple(sorted({r.post_training for r in members if r.post_training is not None}))
    chosen = {fraction: best(at[fraction]) for fraction in sorted(at)}
    points = [Point(fraction=f, loss=run.loss) for f, run in chosen.items()]
    others = [r for f, run in chosen.items() for r in at[f] if r is not run and r.loss is not None]
    beaten = [Point(fraction=r.fraction, loss=r.loss) for r in others]
    return Curve(
        bits=first.bits or 0.0, n=first.n, d_total=first.d_total, schedule=schedule, seed=first.seed, variant=variant,
        points=tuple(points), control=control_loss(runs, first.n, first.d_total, first.seed), beaten=tuple(beaten),
        methods=methods if len(methods) > 1 else (),
    )  # fmt: skip


def _with_fit(curve: Curve, predictor: Predictor | None) -> Curve:
    if predictor is None or curve.bits == CONTROL_BITS:
        return curve
    inner = [p.fraction for p in curve.points if 0.0 < p.fraction < 1.0]
    optimum = fitted_curve(predictor, curve.n, curve.d_total, curve.bits, np.array([0.5])).optimum
    near = [] if optimum is None else [min(max(optimum, 0.003), 0.97)]
    low, high = min([*inner, *near, 0.1]), max([*inner, *near, 0.5])
    logits = np.linspace(np.log(low / (1 - low)), np.log(high / (1 - high)), 81)
    fitted = fitted_curve(predictor, curve.n, curve.d_total, curve.bits, 1 / (1 + np.exp(-logits)))
    return dataclasses.replace(curve, fitted=fitted)


def _above_control(curve: Curve, predictor: Predictor | None) -> Curve:
    control = curve.control or 0.0

    def moved(points: tuple[Point, ...]) -> tuple[Point, ...]:
        return tuple(Point(fraction=p.fraction, loss=None if p.loss is None else p.loss - control) for p in points)

    fit = curve.fitted
    if fit is not None and predictor is not None:
        base = predictor.loss(Inputs.of(n=curve.n, d_total=curve.d_total)).value[0]
        # The band keeps its width: subtracting the central prediction leaves the uncertainty of the whole loss.
        low, high = (None if end is None else end - base for end in (fit.loss.low, fit.loss.high))
        loss = Band(value=fit.loss.value - base, low=low, high=high)
        best_loss = None if fit.optimum_loss is None else fit.optimum_loss - float(base)
        fit = dataclasses.replace(fit, loss=loss, optimum_loss=best_loss)
    return dataclasses.replace(curve, points=moved(curve.points), beaten=moved(curve.beaten), control=None, fitted=fit)


def _title(curves: Sequence[Curve]) -> str:
    judged = [c for c in curves if c.minimum is not None and c.bits != CONTROL_BITS]
    interior = sorted(c.minimum.fraction for c in judged if c.interior and c.minimum is not None)
    if not judged:
        return "Final loss against the QAT fraction (no curve has three finished fractions)"
    if not interior:
        return f"None of {len(judged)} curves of loss against the QAT fraction has an interior minimum"
    if len(judged) == 1:
        return f"Loss is lowest at a QAT fraction near {interior[0]:.2g}"
    span = f"{interior[0]:.2g}" if interior[0] == interior[-1] else f"{interior[0]:.2g} to {interior[-1]:.2g}"
    share = "all" if len(interior) == len(judged) else f"{len(interior)} of"
    return f"Loss is lowest at QAT fractions of {span} ({share} {len(judged)} curves have an interior minimum)"


def _notes(curves: Sequence[Curve], predictor: Predictor | None) -> tuple[str, ...]:
    notes = ["Points: final validation loss of one run each."]
    if any(c.minimum is not None for c in curves):
        notes[0] += " The large ring marks the lowest point of a curve."
    if any(c.beaten for c in curves):
        notes[0] += " Where several settings were tried at a fraction, the best counts; faint dots are the others."
    if tried := sorted({name for c in curves for name in c.methods}):
        notes[0] += f" At fraction 0 that is the best of {', '.join(tried)}; choose one with --rows."
    alike = {(c.bits, c.n, c.d_total, c.schedule): set[tuple[str, ...]]() for c in curves}
    for c in curves:
        alike[c.bits, c.n, c.d_total, c.schedule].add(c.variant)
    if any(len(variants) > 1 for variants in alike.values()):
        notes[0] += " Curves that look alike differ in quantizer, group size or activations; choose with --rows."
    if any(c.bits == CONTROL_BITS for c in curves):
        notes[0] += " 16-bit: the second phase in full precision, which is what the schedule alone does."
    diverged = sum(p.loss is None for c in curves for p in c.points)
    if diverged:
        notes.append(f"{diverged} diverged {'run is' if diverged == 1 else 'runs are'} marked × at the top edge.")
    if predictor is not None:
        notes.append(predictor.caption)
    return tuple(notes)
