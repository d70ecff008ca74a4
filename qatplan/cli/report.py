"""`qatplan report`: a fit as one self-contained web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qatplan.cli import options as opt
from qatplan.cli.output import emit, note


def report(
    fit: opt.FitPath,
    out: Annotated[Path, opt.ask("Page to write.", "FILE.html")],
    runs: Annotated[list[Any] | None, opt.location("Runs to show; default: those the fit names.", "PATH")] = None,
    params: opt.Params = None,
    tokens: opt.Tokens = None,
    flops: opt.Flops = None,
    memory: opt.Memory = None,
    bits: opt.BitWidths = None,
    context: Annotated[int | None, opt.ask("Tokens of context at inference.")] = None,
    vocabulary: Annotated[float | None, opt.count("Embedding entries of the model.")] = None,
    sequence: Annotated[int | None, opt.ask("Tokens per training sequence.")] = None,
    split: Annotated[Path | None, opt.ask("A fit of fraction-surface, for the plan's split.", "FIT")] = None,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Write one self-contained HTML page about a fit.

    It holds runs, law, curves, plan, limits and provenance. Without budgets the plan is for the setting that was
    measured most closely. A page that is not to be relied upon says so first, and the command then ends with 4. Only a
    report of ours is replaced without --force.

    Example: qatplan report fit.json --runs sweep/ --out report.html
    """
    from qatplan import api
    from qatplan.errors import NotTrustworthy

    made = api.report(
        fit, runs or None, out=out, params=params, tokens=tokens, flops=flops, memory=memory, bits=bits,
        context=context, vocabulary=vocabulary, sequence=sequence, split=split, force=force,
    )  # fmt: skip
    note(*made.remarks)
    size = len(made.html.encode())
    figures = ", ".join(made.figures) or "no figure"
    text = f"wrote {out} ({size / 1e6:.2f} MB)\n{made.title}\nfigures: {figures}"
    emit({"out": str(out), "bytes": size, **made.as_dict()}, text, as_json)
    if made.doubts:
        raise NotTrustworthy(f"{'; '.join(made.doubts)}.", evidence=made)
