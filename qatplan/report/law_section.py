"""The fitted law: its formula, its parameters with intervals, and its certificate in sentences."""

from __future__ import annotations

import math

from qatplan.laws.fit_parts import FractionDiagnostics, LossDiagnostics, Score
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Parameter
from qatplan.planning.recommend import Recommendation
from qatplan.report.drawings import Drawings
from qatplan.report.formula import name, symbols_of, typeset
from qatplan.report.markup import (
    Markup,
    element,
    join,
    paragraph,
    section,
    table,
)
from qatplan.report.material import Material
from qatplan.report.question import Plan
from qatplan.units import format_count
from qatplan.wording.numbers import (
    estimate,
    percent,
    plain,
    signed_percent,
)


def law_section(material: Material, drawings: Drawings, plan: Plan) -> Markup:
    """Formula, parameters, certificate, and what each term contributes."""
    law = material.fitted.law
    symbols = symbols_of(law)
    intro = paragraph(
        element("b", law.title), f"({law.name}), fitted on {material.fitted.rows} runs. Source: {law.source}."
    )
    parts = [
        intro,
        element("p", typeset(law, symbols), class_="formula"),
        paragraph(f"Where it holds: {law.domain}.", class_="note"),
        _parameters(material),
        drawings.figure("parameters") if len(law.parameters()) > 1 else None,
        element("h3", "How good the fit is"),
        *(paragraph(s) for s in certificate(material)),
        _sizes_left_out(material),
        _terms(material, plan),
    ]
    return section("law", "The law", join([p for p in parts if p is not None], "\n"))


def _parameters(material: Material) -> Markup:
    fitted = material.fitted
    symbols = symbols_of(fitted.law)
    bounds = set(fitted.certificate.parameters_at_bounds or ())
    rows = []
    for p in fitted.law.parameters():
        value, interval = estimate(fitted.params[p.name], fitted.intervals.get(p.name), amplitude=p.coordinate == "log")
        if p.name not in fitted.intervals:
            interval = "held fixed" if fitted.intervals else "none"
        shown = join([name(p.name, symbols), "" if p.symbol == p.name else f" {p.name}"])
        rows.append((shown, value, interval, _unit(p), p.meaning + (" (at its bound)" if p.name in bounds else "")))
    kind = {"bootstrap": "bootstrap", "profile": "profile likelihood"}.get(fitted.interval_kind)
    how = f"{100 * fitted.level:g} % interval" + (f" ({kind})" if kind else "")
    return table("Parameters", ("parameter", "value", how, "unit", "meaning"), rows, words=(0, 3, 4))


def _unit(parameter: Parameter) -> str:
    return "" if parameter.unit in ("", "1") else parameter.unit.replace(" * ", " · ")


def certificate(material: Material) -> list[str]:
    """What a fit must show before it is believed, in sentences."""
    fitted, proof = material.fitted, material.fitted.certificate
    verdict = "The fit passed its checks" if material.trusted else "The fit did not pass its checks"
    said = [f"{verdict}: {fitted.status.message}."]
    if proof.starts:
        found = f"{proof.starts_agreeing} of {proof.starts} searches from different starting points ended at the "
        said[0] += f" {found}same best value."
    counted = "all parameters" if fitted.n_convention == "total" else "parameters without embeddings"
    method = f"N counts {counted}."
    if math.isfinite(fitted.objective) and fitted.law.quantity == "loss":
        method += (
            f" Minimised was the sum of Huber terms (delta {fitted.huber:g}) of log predicted minus log measured loss: "
            f"{plain(fitted.objective, 5)}."
        )
    condition = proof.condition_number
    if condition is not None and math.isfinite(condition):
        method += f" The condition number at the optimum is {plain(condition, 2)}."
    said.append(method)
    said += _scatter(material)
    if fitted.holdout is not None:
        said.append(_held_out(fitted.holdout))
    elif fitted.law.quantity == "loss":
        said.append("No runs were held out to test the law's predictions.")
    if isinstance(fitted.diagnostics, FractionDiagnostics):
        said += _fraction_scores(fitted.diagnostics)
    return said


def _scatter(material: Material) -> list[str]:
    fitted = material.fitted
    if not math.isfinite(fitted.noise) or fitted.law.quantity != "loss":
        return []
    text = f"Runs scatter about the law by {percent(fitted.noise)} of the loss (robust standard deviation)"
    if fitted.seed_noise:
        text += (
            f", {plain(fitted.noise / fitted.seed_noise, 2)} times as far as runs that differ in the seed alone "
            f"({percent(fitted.seed_noise)}); a law that explains everything would come out at about 1"
        )
    return [f"{text}."]


def _held_out(score: Score) -> str:
    if score.mape is None or score.max_ape is None:
        count = score.rows + score.not_predictable
        return f"Held out ({score.kind}): none of the {count} runs could be predicted from the others."
    lean = "" if score.bias is None else f", on average {signed_percent(score.bias)}"
    return (
        f"Held out ({score.kind}): the law fitted on {score.fitted_rows} runs predicts the other {score.rows} "
        f"with a mean error of {percent(score.mape)}, at worst {percent(score.max_ape)} (run {score.worst_run}){lean}."
    )


def _fraction_scores(found: FractionDiagnostics) -> list[str]:
    low, high = found.published_mae
    said = [
        f"{found.measured_optima} curves of loss against the fraction have a minimum inside, "
        f"{found.without_inner_minimum} have not. The fitted law misses the measured best fraction by "
        f"{found.mae:.3f} on average, the published a = {found.published_a:g} by "
        f"{found.mae_published_law:.3f} (on its own runs: {low:.2f} to {high:.2f})."
    ]
    if loss_law := found.loss_law:
        a = "no a" if math.isnan(loss_law.a) else f"a = {loss_law.a:.3g}"
        said.append(
            f"The optima of the loss law fitted on the same rows give {a}, with an error of {loss_law.mae:.3f}."
        )
    return said


def _sizes_left_out(material: Material) -> Markup | None:
    found = material.fitted.diagnostics
    scores = found.leave_one_size_out or () if isinstance(found, LossDiagnostics) else ()
    rows = [
        (format_count(s.n), s.rows, percent(s.mape), percent(s.max_ape))
        for s in scores
        if s.n is not None and s.mape is not None and s.max_ape is not None
    ]
    if not rows:
        return None
    return table("Each size predicted from the others", ("parameters", "runs", "mean error", "worst"), rows, words=())


def _terms(material: Material, plan: Plan) -> Markup | None:
    """The loss of the plan, term by term, largest first after the floor."""
    if not isinstance(plan.advice, Recommendation):
        return None
    law, c = material.fitted.law, plan.advice.choice.plan
    found = law.components(Inputs.of(n=c.n, d_fp=c.d_fp, d_qat=c.d_qat, bits=c.bits))
    values = {key: float(v[0]) for key, v in found.items()}
    total = sum(values.values())
    rows = [(key, f"{v:.4f}", percent(v / total)) for key, v in values.items()]
    where = (
        f"{format_count(c.layout.parameters)} parameters, {format_count(c.tokens)} tokens, {c.bits:g} bits, fraction "
        f"{c.fraction:.3f}"
    )
    grid = table(
        "Where the predicted loss comes from",
        ("term", "nats/token", "share"),
        [*rows, ("predicted loss", f"{total:.4f}", percent(1.0))],
        strong=len(rows),
    )
    return join([element("h3", "What each term contributes"), paragraph(f"At the plan below: {where}."), grid])
