"""`qatplan demo`: the whole loop on real text, as the commands a person would type."""

from __future__ import annotations

import contextlib
import importlib.resources
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import emit, note
from qatplan.errors import SweepIncomplete, UsageError
from qatplan.units import format_duration

FIGURES = ("loss-curves", "fraction", "split", "contours", "residuals")
_OF_FRACTIONS = ("fraction", "split")
_QUESTION = "--params 30K --tokens 900K --bits 2,3,4"
AT_THIS_SIZE = "--vocabulary 256 --context 128 --sequence 128"
"""The demo's models read bytes, 128 at a time."""


@dataclass(frozen=True)
class Step:
    """One command of the demo, what it is for, and how it ended."""

    purpose: str
    command: str
    code: int
    seconds: float


def demo(
    out: Annotated[Path, opt.ask("Folder for everything.", "DIR")] = Path("qatplan-demo"),
    device: opt.TrainOn = "auto",
    workers: opt.Workers = None,
    short: Annotated[bool, opt.flag("--short", "A minute instead of several; too small to learn from.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Run the whole loop: sweep, fit, recommend, plot, report.

    On real text, in minutes on two CPU cores. Nothing is canned: every loss is measured here. Repeat the command to
    continue after an interruption.

    Example: qatplan demo --out qatplan-demo
    """
    from qatplan.storage.atomic import is_temporary
    from qatplan.sweeping.run import require_training

    require_training()
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; a folder is needed.")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "sweep.toml").exists() and any(not is_temporary(path.name) for path in out.iterdir()):
        raise UsageError(f"--out {out} is not empty and holds no demo; name a new or empty folder.")
    q = lambda path: shlex.quote(str(path))  # noqa: E731
    specification, sweep, fit, fraction = out / "sweep.toml", out / "sweep", out / "fit.json", out / "fraction.json"
    page = out / "report.html"
    source = importlib.resources.files("qatplan.cli") / ("demo_short.toml" if short else "demo.toml")
    _place(specification, source.read_text(encoding="utf-8"))
    count = "" if workers is None else f" --workers {workers}"
    figures = [(kind, fraction if kind in _OF_FRACTIONS else fit) for kind in FIGURES]
    plan = [
        ("Train the runs", f"sweep {q(specification)} --out {q(sweep)} --device {device}{count}"),
        ("Look at the table", f"runs {q(sweep)}"),
        ("Fit a law of the loss", f"fit {q(sweep)} --law effective-tokens --bootstrap 100 --out {q(fit)} --force"),
        (
            "Fit the best QAT fractions",
            f"fit {q(sweep)} --law fraction-surface --bootstrap 200 --out {q(fraction)} --force",
        ),
        ("Recommend a plan", f"recommend {q(fit)} --split {q(fraction)} {_QUESTION} {AT_THIS_SIZE}"),
        *(
            ("Draw", f"plot {kind} {q(law)} --runs {q(sweep)} --out {q(out / kind)}.svg --force")
            for kind, law in figures
        ),
        (
            "Write it up",
            f"report {q(fit)} --split {q(fraction)} --runs {q(sweep)} --out {q(page)} {_QUESTION} {AT_THIS_SIZE}",
        ),
    ]
    steps: list[Step] = []
    for purpose, arguments in plan:
        step = _run(purpose, arguments, quiet=as_json)
        steps.append(step)
        if purpose == "Train the runs" and step.code != 0:
            raise SweepIncomplete("the demo's sweep did not finish; repeat the command to continue.", evidence=steps)
    files = {"specification": [specification], "runs": [sweep / "runs"], "fit": [fit, fraction]}
    files |= {"figure": [out / f"{kind}.svg" for kind in FIGURES], "report": [page]}
    written = {kind: [path for path in paths if path.exists()] for kind, paths in files.items()}
    took = format_duration(sum(step.seconds for step in steps))
    lines = [f"  {kind:<14} {path}" for kind, paths in written.items() for path in paths]
    text = "\n".join(["", f"Done in {took}. Everything lies in:", *lines])
    emit({"folder": out, "written": written, "steps": steps}, text, as_json)
    broken = [step for step in steps if step.code not in (0, 4)]
    if broken:
        raise typer.Exit(broken[0].code)


def _place(path: Path, text: str) -> None:
    """Write the specification, but never over one that says something else."""
    from qatplan.storage import atomic, incoming

    if not path.exists():
        atomic.write_bytes(path, text.encode())
    elif incoming.read_bytes(path) != text.encode():
        raise UsageError(f"{path} exists with other content; name another folder with --out.")


def _run(purpose: str, arguments: str, *, quiet: bool) -> Step:
    from qatplan.cli.app import main

    command = f"qatplan {arguments}"
    note(f"\n{purpose}:\n$ {command}")
    started = time.monotonic()
    # With --json the demo's own object is alone on stdout; what the commands print goes with the diagnostics.
    with contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext():
        code = main(shlex.split(arguments))
    if code == 4:
        note("(The command ended with 4: a result this small is flagged as not to be relied upon.)")
    return Step(purpose, command, code, time.monotonic() - started)
