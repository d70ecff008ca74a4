"""Before a fit: which parameters have rows that speak about them, and what the design of the rows cannot identify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qatplan.errors import DataError, UsageError
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Parameter, Term, coordinates

_QUANTITIES = {
    "n": "model size",
    "d_total": "tokens",
    "d_fp": "full-precision tokens",
    "d_qat": "QAT tokens",
    "bits": "bits",
    "group_size": "group size",
    "s_total": "tokens per parameter byte",
}


def axis_of(parameter: Parameter) -> str:
    """The quantity whose variation determines a parameter."""
    return _QUANTITIES.get(parameter.of, "rows")


@dataclass(frozen=True, kw_only=True)
class Support:
    """What of a law can be fitted on given rows."""

    law: Law
    """The law's shape, without the terms that were taken out."""
    fixed: dict[str, float]
    """Natural values of parameters that are not fitted."""
    notes: tuple[str, ...]
    """What the rows do not determine."""
    terms_left_out: tuple[str, ...]
    """Why terms were taken out of the law; these are among the notes."""


def check(shape: Law, x: Inputs, *, fix: Mapping[str, float], restrict: bool) -> Support:
    """Decide what is fitted.

    `fix` fixes parameters at natural values; an amplitude fixed at 0 takes its term and that term's exponents out.
    A term without any row raises DataError, or is taken out with `restrict`. An exponent whose quantity takes one
    value only in its term's rows is fixed at 0, with a note; its factor is then part of the amplitude.
    """
    parameters = {p.name: p for p in shape.parameters()}
    for name in fix:
        if name not in parameters:
            raise UsageError(f"law {shape.name} has no parameter {name}; its parameters are {', '.join(parameters)}")
        p = parameters[name]
        if not (p.lower <= fix[name] <= p.upper and np.isfinite(fix[name])):
            raise UsageError(f"{name} is fixed at {fix[name]:g}; allowed is {p.lower:g} to {p.upper:g}")
    fixed: dict[str, float] = {name: float(value) for name, value in fix.items()}
    notes: list[str] = []
    left_out: list[str] = []
    for name, reason in shape.undetermined(x).items():
        if name not in fixed:
            fixed[name] = 0.0
            notes.append(f"{name} cannot be determined: {reason}; it is fixed at 0")
    thin, terms = _too_thin(shape, x, fixed), shape.terms(x)
    shared = {name for term in terms for name in _members(term) if sum(name in _members(t) for t in terms) > 1}
    for term in terms:
        members, why = _members(term), None
        if fixed.get(term.amplitude or "") == 0:
            pass
        elif term.name in thin:
            if not restrict:
                raise DataError(f"{thin[term.name]}; more such runs are needed, or --restrict leaves these terms out")
            why = f"{thin[term.name]}; the law was fitted without '{term.name}'"
        elif not np.any(term.rows):
            what = f"no row supports the term '{term.name}' ({', '.join(members)})"
            if not restrict or term.amplitude is None:
                hint = "; --restrict leaves out what no row supports" if term.amplitude else ""
                raise DataError(f"{what}{hint}")
            why = f"{what}; the law was fitted without it"
        else:
            notes += _constant_columns(term, x, parameters, fixed, shared)
            continue
        # What another term has too is not known to be left out.
        fixed |= {name: 0.0 for name in members if name not in shared}
        if why is not None:
            notes.append(why)
            left_out.append(why)
    law = shape.replace({**dict.fromkeys(parameters, 1.0), **{n: v for n, v in fixed.items() if v == 0}})
    notes += _design(law, x, fixed)
    return Support(law=law, fixed=fixed, notes=tuple(notes), terms_left_out=tuple(left_out))


def fixed_coordinates(support: Support) -> dict[str, float]:
    """The fixed parameters as fitting coordinates."""
    parameters = support.law.parameters()
    values = {**{p.name: 1.0 for p in parameters}, **support.fixed}
    theta = coordinates(parameters, np.array([[values[p.name] for p in parameters]]))[0]
    # An exponent fixed at 0 has no effect whatever its coordinate is; an amplitude at 0 has no term.
    return {
        p.name: 0.0 if values[p.name] == 0 and p.coordinate != "log" else float(value)
        for p, value in zip(parameters, theta, strict=True)
        if p.name in support.fixed
    }


def _too_thin(shape: Law, x: Inputs, fixed: Mapping[str, float]) -> dict[str, str]:
    """Terms that live on some rows only and together have more parameters than those rows: {term: sentence}."""
    groups: dict[bytes, list[Term]] = {}
    for term in shape.terms(x):
        if term.amplitude is not None and fixed.get(term.amplitude) != 0 and term.rows.any() and not term.rows.all():
            groups.setdefault(term.rows.tobytes(), []).append(term)
    thin: dict[str, str] = {}
    for terms in groups.values():
        count = sum(name not in fixed for t in terms for name in _members(t))
        rows = int(terms[0].rows.sum())
        if rows < count:
            names, support = ", ".join(f"'{t.name}'" for t in terms), "row supports" if rows == 1 else "rows support"
            thin |= {t.name: f"only {rows} {support} the {count} parameters of {names}" for t in terms}
    return thin


def _members(term: Term) -> list[str]:
    rates = () if term.nonlinear is None else term.nonlinear.rates
    return list(dict.fromkeys([*filter(None, [term.amplitude]), *term.columns, *rates]))


def _constant_columns(
    term: Term, x: Inputs, parameters: Mapping[str, Parameter], fixed: dict[str, float], shared: set[str]
) -> list[str]:
    notes = []
    bent = () if term.nonlinear is None else term.nonlinear.rates
    for name, column in term.columns.items():
        inside = column[term.rows]
        if name in fixed or name in shared or name in bent or term.amplitude is None:
            continue
        if parameters[name].coordinate in ("factor", "log") or not parameters[name].of:
            continue
        if np.ptp(inside) > 1e-9 * max(1.0, float(np.abs(inside).max())):
            continue
        if parameters[name].coordinate == "inverse":
            raise DataError(f"all rows of '{term.name}' have the same bits, which says nothing about {name}; fix it")
        fixed[name] = 0.0
        axis, value = axis_of(parameters[name]), getattr(x, parameters[name].of)[term.rows][0]
        notes.append(
            f"{name} cannot be determined: all {int(term.rows.sum())} rows of '{term.name}' have the same {axis}"
            f" ({value:.4g}); it is fixed at 0, {term.amplitude} includes its factor, and the fit says "
            f"nothing about other values of {axis}"
        )
    return notes


def _design(law: Law, x: Inputs, fixed: Mapping[str, float]) -> list[str]:
    """Sentences on what the choice of rows leaves undetermined, whatever their losses are."""
    notes: list[str] = []
    by_name = {p.name: p for p in law.parameters()}
    free = [name for name in by_name if name not in fixed]
    if law.quantity == "loss" and not np.any(~x.quantized) and np.any(x.quantized) and "E" in free:
        partners = "theta" if "theta" in free else "the quantization terms"
        if law.name in ("qat-loss", "effective-tokens", "chen2025", "precision", "effective", "ouyang"):
            notes.append(
                f"there are no full-precision rows: E, A and C are told from {partners} only by how losses change with "
                "bits, and the predicted full-precision loss is an extrapolation"
            )
    sizes = np.unique(x.n)
    sizes_tell = {"alpha", "E", "A"} <= {*free} and by_name["alpha"].of == "n"
    if sizes_tell and len(sizes) < 3:
        notes.append(
            f"only {len(sizes)} model {'size' if len(sizes) == 1 else 'sizes'}: E, A and alpha cannot be told apart; "
            "at least 3 sizes would"
        )
    ratios = _distinct(np.log(x.d_total / x.n))
    tokens_tell = {"beta", "E", "C"} <= {*free} and by_name["beta"].of == "d_total"
    if tokens_tell and len(sizes) > 2 and len(ratios) <= 3:
        notes.append(
            f"tokens per parameter take only {len(ratios)} {'value' if len(ratios) == 1 else 'values'}, so E is told "
            "from A and C by curvature alone; a wider range of tokens per parameter would determine E"
        )
    return notes


def _distinct(values: Floats) -> list[float]:
    """Logs that differ by more than 6 %: nominal sizes and budgets are met that well, and no better."""
    found: list[float] = []
    for value in np.sort(values).tolist():
        if not found or value > found[-1] + 0.06:
            found.append(value)
    return found


def rank_deficient(names: Sequence[str], information: np.ndarray) -> list[str]:
    """Names of parameters in an exact null direction of the information matrix."""
    size = np.sqrt(np.maximum(np.diag(information), 0.0))
    dead = size <= 1e-12 * max(float(size.max()), 1e-300)
    if np.any(dead):
        return [n for n, d in zip(names, dead, strict=True) if d]
    spectrum, vectors = np.linalg.eigh(information / np.outer(size, size))
    if spectrum[0] > 1e-12 * spectrum[-1]:
        return []
    return [n for n, v in zip(names, np.abs(vectors[:, 0]), strict=True) if v > 0.1]
