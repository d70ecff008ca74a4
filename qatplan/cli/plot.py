"""`qatplan plot`: one figure from runs, a fit, or both."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from qatplan.cli.options import BitWidths, Json, Params, Rows, Tokens, location_parser
from qatplan.cli.output import emit, note


class Layout(StrEnum):
    """How loss curves share panels."""

    grid = "grid"
    bits = "bits"


KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help="loss-curves, fraction, contours, frontier, residuals or parameters.")
]
Sources = Annotated[
    list[Any],
    typer.Argument(
        parser=location_parser,
        metavar="(FIT | RUNS...)",
        help="A fit (JSON), or runs: folders (also s3:// and gs:// URLs), Parquet or CSV files.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Figure to write: .svg, .pdf or .png; replaced if it exists.")
]
MoreRuns = Annotated[
    list[Any] | None,
    typer.Option(
        "--runs",
        parser=location_parser,
        metavar="RUNS",
        help="Runs to show with a fit; default: the files the fit was made from.",
    ),
]
LayoutOption = Annotated[
    Layout, typer.Option("--layout", help="loss-curves: a panel per size and bit width, or per bit width alone.")
]
Relative = Annotated[
    bool, typer.Option("--relative", help="loss-curves: loss above the full-precision run of the same size and tokens.")
]
Training = Annotated[
    bool, typer.Option("--training", help="loss-curves: loss along training, for one size and budget.")
]


def plot(
    kind: KindArgument,
    sources: Sources,
    out: Out,
    runs: MoreRuns = None,
    rows: Rows = None,
    params: Params = None,
    tokens: Tokens = None,
    bits: BitWidths = None,
    layout: LayoutOption = Layout.grid,
    relative: Relative = False,
    training: Training = False,
    as_json: Json = False,
) -> None:
    """Draw one figure: vector (SVG, PDF) or PNG, readable in grey.

    Example: qatplan plot loss-curves data/sweep --out loss-curves.svg
    """
    from qatplan.api import draw_files

    written, made = draw_files(
        kind, sources, runs or [], out=out, rows=rows, params=params, tokens=tokens, bits=bits, layout=layout.value,
        relative=relative, training=training,
    )  # fmt: skip
    for remark in made.remarks:
        note(remark)
    shown = {"kind": kind, "out": str(written), "title": made.title, "notes": made.notes, "series": made.series}
    emit(shown, "\n".join([f"wrote {written}", made.title, *made.notes]), as_json)
