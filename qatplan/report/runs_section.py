"""The sweep and its quality: what was trained, on what, how far single runs scatter, and what went wrong."""

from __future__ import annotations

import math

from qatplan.report.markup import (
    Markup,
    bullets,
    escape,
    join,
    paragraph,
    section,
    table,
    unique_names,
)
from qatplan.report.material import Material
from qatplan.runs.summary import (
    Count,
    Range,
    Summary,
    summarise,
)
from qatplan.units import format_count, format_duration
from qatplan.wording.numbers import percent, plain, span

_LISTED = 20


def runs_section(material: Material) -> Markup:
    """The section; without the runs, what the fit remembers of them."""
    title = "The runs and their quality"
    if material.table is None:
        return section("runs", title, *_remembered(material))
    summary = summarise(material.table)
    return section(
        "runs", title, *_overview(material, summary), _sizes(summary), _counts(summary), *_quality(material),
        _diverged(material), _left_out(material),
    )  # fmt: skip


def _remembered(material: Material) -> list[Markup]:
    fitted = material.fitted
    named = unique_names(fitted.sources)
    said = paragraph(
        f"The runs were not at hand when this page was made (the fit names {named}); "
        f"what follows is what the fit recorded of them. It was made from {fitted.rows} runs."
    )
    return [said, ranges_table(material), _left_out(material)]


def ranges_table(material: Material) -> Markup:
    """The ranges that the fit has seen, inside which its predictions interpolate."""
    names = {
        "n": "parameters N", "d_total": "training tokens D", "bits": "bits per weight", "fraction": "QAT fraction f",
        "s_total": "tokens per parameter byte S",
    }  # fmt: skip
    rows = []
    for key, (low, high) in material.fitted.ranges.items():
        counted = key in ("n", "d_total")
        ends = [format_count(v) if counted else plain(v, 3) for v in (low, high)]
        rows.append((names.get(key, key), *ends))
    return table("Range that the fit has seen", ("quantity", "smallest", "largest"), rows) if rows else Markup("")


def _overview(material: Material, summary: Summary) -> list[Markup]:
    fitted, used = material.fitted, 0 if material.used is None else material.used.num_rows
    diverged = sum(c.runs for c in summary.status if c.value == "diverged")
    said = [
        f"{summary.rows} runs of {len(summary.sizes)} model sizes, {format_count(summary.tokens)} tokens in all as if "
        f"each had been trained from scratch; {diverged or 'none'} diverged; {used} enter the law.",
    ]
    if expression := fitted.provenance and fitted.provenance.row_expression:
        said.append(f"The law was asked to look at these rows alone: {expression}.")
    if summary.trunks:
        said.append(
            f"They branch off {summary.trunks} full-precision trunks, so runs of one trunk share its luck; "
            "intervals take that into account."
        )
    if corpora := material.words("corpus"):
        said.append(f"Text: {', '.join(corpora)}.")
    epochs = material.number("epochs")
    if epochs:
        top = max(epochs)
        said.append(
            f"No run saw more than {plain(top, 2)} epochs of its text."
            if top > 1
            else f"No text was repeated (at most {plain(top, 2)} of an epoch)."
        )
    seconds = material.number("seconds")
    if len(seconds) == summary.rows:
        devices = ", ".join(material.words("device"))
        said.append(f"Training took {format_duration(sum(seconds))} in all" + (f" on {devices}." if devices else "."))
    parts = [paragraph(*said)]
    if material.exact is True:
        how = "found by the names in the fit" if material.found else "given with this report"
        parts.append(
            paragraph(f"The digest of the rows ({how}) is the fit's own: they are the {fitted.rows} it was made from.")
        )
    elif material.exact is False:
        parts.append(
            paragraph(
                "Remark: these are not exactly the runs that the fit was made from; what is said of runs below is "
                f"about the ones at hand, what is said of the law is about the {fitted.rows} it was fitted on.",
                class_="note",
            )
        )
    return parts


def _sizes(summary: Summary) -> Markup:
    rows = [
        (
            format_count(s.n_total), None if s.n_nonembedding is None else format_count(s.n_nonembedding), s.runs,
            _count_span(s.d_total), "" if s.tokens_per_parameter is None else span(*s.tokens_per_parameter),
            ", ".join("full" if b is None else f"{b:g}" for b in s.bits), _loss_span(s.loss),
        )
        for s in summary.sizes[:_LISTED]
    ]  # fmt: skip
    more = len(summary.sizes) - _LISTED
    headers = ("parameters", "without embeddings", "runs", "tokens", "tokens per parameter", "bits", "loss, nats/token")
    grid = table("Model sizes", headers, rows, words=(5,))
    return join([grid, paragraph(f"and {more} more sizes", class_="note") if more > 0 else None])


def _counts(summary: Summary) -> Markup:
    span_text = "unknown" if summary.fractions is None else span(*summary.fractions)
    rows = [
        ("bits per weight (runs)", _listing(summary.bits, "full precision")),
        ("QAT fractions", f"{span_text} ({summary.distinct_fractions} different)"),
        ("schedules (runs)", _listing(summary.schedules)),
        ("quantizers (runs)", _listing(summary.quantizers, "none named")),
        ("seeds (runs)", _listing(summary.seeds)),
    ]
    return table("What was varied", ("", "values"), rows, words=(0, 1))


def _quality(material: Material) -> list[Markup]:
    fitted, said = material.fitted, []
    if fitted.seed_noise is not None:
        said.append(
            f"Runs that differ in the seed alone scatter by {percent(fitted.seed_noise)} of the loss "
            "(one standard deviation)."
        )
    else:
        said.append(
            "No two of the fitted runs differ in the seed alone, so the noise of a single run was not measured; what "
            "the law leaves unexplained stands in for it."
        )
    if math.isfinite(fitted.noise) and fitted.law.quantity == "loss":
        said.append(f"Runs scatter about the law by {percent(fitted.noise)}.")
    errors = [e / x for e, x in _paired(material, "loss_se", "loss")]
    if errors:
        middle = sorted(errors)[len(errors) // 2]
        said.append(
            f"The validation text itself leaves an error of about {percent(middle)} on each loss, common to all runs "
            "and so of no effect on comparisons between them."
        )
    return [paragraph(*said)]


def _paired(material: Material, first: str, second: str) -> list[tuple[float, float]]:
    if material.table is None:
        return []
    from qatplan import runs

    column = runs.columns(material.table, [first, second])
    pairs = zip(column[first].tolist(), column[second].tolist(), strict=True)
    return [(a, b) for a, b in pairs if not (math.isnan(a) or math.isnan(b)) and b > 0]


def _diverged(material: Material) -> Markup:
    if material.table is None:
        return Markup("")
    names = ["run_id", "status", "n_total", "d_total", "d_qat", "bits", "qat_learning_rate", "seed"]
    lost = [r for r in material.table.select(names).to_pylist() if r["status"] == "diverged"]
    if not lost:
        return Markup("")
    lost.sort(key=lambda r: (r["n_total"], r["d_total"], r["bits"] or 99.0, r["d_qat"], r["run_id"]))
    rows = [
        (
            format_count(r["n_total"]), format_count(r["d_total"]), "full" if r["bits"] is None else f"{r['bits']:g}",
            f"{r['d_qat'] / r['d_total']:.3g}",
            None if r["qat_learning_rate"] is None else f"{r['qat_learning_rate']:g}", r["seed"], r["run_id"],
        )
        for r in lost[:_LISTED]
    ]  # fmt: skip
    headers = ("parameters", "tokens", "bits", "QAT fraction", "QAT learning rate, of the peak", "seed", "run")
    grid = table(f"Runs that diverged ({len(lost)})", headers, rows, words=(6,))
    more = len(lost) - _LISTED
    return join([grid, paragraph(f"and {more} more", class_="note") if more > 0 else None])


def _left_out(material: Material) -> Markup:
    entries = material.fitted.left_out
    if not entries:
        return Markup("")
    items = [escape(f"{e.rows} rows: {e.reason} (for instance {e.examples[0]})") for e in entries]
    return join([paragraph("Rows that the law was not fitted on, and why:"), bullets(items)])


def _listing(counts: tuple[Count, ...], missing: str = "unknown") -> str:
    named = [
        f"{missing if c.value is None else f'{c.value:g}' if isinstance(c.value, float) else c.value} ({c.runs})"
        for c in counts[:_LISTED]
    ]
    return ", ".join(named) + (f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else "") or missing


def _count_span(found: Range) -> str:
    if found is None:
        return ""
    low, high = (format_count(v) for v in found)
    return low if low == high else f"{low} to {high}"


def _loss_span(found: Range) -> str:
    if found is None:
        return ""
    low, high = (f"{v:.4f}" for v in found)
    return low if low == high else f"{low} to {high}"
