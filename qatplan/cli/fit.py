"""`qatplan fit`: fit a scaling law to runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import (
    Force,
    Json,
    Rows,
    RunPaths,
    Seed,
)
from qatplan.cli.output import emit, note
from qatplan.errors import UsageError

if TYPE_CHECKING:
    from qatplan.laws.fitted import FittedLaw

_DRAWS = 1000


def _fixed(text: str) -> tuple[str, float]:
    name, sign, value = text.partition("=")
    try:
        return name.strip(), float(value) if sign else float("nan")
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is not NAME=VALUE such as lam=0") from error


def fit(
    paths: RunPaths,
    out: Annotated[Path, typer.Option("--out", metavar="FIT.json", help="Where the fitted law is written.")],
    law: Annotated[
        str, typer.Option("--law", metavar="NAME", help="Law to fit; `qatplan laws` lists them.")
    ] = "qat-loss",
    rows: Rows = None,
    bootstrap: Annotated[int, typer.Option("--bootstrap", min=0, help="Bootstrap draws; 0 for none.")] = _DRAWS,
    interval: Annotated[
        str, typer.Option("--interval", metavar="bootstrap|profile", help="Where parameter intervals come from.")
    ] = "bootstrap",
    level: Annotated[float, typer.Option("--level", help="Confidence level of intervals.")] = 0.95,
    holdout: Annotated[
        str | None,
        typer.Option(
            "--holdout",
            metavar="largest-n|largest-d|top-compute:0.2",
            help="Also fit without these rows and predict them.",
        ),
    ] = None,
    leave_one_size_out: Annotated[
        bool, typer.Option("--leave-one-size-out", help="Also predict each model size from the others.")
    ] = False,
    n: Annotated[str, typer.Option("--n", metavar="total|nonembedding", help="Which parameters N counts.")] = "total",
    huber: Annotated[float, typer.Option("--huber", help="Delta of the Huber terms on log residuals.")] = 1e-3,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            "--fix",
            metavar="NAME=VALUE",
            help="Hold a parameter; an amplitude at 0 removes its term. With qat-fraction, of the loss law beside it.",
        ),
    ] = None,
    restrict: Annotated[bool, typer.Option("--restrict", help="Leave out terms that no row supports.")] = False,
    keep_tuning: Annotated[
        bool, typer.Option("--keep-tuning", help="Keep runs that another learning rate beat at the same point.")
    ] = False,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit a scaling law to runs, with intervals and a certificate.

    The fit is written and printed even where its certificate fails; the command then ends with 4.

    Example: qatplan fit sweep/ --law qat-loss --holdout largest-n --out fit.json
    """
    _check_target(out, force)
    held = dict(_fixed(text) for text in fix or [])
    for name, value in held.items():
        if value != value:
            raise UsageError(f"--fix {name} lacks a value; write for instance --fix {name}=0")
    from qatplan import runs as door
    from qatplan.fitting.api import fit as fit_law
    from qatplan.fitting.options import FitOptions

    fitted = fit_law(
        door.read(paths),
        FitOptions(
            law=law,
            huber=huber,
            seed=seed,
            bootstrap=bootstrap,
            interval=interval,
            level=level,
            holdout=holdout,
            leave_one_size_out=leave_one_size_out,
            n=n,
            rows=rows,
            keep_tuning=keep_tuning,
            fix=held,
            restrict=restrict,
            workers=min(2, os.cpu_count() or 1),
        ),
        sources=[str(p) for p in paths],
        command=shlex.join(["qatplan", *sys.argv[1:]]) if sys.argv[1:2] == ["fit"] else None,
    )
    fitted.write(out)
    emit(fitted.to_json(), describe(fitted), as_json)
    note(f"written to {out}")
    fitted.require_trust()


def _check_target(out: Path, force: bool) -> None:
    """Refuse before the work: a fit is only overwritten with --force, any other file never."""
    if not out.exists():
        return
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out needs a file name")
    from qatplan.errors import DataError
    from qatplan.laws.fitted import FittedLaw

    try:
        FittedLaw.read(out)
    except DataError as error:
        raise UsageError(f"{out} exists and is no fit of ours; it is not overwritten") from error
    if not force:
        raise UsageError(f"{out} exists; --force overwrites a fit")


def describe(fitted: FittedLaw) -> str:
    """The fit as text for people."""
    from qatplan.cli.digits import percent, value_with_interval
    from qatplan.cli.output import table

    law = fitted.law
    left = sum(e["rows"] for e in fitted.left_out)
    header = f"{law.title} ({law.name}), fitted on {fitted.rows} runs" + (f", {left} left out" if left else "")
    lines = [header, f"  {law.formula}", ""]
    body = []
    for p in law.parameters():
        value, interval = value_with_interval(fitted.params[p.name], fitted.intervals.get(p.name))
        if fitted.intervals and p.name not in fitted.intervals:
            interval = "held"
        body.append([p.name, value, interval, p.meaning])
    how = f"{100 * fitted.level:g} % interval ({fitted.interval_kind})" if fitted.intervals else "interval"
    lines += [table(["parameter", "value", how, "meaning"], body), ""]
    lines.append(f"Certificate: {fitted.status.message}.")
    counted = "all" if fitted.n_convention == "total" else "non-embedding"
    lines.append(
        f"  {fitted.starts_agreeing} of {fitted.starts} starts agree; objective {fitted.objective:.10g} "
        f"(Huber delta {fitted.huber:g}); N counts {counted} parameters"
    )
    if "condition_number" in fitted.certificate:
        proof = fitted.certificate
        lines.append(
            f"  scaled gradient {proof['scaled_gradient']:.2g}; condition number {proof['condition_number']:.2g}; "
            f"at bounds: {', '.join(proof['parameters_at_bounds']) or 'none'}"
        )
    noise = f"Scatter of log {law.quantity} about the law: {fitted.noise:.2g}"
    if fitted.seed_noise is not None:
        noise += f"; between seeds: {fitted.seed_noise:.2g}"
    lines.append(noise + ".")
    if fitted.holdout is not None and fitted.holdout["mape"] is not None:
        h = fitted.holdout
        lines.append(
            f"Held out {h['kind']}: {h['rows']} runs predicted from {h['fitted_rows']}, "
            f"mean error {percent(h['mape'])}, worst {percent(h['max_ape'])} ({h['worst_run']})."
        )
    lines += _criticism(fitted.criticism)
    lines += _section("What the rows do not determine", fitted.identifiability)
    lines += _section("Flags", fitted.flags)
    lines += _section(
        "Left out", [f"{e['rows']} rows: {e['reason']} (e.g. {e['examples'][0]})" for e in fitted.left_out]
    )
    return "\n".join(lines)


def _criticism(criticism: dict[str, Any]) -> list[str]:
    from qatplan.cli.digits import percent
    from qatplan.cli.output import table

    lines: list[str] = []
    if "leave_one_size_out" in criticism:
        scores = [s for s in criticism["leave_one_size_out"] if s["mape"] is not None]
        body = [[f"{s['n']:.4g}", s["rows"], percent(s["mape"]), percent(s["max_ape"])] for s in scores]
        lines += ["", "Each size predicted from the others:", table(["N", "runs", "mean error", "worst"], body)]
    for kind, title in (("bits", "bits"), ("n", "N"), ("fraction", "QAT fraction")):
        if kind in criticism.get("residuals", {}):
            body = [
                [_value(r["value"]), r["rows"], f"{r['mean']:+.2g}",
                 f"{r['sd']:.2g}" if r["sd"] is not None else None, f"{r['largest']:.2g}"]
                for r in criticism["residuals"][kind]
            ]  # fmt: skip
            head = [title, "runs", "mean", "sd", "largest"]
            lines += ["", f"Log residuals by {title}:", table(head, body)]
    if "curves" in criticism:
        c = criticism
        lines += [
            f"{c['measured_optima']} curves with a minimum inside, {c['without_inner_minimum']} without; "
            f"mean absolute error on the fraction {c['mae']:.3f}, "
            f"of the published a = {c['published_a']}: {c['mae_published_law']:.3f} "
            f"(published on its own runs: {c['published_mae'][0]:.2f} to {c['published_mae'][1]:.2f})."
        ]
        if c.get("loss_law"):
            from_law = c["loss_law"]
            a = "none can be fitted to them" if from_law["a"] != from_law["a"] else f"a = {from_law['a']:.3g}"
            ended = "" if from_law["status"] == "good" else f" ({from_law['status']}: not to be relied upon)"
            lines.append(f"Optima of the loss law fitted to the same rows{ended}: {a}, error {from_law['mae']:.3f}.")
        body = [
            [f"{k['n']:.4g}", f"{k['d_total']:.4g}", f"{k['bits']:g}", f"{k['s_total']:.4g}",
             f"{k['optimum']:.3f}" if k["optimum"] is not None else None,
             f"{k['refitted_law']:.3f}" if k["refitted_law"] is not None else None,
             f"{k['published_law']:.3f}" if k["published_law"] is not None else None, k["note"] or ""]
            for k in c["curves"]
        ]  # fmt: skip
        lines.append(table(["N", "D", "bits", "S_total", "measured", "refitted", "published", "note"], body))
    return lines


def _value(value: str | float | list[float]) -> str:
    """A value, a range of values, or the word for none."""
    if isinstance(value, list):
        return f"{value[0]:.3g} to {value[1]:.3g}"
    return value if isinstance(value, str) else f"{value:.4g}"


def _section(title: str, sentences: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  - {s}" for s in sentences)] if sentences else []
