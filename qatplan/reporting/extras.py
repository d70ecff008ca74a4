"""What a page says beside the sections of its runs, fit and plan: where they come from, and where they end."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

from qatplan import runs
from qatplan.laws.inputs import Inputs
from qatplan.planning.recommend import Recommendation
from qatplan.reporting.material import Material
from qatplan.reporting.question import Answer
from qatplan.runs.schema import DIVERGED
from qatplan.runs.summary import summarise
from qatplan.units import format_count, format_duration
from qatplan.wording.numbers import percent, plain
from qatplan.wording.runs import summary_sections
from qatplan.wording.sections import Section, Table, bullets, section

_LISTED = 20
_RANGES = {
    "n": "parameters N", "d_total": "training tokens D", "bits": "bits per weight", "fraction": "QAT fraction f",
    "s_total": "tokens per parameter byte S",
}  # fmt: skip


def runs_sections(material: Material) -> list[Section]:
    """The runs and their quality; without the runs, what the fit records of them."""
    fitted = material.fitted
    if material.table is None:
        named = ", ".join(fitted.sources) or "none"
        return [
            section(
                "",
                f"The runs were not at hand when this page was made (the fit names {named}). What follows is what the "
                f"fit recorded of them. It was made from {fitted.rows} runs.",
            ),
            ranges(material),
        ]
    return [
        *summary_sections(summarise(material.table)),
        section("Training", " ".join(filter(None, _training(material)))),
        section("Noise", " ".join(_noise(material))),
        section("Runs that diverged", *_diverged(material.table)),
    ]


def ranges(material: Material) -> Section:
    """The ranges that the fit has seen, inside which its predictions interpolate."""
    rows = []
    for key, ends in material.fitted.ranges.items():
        shown = [format_count(v) if key in ("n", "d_total") else plain(v, 3) for v in ends]
        rows.append((_RANGES.get(key, key), *shown))
    headers = ("quantity", "smallest", "largest")
    return section("Range that the fit has seen", Table(headers=headers, rows=tuple(rows), words=(0,)))


def _training(material: Material) -> list[str | None]:
    used = 0 if material.used is None else material.used.num_rows
    rows = material.fitted.provenance and material.fitted.provenance.row_expression
    epochs, seconds = material.number("epochs"), material.number("seconds")
    once = "No text was repeated (at most {} of an epoch)." if max(epochs, default=0) <= 1 else (
        "No run saw more than {} epochs of its text."
    )  # fmt: skip
    devices = ", ".join(material.words("device"))
    corpora = ", ".join(material.words("corpus"))
    how = "found by the names in the fit" if material.found else "given with this report"
    exact = {
        True: f"The digest of the rows ({how}) is the fit's own: they are the {material.fitted.rows} it was made from.",
        False: "These are not exactly the runs that the fit was made from. Statements about runs are about those at "
        f"hand; statements about the law are about the {material.fitted.rows} it was fitted on.",
    }
    return [
        f"{used} of the runs enter the law." + (f" It was fitted on these rows alone: {rows}." if rows else ""),
        "Runs that branch off one full-precision trunk share its trunk effect; intervals take that into account.",
        f"Text: {corpora}." if corpora else None,
        once.format(plain(max(epochs), 2)) if epochs else None,
        f"Training took {format_duration(sum(seconds))} in all{f' on {devices}' if devices else ''}."
        if seconds and len(seconds) == len(material.number("d_total"))
        else None,
        None if material.exact is None else exact[material.exact],
    ]


def _noise(material: Material) -> list[str]:
    fitted = material.fitted
    seeds = (
        "No two of the fitted runs differ in the seed alone, so the noise of a single run was not measured. What the "
        "law leaves unexplained stands in for it."
        if fitted.seed_noise is None
        else f"Runs that differ in the seed alone scatter by {percent(fitted.seed_noise)} of the loss (one standard "
        "deviation)."
    )
    column = runs.columns(material.table, ["loss_se", "loss"])
    errors = sorted(e / x for e, x in zip(*(v.tolist() for v in column.values()), strict=True) if e >= 0 and x > 0)
    if not errors:
        return [seeds]
    middle = percent(errors[len(errors) // 2])
    return [
        seeds,
        f"The validation text itself leaves an error of about {middle} on each loss. It is common to all runs, so it "
        "does not enter comparisons between them.",
    ]


def _diverged(table: pa.Table) -> list[str | Table]:
    lost = table.filter(pc.equal(table.column("status"), DIVERGED)).to_pylist()
    lost.sort(key=lambda r: (r["n_total"], r["d_total"], r["bits"] or 99.0, r["d_qat"], r["run_id"]))
    rows = tuple(
        (
            format_count(r["n_total"]), format_count(r["d_total"]), "full" if r["bits"] is None else f"{r['bits']:g}",
            f"{r['d_qat'] / r['d_total']:.3g}",
            None if r["qat_learning_rate"] is None else f"{r['qat_learning_rate']:g}",
            None if r["seed"] is None else str(r["seed"]), r["run_id"],
        )
        for r in lost[:_LISTED]
    )  # fmt: skip
    headers = ("parameters", "tokens", "bits", "QAT fraction", "QAT learning rate, of the peak", "seed", "run")
    more = f"and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
    return [f"{len(lost)} runs diverged.", Table(headers=headers, rows=rows, words=(6,)), more] if lost else []


def terms(material: Material, answer: Answer) -> list[Section]:
    """The loss of the plan, term by term."""
    if not isinstance(answer.advice, Recommendation):
        return []
    c = answer.advice.choice.plan
    found = material.fitted.law.components(Inputs.of(n=c.n, d_fp=c.d_fp, d_qat=c.d_qat, bits=c.bits))
    values = {key: float(v[0]) for key, v in found.items()}
    total = sum(values.values())
    rows = [(key, f"{v:.4f}", percent(v / total)) for key, v in values.items()]
    rows.append(("predicted loss", f"{total:.4f}", percent(1.0)))
    where = (
        f"At the plan below: {format_count(c.layout.parameters)} parameters, {format_count(c.tokens)} tokens, "
        f"{c.bits:g} bits, fraction {c.fraction:.3f}."
    )
    headers = ("term", "nats/token", "share")
    return [section("Where the predicted loss comes from", where, Table(headers=headers, rows=tuple(rows), words=(0,),
                                                                        strong=len(values)))]  # fmt: skip


def limits(material: Material, refused: dict[str, str]) -> list[Section]:
    """How far the law holds; `refused` are figures that could not be drawn, and why."""
    wide = ", ".join(wide_parameters(material))
    standing = [
        "Outside these ranges a prediction is an extrapolation: its interval says how sure the parameters are, not "
        "whether the law still holds.",
        "The law is about runs made like these: the same kind of model, text, quantizer, schedule and tuning.",
        f"Known to no better than a factor of ten: {wide}." if wide else None,
        "Without runs repeated with other seeds, a systematic error of the law cannot be told from noise."
        if material.fitted.seed_noise is None
        else None,
    ]
    return [
        *([ranges(material)] if material.table is not None else []),
        section("What a prediction rests on", bullets(*standing)),
        section("Figures that could not be drawn", bullets(*(f"{kind}: {why}" for kind, why in refused.items()))),
    ]


def wide_parameters(material: Material) -> list[str]:
    """Names of the positive parameters whose interval spans more than a factor of ten."""
    intervals, params = material.fitted.intervals, material.fitted.params
    amplitudes = [p.name for p in material.fitted.law.parameters() if p.coordinate == "log" and p.name in intervals]
    return [
        name
        for name in amplitudes
        if params[name] > 0 and math.isfinite(intervals[name][1]) and intervals[name][1] > 10 * intervals[name][0]
    ]
