"""`qatplan plot`: one figure from runs, a fit, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import note, show

_SOURCES = "A fit (JSON), or runs: folders (also s3:// and gs:// URLs), Parquet or CSV files."
_KINDS = "loss-curves, fraction, contours, frontier, residuals, parameters or split."
_LAYOUT = "loss-curves: a panel per size and bit width, or per bit width alone."
_RELATIVE = "loss-curves: loss above the full-precision run of the same size and tokens."
_TRAINING = "loss-curves: loss along training, for one size and budget."


def plot(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=_KINDS)],
    sources: Annotated[list[Any], typer.Argument(parser=opt.location_parser, metavar="(FIT | RUNS...)", help=_SOURCES)],
    out: Annotated[Path, opt.ask("Figure to write: .svg, .pdf or .png.", "FILE")],
    runs: Annotated[list[Any] | None, opt.location("Runs to show with a fit; default: those it names.", "RUNS")] = None,
    rows: opt.Rows = None,
    params: opt.Params = None,
    tokens: opt.Tokens = None,
    bits: opt.BitWidths = None,
    layout: Annotated[Literal["grid", "bits"], opt.ask(_LAYOUT)] = "grid",
    relative: Annotated[bool, opt.flag("--relative", _RELATIVE)] = False,
    training: Annotated[bool, opt.flag("--training", _TRAINING)] = False,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Draw one figure: vector (SVG, PDF) or PNG, readable in grey.

    Example: qatplan plot loss-curves data/sweep --out loss-curves.svg
    """
    from qatplan.api import draw_files
    from qatplan.wording.sections import bullets, section

    written, made = draw_files(
        kind, sources, runs or [], out=out, rows=rows, params=params, tokens=tokens, bits=bits, layout=layout,
        relative=relative, training=training, force=force,
    )  # fmt: skip
    note(*made.remarks)
    shown = {"kind": kind, "out": str(written), "title": made.title, "notes": made.notes, "series": made.series}
    show(shown, lambda: [section(f"wrote {written}", made.title, bullets(*made.notes))], as_json)
