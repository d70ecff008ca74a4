"""What a fit says: the law with its parameters, how far it may be trusted, and what stands against it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qatplan.laws.fit_parts import FractionDiagnostics, LeftOut, LossDiagnostics, Origin, Residuals, Score, SplitScore
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.flags import by_weight
from qatplan.laws.law import Parameter
from qatplan.laws.penalty import penalty_slope
from qatplan.units import bits_per_byte
from qatplan.wording.numbers import TEXT, Numbers
from qatplan.wording.sections import Bullets, More, Section, Table, bullets, section
from qatplan.wording.text import WIDTH, to_text, wrapped

MOST_FLAGS = 5
_MOST_LINES = 35
_MOST_VALUES = 20
"""Parameters in the short form."""


def fit_sections(fitted: FittedLaw, *, details: bool = False, numbers: Numbers = TEXT) -> list[Section]:
    """A fit in at most 35 lines of 80 columns; with `details` everything that is known of it."""
    parts = [
        _parameters(fitted, numbers, details=details),
        section("How far to trust it", *_trust(fitted, numbers, details=details), warning=_failed(fitted)),
    ]
    if details:
        return [
            *parts,
            *diagnostics_sections(fitted, numbers),
            section("What the rows do not determine", bullets(*fitted.identifiability)),
            section("Flags", bullets(*by_weight(fitted.flags)), warning=True),
            section("Left out", left_out(fitted.left_out)),
        ]
    room = _MOST_LINES - len(to_text(parts).splitlines()) - 4
    return [*parts, _flags(fitted, room)]


def short_sections(fitted: FittedLaw, numbers: Numbers = TEXT) -> list[Section]:
    """A fit in at most 15 lines of 80 columns."""
    values = []
    for p in fitted.law.parameters():
        value, interval = _estimate(fitted, p, numbers)
        values.append(f"{p.name} {value}" + (f" ({interval})" if interval else ""))
    shown = ", ".join(values[:_MOST_VALUES])
    more = f", and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    open_ones = len(fitted.flags) + len(fitted.identifiability)
    noted = More(f"{open_ones} flags and notes") if open_ones else None
    return [section(_title(fitted), _basis(fitted), f"{shown}{more}.", *_trust(fitted, numbers, details=False), noted)]


def _title(fitted: FittedLaw) -> str:
    return f"{fitted.law.title} ({fitted.law.name})"


def _basis(fitted: FittedLaw) -> str:
    left = sum(e.rows for e in fitted.left_out)
    per_token = fitted.bytes_per_token
    unit = ""
    if per_token is not None and fitted.law.quantity == "loss":
        unit = f" A nat per token is {bits_per_byte(1.0, per_token):.4g} bits per byte."
    return f"Fitted on {fitted.rows} runs{f'; {left} left out' if left else ''}.{unit}"


def _estimate(fitted: FittedLaw, parameter: Parameter, numbers: Numbers) -> tuple[str, str]:
    name = parameter.name
    # E is a loss, known to decimals; the scales of terms are known up to a factor.
    amplitude = parameter.scales and name != "E"
    value, interval = numbers.estimate(fitted.params[name], fitted.intervals.get(name), amplitude=amplitude)
    return value, "fixed" if name not in fitted.intervals and fitted.intervals else interval


def _parameters(fitted: FittedLaw, numbers: Numbers, *, details: bool) -> Section:
    """The table of parameters; those that were not fitted stand below it, except where it has all details."""
    how = f"{100 * fitted.level:g} % interval ({fitted.interval_kind})" if fitted.intervals else "interval"
    bounds = fitted.certificate.parameters_at_bounds or ()
    rows, fixed = [], []
    for p in fitted.law.parameters():
        value, interval = _estimate(fitted, p, numbers)
        if interval == "fixed" and not details:
            fixed.append(f"{p.name} = {value}")
            continue
        meaning = p.meaning + (" (at its bound)" if p.name in bounds else "")
        rows.append((p.name, value, interval, meaning) if details else (p.name, value, interval))
    headers = ("parameter", "value", how, "meaning")
    made = Table(headers=headers if details else headers[:3], rows=tuple(rows), words=(0, 2, 3) if details else (0, 2))
    return section(
        _title(fitted),
        fitted.law.formula if details else None,
        _basis(fitted),
        made,
        f"Fixed: {', '.join(fixed)}." if fixed else None,
    )


def _failed(fitted: FittedLaw) -> bool:
    return fitted.status is not Status.GOOD


def _trust(fitted: FittedLaw, numbers: Numbers, *, details: bool) -> list[str]:
    proof, counted = fitted.certificate, "all" if fitted.n_convention == "total" else "non-embedding"
    made = [f"{proof.starts_agreeing} of {proof.starts} starts agree"] if proof.starts else []
    if details:
        minimised = f"Huber delta {fitted.huber:g}" if proof.objective is None else proof.objective
        made.append(f"objective {fitted.objective:.10g} ({minimised})")
        made.append(f"N counts {counted} parameters")
        if proof.scaled_gradient is not None and proof.condition_number is not None:
            made.append(f"scaled gradient {proof.scaled_gradient:.2g}")
            if proof.newton_decrement is not None:
                made.append(f"one more step would gain {proof.newton_decrement:.2g} of the objective")
            made.append(f"condition number {numbers.plain(proof.condition_number, 2)}")
            made.append(f"at bounds: {', '.join(proof.parameters_at_bounds or ()) or 'none'}")
        if proof.bootstrap is not None:
            b = proof.bootstrap
            made.append(f"{b.draws} {b.kind} draws of {b.clusters} clusters, {b.unfinished} unfinished")
    verdict = "fails" if _failed(fitted) else "holds"
    why = fitted.status.message if _failed(fitted) or details else ""
    sentences = [f"Certificate {verdict}" + "".join(f"; {part}" for part in (why, *made) if part) + "."]
    if math.isfinite(fitted.noise):
        known = "" if fitted.seed_noise is None else f"; between seeds: {numbers.percent(fitted.seed_noise)}"
        noise = numbers.percent(fitted.noise)
        sentences.append(f"Residual standard deviation: {noise} of the {fitted.law.quantity}{known}.")
    if (shared := proof.effects) is not None:
        curves = "" if shared.curve is None else f", of {shared.curves} curves {numbers.percent(shared.curve)}"
        trunks = f"of {shared.trunks} trunks and budgets {numbers.percent(shared.trunk)}"
        sentences.append(f"Random effects: {trunks}{curves}; own noise {numbers.percent(shared.own)}.")
    if fitted.holdout is not None:
        sentences.append(held_out(fitted.holdout, numbers, details=details))
    sentences += penalty_sentences(fitted, numbers)
    if isinstance(fitted.diagnostics, FractionDiagnostics):
        sentences += fraction_errors(fitted.diagnostics, numbers)
    return sentences


def penalty_sentences(fitted: FittedLaw, numbers: Numbers = TEXT) -> list[str]:
    """Whether the cost of 4 bits grows or falls with training; of another width where 4 were not fitted."""
    low, high = fitted.ranges.get("bits", (4.0, 4.0))
    found = penalty_slope(fitted, min(max(4.0, low), high)) if fitted.law.sees_fraction else None
    if found is None:
        return []
    how = {1: "grows", -1: "falls", 0: "neither clearly grows nor falls"}[found.sign]
    value, interval = numbers.estimate(found.slope, found.interval)
    sure = f" ({interval})" if interval else ""
    return [
        f"The cost of {found.bits:g} bits {how} with tokens at a fixed fraction: {value}{sure} nats per factor of e."
    ]


def held_out(score: Score, numbers: Numbers = TEXT, *, details: bool = False) -> str:
    """How well the law predicts the runs it was not fitted to."""
    if score.mape is None or score.max_ape is None:
        runs = score.rows + score.not_predictable
        return f"Held out ({score.kind}): none of the {runs} runs could be predicted from the others."
    run = f" (run {score.worst_run})" if details and score.worst_run is not None else ""
    lean = f", on average {numbers.signed_percent(score.bias)}" if details and score.bias is not None else ""
    return (
        f"Held out ({score.kind}): {score.rows} runs predicted from {score.fitted_rows}, mean error "
        f"{numbers.percent(score.mape)}, worst {numbers.percent(score.max_ape)}{run}{lean}."
    )


def fraction_errors(found: FractionDiagnostics, numbers: Numbers = TEXT) -> list[str]:
    """How far the fraction law lies from the measured optima, beside the published law and the loss law."""
    low, high = found.published_mae
    sentences = [
        f"{found.measured_optima} curves of loss against the fraction have a minimum inside, "
        f"{found.without_inner_minimum} have not. Mean absolute error on the fraction: {found.mae:.3f}, of the "
        f"published a = {numbers.plain(found.published_a, 5)} {found.mae_published_law:.3f} (on its own runs "
        f"{low:.2f} to {high:.2f})."
    ]
    sentences += [split_score(score, numbers) for score in (() if found.split is None else found.split.scores)]
    if (other := found.loss_law) is not None:
        a = "no a can be fitted to them" if math.isnan(other.a) else f"a = {numbers.plain(other.a, 3)}"
        failed = "" if other.status == Status.GOOD else f" ({other.status}: not to be relied upon)"
        sentences.append(f"Optima of the loss law fitted to the same rows{failed}: {a}, error {other.mae:.3f}.")
    return sentences


_KEPT = {"cell": "Cells (size, tokens, bits) held out", "tokens": "Larger budgets", "size": "Larger sizes"}


def split_score(score: SplitScore, numbers: Numbers = TEXT) -> str:
    """What the splits of a fraction law cost on curves that it was fitted without, and whether its intervals held."""
    held = ""
    if score.interior:
        held = (
            f"; intervals hold {numbers.percent(score.coverage)} of {score.interior} minima, median width "
            f"{score.median_width:.2f}"
        )
    mean, worst = (numbers.plain(1e3 * value, 2) for value in (score.mean_regret, score.worst_regret))
    return (
        f"{_KEPT[score.way]}: splits cost {mean} thousandths of a nat on average, {worst} at worst "
        f"({score.curves} curves){held}."
    )


def _flags(fitted: FittedLaw, room: int) -> Section:
    """The weightiest flags that `room` lines hold, and what else there is."""
    ordered = by_weight(fitted.flags)
    if count := len(fitted.identifiability):
        what = "1 parameter is" if count == 1 else f"{count} parameters or combinations of them are"
        ordered.insert(min(2, len(ordered)), f"{what} hardly identified, if at all")
    shown: list[str] = []
    for flag in ordered[:MOST_FLAGS]:
        room -= len(wrapped(flag, WIDTH - 4))
        if room < 0:
            break
        shown.append(flag)
    hidden = len(ordered) - len(shown)
    more = More(f"{hidden} more" if hidden else "Everything")
    return section("Flags" if shown else "", bullets(*shown), more, warning=bool(shown))


def left_out(entries: Sequence[LeftOut]) -> Bullets:
    """Rows that were not used, and why."""
    return bullets(*(f"{e.rows} rows: {e.reason} (e.g. {e.examples[0]})" for e in entries))


def diagnostics_sections(fitted: FittedLaw, numbers: Numbers = TEXT) -> list[Section]:
    """Residuals and errors by group, or the measured curves behind the fraction law."""
    found = fitted.diagnostics
    if isinstance(found, FractionDiagnostics):
        return [section("Measured optimal fractions", curves_table(found, numbers))]
    if not isinstance(found, LossDiagnostics):
        return []
    return [
        section("Each size predicted from the others", sizes_table(found.leave_one_size_out or (), numbers)),
        section("The largest predicted without the smallest", origins_table(found.rolling_origin or (), numbers)),
        *(section(f"Log residuals by {title}", made) for title, made in residual_tables(found.residuals, numbers)),
        section("Information criteria", f"AIC {found.aic:.1f}, BIC {found.bic:.1f}."),
    ]


def sizes_table(scores: Sequence[Score], numbers: Numbers = TEXT) -> Table | None:
    """Errors of the law at each size that it was fitted without."""
    rows = tuple(
        (numbers.plain(s.n), str(s.rows), numbers.percent(s.mape), numbers.percent(s.max_ape))
        for s in scores
        if s.n is not None and s.mape is not None and s.max_ape is not None
    )
    return Table(headers=("N", "runs", "mean error", "worst"), rows=rows) if rows else None


def origins_table(origins: Sequence[Origin], numbers: Numbers = TEXT) -> Table | None:
    """The error on the largest size and budget by how many of the smallest were left out."""
    axes = {"n": "N", "d_total": "D"}
    rows = tuple(
        (axes[o.axis], str(o.left_out), numbers.plain(o.least), str(o.rows), numbers.percent(o.error)) for o in origins
    )
    headers = ("largest", "left out", "smallest kept", "runs", "mean error")
    return Table(headers=headers, rows=rows, words=(0,)) if rows else None


def residual_tables(residuals: Residuals, numbers: Numbers = TEXT) -> list[tuple[str, Table]]:
    """(title, table) by bit width, size and fraction."""
    made = []
    for title, groups in (("bits", residuals.bits), ("N", residuals.n), ("QAT fraction", residuals.fraction or ())):
        rows = tuple(
            (
                _group(g.value, numbers),
                str(g.rows),
                ("+" if g.mean > 0 else "") + numbers.plain(g.mean, 2),
                None if g.sd is None else numbers.plain(g.sd, 2),
                numbers.plain(g.largest, 2),
            )
            for g in groups
        )
        if rows:
            made.append((title, Table(headers=(title, "runs", "mean", "sd", "largest"), rows=rows)))
    return made


def _group(value: str | float | tuple[float, float], numbers: Numbers) -> str:
    if isinstance(value, tuple):
        return numbers.span(*value)
    return value if isinstance(value, str) else numbers.plain(value)


def curves_table(found: FractionDiagnostics, numbers: Numbers = TEXT) -> Table:
    """Every measured curve with its optimum, the refitted and the published law beside it."""
    headers = ("N", "D", "bits", "S_total", "measured", "refitted", "published", "note")
    rows = tuple(
        (
            numbers.plain(c.n),
            numbers.plain(c.d_total),
            f"{c.bits:g}",
            numbers.plain(c.s_total),
            *(None if f is None else f"{f:.3f}" for f in (c.optimum, c.refitted_law, c.published_law)),
            c.note,
        )
        for c in found.curves
    )
    return Table(headers=headers, rows=rows, words=(7,))
