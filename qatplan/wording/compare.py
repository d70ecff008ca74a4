"""What a comparison of laws says: the ranking, whether the winner's parameters are worth it, what it rests on."""

from __future__ import annotations

from typing import Any

from qatplan.fitting.compare import Comparison, Entry
from qatplan.laws.fit_parts import plain
from qatplan.wording.fit import left_out
from qatplan.wording.numbers import TEXT, Numbers
from qatplan.wording.runs import more
from qatplan.wording.sections import More, Section, Table, bullets, section

_SHOWN = 3
"""Reasons why rows are out that lead; --details has all of them."""


def compare_sections(compared: Comparison, *, details: bool = False, numbers: Numbers = TEXT) -> list[Section]:
    """The laws, the lowest held-out error first; with `details` also why rows and terms were left out."""
    title = f"{compared.rows} runs that every law describes; {compared.held_out} held out ({compared.holdout})"
    scatter = None if compared.seed_noise is None else numbers.percent(compared.seed_noise)
    noise = f"Runs that differ in the seed alone differ by {scatter}; no law can do better" if scatter else None
    out = sorted(compared.left_out, key=lambda each: -each.rows)
    parts = [
        section(f"{sum(e.rows for e in out)} rows left out", left_out(out[:_SHOWN]), more(len(out), _SHOWN, "reasons")),
        section(title, _table(compared, numbers, details=details)),
        section("Verdict", bullets(*verdict(compared, numbers), noise)),
        section("Laws not fitted", bullets(*(f"{e.law}: {e.error}" for e in compared.entries if e.error is not None))),
    ]
    if details:
        narrowed = (f"{e.law}: {note(e)}" for e in compared.entries if e.error is None and note(e))
        return [*parts, section("Notes", bullets(*narrowed)), section("Left out", left_out(compared.left_out))]
    return [*parts, section("", More("AIC, BIC, notes and the rows left out"))]


def compare_object(compared: Comparison) -> dict[str, Any]:
    """The JSON object of `qatplan compare`."""
    numbers = ("law", "parameters", "rows", "mape", "max_ape", "in_sample_mape", "aic", "bic", "objective", "status")
    made: dict[str, Any] = plain(
        {
            "entries": [{**{k: getattr(e, k) for k in numbers}, "note": note(e)} for e in compared.entries],
            "holdout": compared.holdout,
            "rows": compared.rows,
            "held_out": compared.held_out,
            "left_out": compared.left_out,
            "scatter": compared.seed_noise,
            "said": verdict(compared, TEXT),
        }
    )
    return made


def _table(compared: Comparison, numbers: Numbers, *, details: bool) -> Table:
    headers: tuple[str, ...] = ("law", "parameters", "held-out error", "worst", "error of the fit", "status")
    rows = []
    for e in compared.entries:
        errors = (None if v is None else numbers.percent(v) for v in (e.mape, e.max_ape, e.in_sample_mape))
        criteria = (None if v is None else f"{v:.1f}" for v in (e.aic, e.bic)) if details else ()
        size = None if e.parameters is None else str(e.parameters)
        rows.append((e.law, size, *errors, *criteria, e.status))
    if details:
        headers = (*headers[:-1], "AIC", "BIC", headers[-1])
    return Table(headers=headers, rows=tuple(rows), words=(0, len(headers) - 1))


def verdict(compared: Comparison, numbers: Numbers = TEXT) -> list[str]:
    """Whether the winner's parameters are worth it."""
    found = compared.verdict
    if found is None or found.best.mape is None:
        return []
    best, simpler, by_bic = found.best, found.simpler, found.by_bic
    error = numbers.percent(found.best.mape)
    sentences = [f"{best.law} predicts the {compared.held_out} held-out rows best ({error} mean error)"]
    if simpler is not None:
        sentences.append(
            f"{simpler.law} is within 15 % of that with {simpler.parameters} instead of {best.parameters} parameters, "
            "so the extra ones buy little here"
        )
    if by_bic.law != best.law:
        sentences.append(
            f"BIC prefers {by_bic.law}; where both disagree, the held-out error is the better guide to larger runs"
        )
    return sentences


def note(entry: Entry) -> str:
    """Why a law could not be fitted, or what it was fitted without."""
    if entry.error is not None:
        return entry.error
    unseen = f"{entry.not_predictable} held-out rows have bits it was not fitted on" if entry.not_predictable else ""
    return "; ".join(filter(None, [*entry.terms_left_out, unseen]))
