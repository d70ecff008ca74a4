"""The API: one function a task, for notebooks and for the command line.

Runs are given as a table, a path, several paths or a `Runs`; a fit as a `Fit` or the path of its file; counts and bytes
as numbers or as text with units ("1.5B", "4GiB"). Errors are `qatplan.errors.QatplanError`s and carry their evidence.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias, overload

from qatplan.errors import UsageError, kind
from qatplan.results import Comparison, Design, Fit, Imported, Law, Memory, Plan, Prediction, Runs, SplitComparison
from qatplan.shown import without_secrets
from qatplan.units import parse_bytes, parse_count, parse_loss

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure
    from rich.console import Console

    from qatplan.figures.make import Made
    from qatplan.laws.fitted import FittedLaw
    from qatplan.laws.law import Law as AnyLaw
    from qatplan.reporting.build import Report
    from qatplan.storage.base import Location
    from qatplan.sweeping.engines.engine import Engine
    from qatplan.sweeping.estimate import Estimate
    from qatplan.sweeping.export import Export
    from qatplan.sweeping.run import Outcome

    RunsLike: TypeAlias = Runs | pa.Table | pd.DataFrame | Location | Iterable[Location]
    FitLike: TypeAlias = Fit | str | os.PathLike[str]

Count = float | int | str
"""A number, or text such as 1.5B."""
_BYTES = 2.0
"""Text has more bytes than this in a token of any trained tokenizer; below, a token is about a byte."""
LawLike: TypeAlias = str | os.PathLike[str] | Law
"""The name of a law, the TOML file of one's own, or what `law` returns."""
Effects = Literal["none", "trunk", "curve", "auto"]
"""Random effects that runs share."""


def read(source: RunsLike, *more: Location, rows: str | None = None) -> Runs:
    """Runs from files, folders, an s3:// or gs:// address, or a pandas or Arrow table with our column names.

    `rows` is an expression that chooses some. Raises DataError naming file, row and field for what cannot be used.

    >>> import qatplan as qp
    >>> len(qp.read("data/main/runs.parquet", rows="bits == 4 and seed == 0"))
    199
    """
    found = _runs(source, *more)
    return found if rows is None else found.select(rows)


def import_runs(
    source: str | os.PathLike[str], mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None, *, diverged: bool = False, keep_suspect: bool = False,
    limit: int | str | None = None, propose: bool = False,
) -> Imported:  # fmt: skip
    """Anybody's table of runs (CSV, JSON, JSON Lines, Parquet, Excel, a folder of them, or a tracker) in our columns.

    `mapping` gives a column or formula for a field, `constants` a value. Every row is used or listed with the reason.
    `limit` is the memory that the rows may take, by default 4 GiB. With `propose` the columns are matched to fields by
    name, range and arithmetic instead; what that leaves open raises UsageError, whose evidence is the proposal.
    """
    from qatplan.importing.content import DEFAULT_LIMIT
    from qatplan.importing.importer import import_proposed
    from qatplan.importing.importer import import_runs as convert

    asked: Any = {"diverged": diverged, "keep_suspect": keep_suspect}
    asked["limit"] = DEFAULT_LIMIT if limit is None else parse_bytes(limit)
    if propose:
        return Imported(import_proposed(str(source), **asked))
    return Imported(convert(str(source), mapping or {}, constants or {}, **asked))


def load(path: str | os.PathLike[str]) -> Fit:
    """A fit from its JSON file; DataError for a file that is none.

    >>> import qatplan as qp
    >>> qp.load("fits/qat-fraction.json").params["a"].__round__(2)
    7.56
    """
    from qatplan.laws.fitted import FittedLaw

    place = _path("fit", path)
    return Fit(FittedLaw.read(place), place)


def law(
    source: str | os.PathLike[str] | None = None, *, formula: str | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None, name: str = "own", title: str | None = None,
    reference: str | None = None,
) -> Law:  # fmt: skip
    """A law: by its name, from the TOML file of one's own, or from a formula and its parameters.

    Each parameter has `domain` (two numbers), `unit` and `meaning`, and may have `start` and `scale`, as in the file;
    `reference` says where the formula is from. Raises UsageError naming the field that is wrong.

    >>> import qatplan as qp
    >>> level = {"domain": (0, float("inf")), "unit": "nats/token", "meaning": "loss that nothing removes"}
    >>> rate = {"domain": (0, 3), "start": (0.1, 1), "unit": "1", "meaning": "exponent of tokens"}
    >>> qp.law(formula="E + C/D^beta", parameters={"E": level, "C": level, "beta": rate}).kind.formula
    'L = E + C/D^beta'
    """
    from qatplan.laws.registry import NAMES, get

    if (source is None) == (formula is None):
        raise UsageError("give either a name or a file, or formula with parameters")
    if source is not None:
        return Law(get(_place("law", source)))
    from qatplan.laws.own.file import made

    given = {"formula": formula, "parameters": parameters or {}, "title": title, "source": reference}
    return Law(made({key: value for key, value in given.items() if value is not None}, name=name, taken=NAMES))


def fit(
    runs: RunsLike, *, law: LawLike = "qat-loss", rows: str | None = None, bootstrap: int = 1000,
    interval: str = "bootstrap", level: float = 0.95, holdout: str | None = None, leave_one_size_out: bool = False,
    n: str = "total", huber: float = 1e-3, fix: Mapping[str, float] | None = None, restrict: bool = False,
    keep_tuning: bool = False, effects: Effects = "none", seed: int = 0, starts: int | None = None,
    resample: Literal["case", "residual"] | None = None, workers: int | None = None, command: str | None = None,
) -> Fit:  # fmt: skip
    """Fit a scaling law, or one's own (`law`); the options are described in `qatplan.fitting.options.FitOptions`.

    The fit is returned whatever its certificate says: look at `trustworthy`. `command` is recorded in it.
    """
    from qatplan.fitting.api import fit as fit_law
    from qatplan.fitting.options import FitOptions

    options = FitOptions(
        law=_law(law), rows=rows, bootstrap=bootstrap, interval=interval, level=level, holdout=holdout,
        leave_one_size_out=leave_one_size_out, n=n, huber=huber, fix=_numbers(**(fix or {})), restrict=restrict,
        keep_tuning=keep_tuning, effects=effects, seed=seed, starts=starts, resample=resample,
        workers=min(2, os.cpu_count() or 1) if workers is None else workers,
    )  # fmt: skip
    found = _runs(runs)
    return Fit(fit_law(found.table, options, sources=found.sources, command=command))


@overload
def compare(
    runs: RunsLike, *, laws: Sequence[LawLike] | None = ..., score: Literal["loss"] = ..., holdout: str | None = ...,
    folds: int | None = ..., bootstrap: int = ..., rows: str | None = ..., n: str = ..., huber: float = ...,
    keep_tuning: bool = ..., effects: Effects = ..., seed: int = ...,
) -> Comparison: ...  # fmt: skip
@overload
def compare(
    runs: RunsLike, *, laws: Sequence[LawLike] | None = ..., score: Literal["split"], holdout: str | None = ...,
    folds: int | None = ..., bootstrap: int = ..., rows: str | None = ..., n: str = ..., huber: float = ...,
    keep_tuning: bool = ..., effects: Effects = ..., seed: int = ...,
) -> SplitComparison: ...  # fmt: skip
def compare(
    runs: RunsLike, *, laws: Sequence[LawLike] | None = None, score: str = "loss", holdout: str | None = None,
    folds: int | None = None, bootstrap: int = 0, rows: str | None = None, n: str = "total", huber: float = 1e-3,
    keep_tuning: bool = False, effects: Effects = "none", seed: int = 0,
) -> Comparison | SplitComparison:  # fmt: skip
    """Rank laws by how well they predict runs that they were not fitted to.

    `score="loss"`: by the error of the loss on held-out rows (`holdout`, by default top-compute:0.2), all on the same
    rows. `score="split"`: laws that have an opinion on the QAT fraction, and the usual rules, by what their fraction
    costs on measured curves, held out by cell (`folds`, by default 6) and by rolling origin; `bootstrap` draws a fit
    give the coverage of their intervals.
    """
    shared: dict[str, Any] = {
        "huber": huber, "seed": seed, "n": n, "rows": rows, "keep_tuning": keep_tuning, "effects": effects,
    }  # fmt: skip
    if score not in ("loss", "split"):
        raise UsageError(f"score is {score!r}; allowed are loss and split")
    table = _runs(runs).table
    if laws is not None:
        named: Sequence[LawLike] = laws.split(",") if isinstance(laws, str) else laws
        shared["laws"] = [_law(each) for each in named]
    if score == "split":
        if holdout is not None:
            raise UsageError("holdout has no meaning for score split, which holds out cells, budgets and sizes in turn")
        from qatplan.fitting.split.score import compare_splits

        if folds is not None:
            shared["folds"] = folds
        return SplitComparison(compare_splits(table, bootstrap=bootstrap, **shared))
    for name, given in (("folds", folds is not None), ("bootstrap", bootstrap != 0)):
        if given:
            raise UsageError(f"{name} has no meaning for score loss; leave it out, or ask for score split")
    from qatplan.fitting.compare import compare as compare_laws

    if holdout is not None:
        shared["holdout"] = holdout
    return Comparison(compare_laws(table, **shared))


def memory(
    model: str | None = None, *, format: str = "int4", context: int = 8192, batch: int = 1, kv_format: str = "f16",
    params: Count | None = None, layers: int | None = None, width: int | None = None, heads: int | None = None,
    kv_heads: int | None = None, head_size: int | None = None, feed_forward: int | None = None,
    vocabulary: int | None = None, tied: bool = True, experts: int = 1, experts_active: int = 1,
) -> Memory:  # fmt: skip
    """Bytes of a model in a quantized format: a known name, a config.json, or its shape in numbers.

    >>> import qatplan as qp
    >>> qp.memory("qwen3-8b", format="Q4_K_M", context=8192).total_bytes // 10**6
    6555
    """
    from qatplan.models.lookup import named
    from qatplan.models.memory import estimate

    subject = named(
        model, params=_count("params", params), layers=layers, width=width, heads=heads, kv_heads=kv_heads,
        head_size=head_size, feed_forward=feed_forward, vocabulary=vocabulary, tied=tied, experts=experts,
        experts_active=experts_active,
    )  # fmt: skip
    return Memory(estimate(subject, form=format, context=context, batch=batch, kv_format=kv_format))


def predict(
    fit: FitLike, *, params: Count, tokens: Count, bits: float | None = None, fraction: float | None = None,
    level: float = 0.95, extrapolation_limit: float = 10.0,
) -> Prediction:  # fmt: skip
    """The loss of one run under a fitted law; without `bits` in full precision, without `fraction` at the law's best.

    >>> import qatplan as qp
    >>> round(qp.predict("fits/qat-loss.json", params="100K", tokens="4M", bits=4, fraction=0.1).predicted.loss, 2)
    1.31
    """
    from qatplan.planning.prediction import predict as ask

    if params is None or tokens is None:
        raise UsageError(
            f"{'params' if params is None else 'tokens'} is missing; a prediction is for one size and budget."
        )
    return Prediction(
        ask(
            _fit(fit).fitted, **_counts(params=params, tokens=tokens),
            **_numbers(bits=bits, fraction=fraction, level=level, limit=extrapolation_limit),
        )
    )  # fmt: skip


def recommend(
    fit: FitLike | None = None, *, law: str | None = None, memory: Count | None = None, params: Count | None = None,
    model: str | None = None, tokens: Count | None = None, flops: Count | None = None, gpu_hours: Count | None = None,
    bits: float | Sequence[float] | None = None, fraction: float | None = None, target_loss: float | str | None = None,
    fp_tokens: Count | None = None, context: int = 8192, batch: int = 1, kv_format: str = "f16",
    group_size: int | None = None, embedding_bits: float | None = None, vocabulary: Count | None = None,
    sequence: int = 4096, device: str = "h100", dtype: str = "bf16", mfu: float = 0.4,
    qat_slowdown: float | None = None, split: FitLike | None = None, tolerance: float | None = None,
    runs: RunsLike | None = None, price_per_hour: float | None = None,
    level: float = 0.95, extrapolation_limit: float = 10.0,
) -> Plan:  # fmt: skip
    """Bits, parameters, tokens and the QAT fraction for budgets; each budget is an upper bound, the rest is chosen.

    Without a fit, `law="qat-fraction"` answers for the fraction alone with the published law, also after `fp_tokens` of
    a given model. Bits of 16 are full precision. `runs` measure what QAT costs, whether fusing helps, and both ends of
    the split. `split`, a fit of fraction-surface, holds measured curves: the split is held against them, and taken from
    that law where it was better on them. Fractions that cost less than `tolerance` nats per token (by default what one
    run scatters) are told as good as the best. The plan is returned even where it must not be relied upon: look at
    `trustworthy`. `target_loss` is nats per token, or text with its unit: "2.1 nats/token", "0.9 bits/byte".

    >>> import qatplan as qp
    >>> plan = qp.recommend(law="qat-fraction", params="1.5B", tokens="300B", bits=(2, 4))
    >>> [round(option["fraction"], 3) for option in (plan.as_dict()["choice"], *plan.as_dict()["alternatives"])]
    [0.365, 0.325]
    """
    from qatplan.models.costs import Training
    from qatplan.models.layout import of_architecture
    from qatplan.models.lookup import architecture
    from qatplan.planning.plan import COLUMNS, plan
    from qatplan.planning.problem import Problem
    from qatplan.planning.request import Budgets, Serving

    fitted = None if fit is None else _fit(fit).fitted
    target = _target(target_loss, None if fitted is None else fitted.bytes_per_token)
    problem = Problem(
        budgets=Budgets(
            **_counts(params=params, tokens=tokens, flops=flops, gpu_hours=gpu_hours, memory=memory),
            **_counts(fp_tokens=fp_tokens), **_numbers(fraction=fraction), target_loss=target,
        ),
        bits=_widths(bits),
        layout=None if model is None else of_architecture(architecture(model)),
        vocabulary=_count("vocabulary", vocabulary),
        serving=Serving(
            context=_whole("context", context), batch=_whole("batch", batch), kv_format=str(kv_format),
            group_size=group_size, embedding_bits=_number("embedding_bits", embedding_bits),
        ),
        training=Training(
            sequence=_whole("sequence", sequence), device=device, dtype=dtype,
            **_numbers(mfu=mfu, qat_slowdown=qat_slowdown, price_per_hour=price_per_hour),
        ),
        **_numbers(level=level, tolerance=tolerance, extrapolation_limit=extrapolation_limit),
    )  # fmt: skip
    evidence = [] if runs is None else _runs(runs).table.select(list(COLUMNS)).to_pylist()
    return Plan(plan(fitted, problem, law=law, split=None if split is None else _fit(split).fitted, runs=evidence))


def design(
    fit: FitLike, *, budget: Count | None = None, gpu_hours: Count | None = None, runs: int = 12,
    target: Literal["fraction", "bits"] = "fraction", params: Count | None = None, tokens: Count | None = None,
    bits: float | Sequence[float] | None = None, trunks: Mapping[Count, Count] | None = None, device: str = "h100",
    mfu: float = 0.4, level: float = 0.95, extrapolation_limit: float = 10.0,
) -> Design:  # fmt: skip
    """Which runs to make next within a budget of FLOPs or device hours, and how much surer they make the plan.

    `trunks` are full-precision trunks that were kept: {parameters: tokens}.
    """
    from qatplan.models.costs import Training
    from qatplan.planning.next_runs.design import design as choose

    return Design(
        choose(
            _fit(fit).fitted, **_counts(budget=budget, gpu_hours=gpu_hours, params=params, tokens=tokens),
            training=Training(device=device, mfu=mfu), runs=runs, target=target, bits=_widths(bits),
            trunks={_count("trunks", size): _count("trunks", seen) for size, seen in (trunks or {}).items()},
            level=level, extrapolation_limit=extrapolation_limit,
        )
    )  # fmt: skip


def plot(
    kind: str, subject: FitLike | RunsLike, runs: RunsLike | None = None, *, rows: str | None = None,
    params: Count | None = None, tokens: Count | None = None, bits: float | Sequence[float] | None = None,
    layout: Literal["grid", "bits"] = "grid", relative: bool = False, training: bool = False,
) -> Figure:  # fmt: skip
    """One figure as matplotlib's own, to be restyled or saved; `qatplan.figures.make.KINDS` lists the kinds.

    `subject` is a fit (or the path of its JSON file) or runs. Beside a fit, `runs` are shown, by default those that it
    names, if they are still there. `params` (N) and `tokens` (D_total) choose a size and a budget, `bits` the widths;
    `layout`, `relative` and `training` are for loss-curves. Raises UsageError for an unknown kind or what it lacks.

    >>> import qatplan as qp
    >>> figure = qp.plot("parameters", "fits/qat-loss.json")
    >>> figure.axes[0].get_xlabel()
    'Value relative to the estimate'
    """
    request: dict[str, Any] = {
        **_counts(params=params, tokens=tokens), "bits": _widths(bits), "layout": layout, "relative": relative,
        "training": training,
    }  # fmt: skip
    if isinstance(subject, Fit) or (isinstance(subject, (str, os.PathLike)) and _is_json(subject)):
        return _fit(subject).plot(kind, None if runs is None else _runs(runs), rows=rows, **request)
    from qatplan.figures.make import Request, draw

    return draw(kind, table=_runs(subject).table, rows=rows, request=Request(**request)).figure


def draw_files(
    kind: str, sources: Sequence[Location], runs: Sequence[Location] = (), *, out: Path, rows: str | None = None,
    force: bool = False, **request: Any,
) -> tuple[Path, Made]:  # fmt: skip
    """A figure from files, written to `out`: among `sources` a JSON file is the fit; everything else are runs.

    A file that exists is replaced only with `force`.
    """
    from qatplan.figures.make import Request, check_sources, draw
    from qatplan.figures.style import out_path, save
    from qatplan.storage.target import check_target

    target = out_path(out)
    fits = [place for place in sources if _is_json(place)]
    tables = [*(place for place in sources if not _is_json(place)), *runs]
    check_sources(kind, fit=bool(fits), runs=True)
    if len(fits) > 1:
        raise UsageError(f"{kind} shows one fit, and {len(fits)} JSON files were given.")
    if wrong := [place for place in runs if _is_json(place)]:
        raise UsageError(f"--runs {wrong[0]} is a JSON file; runs are folders, Parquet or CSV files.")
    fitted, path = (load(fits[0]).fitted, Path(fits[0])) if fits else (None, None)
    check_target(target, reads=[*sources, *runs, *_recorded(fitted, path)], force=force)
    table = _runs(tables).table if tables else None
    made = draw(kind, fitted=fitted, path=path, table=table, rows=rows, request=Request(**request))
    return save(made.figure, target), made


def export(
    specification: str | os.PathLike[str], *, sweep: Location, run: str, out: str | os.PathLike[str],
    device: str = "auto", force: bool = False,
) -> tuple[Export, int | None]:  # fmt: skip
    """Write a quantized run as packed codes and scales; the bytes that the memory model predicts stand beside it."""
    from qatplan.models.memory import estimate
    from qatplan.storage.target import check_target
    from qatplan.sweeping.run import require_training
    from qatplan.sweeping.specification import read as read_specification

    check_target(out, reads=[specification, sweep], force=force)
    require_training()
    from qatplan.sweeping.export import export as write

    done = write(read_specification(Path(specification)), sweep, run, Path(out), device=device)
    if done.form is None:
        return done, None
    return done, estimate(done.shape.architecture, form=done.form, context=1).weights_bytes


def report(
    fit: FitLike, runs: RunsLike | None = None, *, out: str | os.PathLike[str], params: Count | None = None,
    tokens: Count | None = None, flops: Count | None = None, memory: Count | None = None,
    bits: float | Sequence[float] | None = None, context: int | None = None, vocabulary: Count | None = None,
    sequence: int | None = None, split: FitLike | None = None, force: bool = False,
) -> Report:  # fmt: skip
    """Write one self-contained HTML page about a fit, and return it: look at `doubts` before relying on it.

    Without `runs` those that the fit names are shown; without budgets the plan is for the setting that was measured
    most closely. `split`, a fit of fraction-surface, is what the plan's split is held against, as in `recommend`. Only
    a page of ours is replaced, unless `force`.
    """
    from qatplan.figures.style import out_path
    from qatplan.reporting.build import is_report, page
    from qatplan.reporting.material import gather
    from qatplan.reporting.question import Question
    from qatplan.storage.target import check_target

    target, known = out_path(out, (".html", ".htm")), _fit(fit)
    measured = None if split is None else _fit(split)
    shown = None if runs is None else _runs(runs)
    reads = [known.path, *([] if shown is None else shown.sources), *_recorded(known.fitted, known.path)]
    reads += [] if measured is None else [measured.path]
    check_target(target, reads=reads, force=force or is_report(target))
    question = Question(
        **_counts(params=params, tokens=tokens, flops=flops, memory=memory, vocabulary=vocabulary), bits=_widths(bits),
        context=context, sequence=sequence,
    )  # fmt: skip
    table, names = (None, ()) if shown is None else (shown.table, shown.sources)
    sources = gather(
        known.fitted, path=known.path, table=table, names=names, split=None if measured is None else measured.fitted,
        split_path=None if measured is None else measured.path,
    )  # fmt: skip
    made = page(sources, question)
    made.save(target)
    return made


def sweep(
    specification: str | os.PathLike[str], *, out: Location | None = None, dry_run: bool = False,
    engine: Literal["local", "ray"] = "local", address: str | None = None, gpu_share: float | None = None,
    workers: int | None = None, stacked: int | None = None, device: str = "auto", console: Console | None = None,
    json_lines: TextIO | None = None, tensorboard: Path | None = None,
) -> Outcome | Estimate:  # fmt: skip
    """Train the runs of a specification into the folder `out`; called again it goes on where it was interrupted.

    With `dry_run` nothing is trained, and the answer is what the sweep would take. `stacked` is how many segments a
    worker trains at once. Progress goes to `console` (stderr unless given), events to `json_lines` and `tensorboard`.
    """
    from qatplan.sweeping import run
    from qatplan.sweeping.specification import read as read_specification

    plan = read_specification(Path(specification))
    if dry_run:
        run.require_training()
        from qatplan.sweeping.estimate import estimate

        return estimate(plan, device=device, workers=workers)
    if out is None:
        raise UsageError("--out is missing: name the folder of the sweep, or use --dry-run.")
    from rich.console import Console as RichConsole

    return run.sweep(
        plan, out, device=device, workers=workers, console=console or RichConsole(stderr=True),
        make_engine=_engine(engine, address, gpu_share, stacked), json_lines=json_lines, tensorboard=tensorboard,
    )  # fmt: skip


def _engine(
    name: str, address: str | None, gpu_share: float | None, stacked: int | None
) -> Callable[[int | None], Engine]:
    """What makes the engine of a number of workers."""
    if name == "ray":
        from qatplan.sweeping.engines.ray import RayEngine

        return partial(RayEngine, address=address, gpu_share=gpu_share, stacked=stacked)
    from qatplan.sweeping.engines.local import LocalEngine

    for option, value in (("--address", address), ("--gpu-share", gpu_share)):
        if value is not None:
            raise UsageError(f"{option} belongs to --engine ray.")
    return partial(LocalEngine, stacked=stacked)


def _runs(source: RunsLike, *more: Location) -> Runs:
    """Runs from whatever stands for them."""
    if isinstance(source, Runs):
        return source
    from qatplan import runs

    if isinstance(source, (str, os.PathLike)):
        paths: list[Location] = [source, *more]
    elif _is_table(source):
        return Runs(runs.sound(source))
    elif isinstance(source, Iterable):
        paths = [*source, *more]
    else:
        raise UsageError(
            f"runs are {kind(source)}; allowed are paths, a pandas or Arrow table, and what qp.read returns."
        )
    return Runs(runs.read(paths), tuple(without_secrets(str(path)) for path in paths))


def _recorded(fitted: FittedLaw | None, path: Path | None) -> list[Location]:
    """Where the runs of a fit lie, which are read where none are named."""
    if fitted is None or path is None:
        return []
    from qatplan.fitting.provenance import recorded_runs

    return list(recorded_runs(fitted, path))


def _is_json(place: Location) -> bool:
    return str(place).lower().endswith(".json")


def _is_table(source: object) -> bool:
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "to_arrow") or hasattr(source, "iloc")


def _fit(fit: FitLike) -> Fit:
    return fit if isinstance(fit, Fit) else load(fit)


def _law(law: LawLike) -> type[AnyLaw]:
    """The law that a name, a file or what `law` returns stands for."""
    from qatplan.laws.registry import get

    return law.kind if isinstance(law, Law) else get(_place("law", law))


def _place(name: str, value: Any) -> str:
    """A name or path as text."""
    return str(_path(name, value))


def _path(name: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(f"{name} is {kind(value)}; a path is needed.")
    return Path(value)


def _number(name: str, value: Any) -> Any:
    """A number as it is, text as the number in it, None as None."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {value!r}; a number is needed.") from None


def _target(value: float | str | None, known: float | None) -> Any:
    """A loss to reach, in nats per token, where a token is known to have so many bytes.

    Text without a unit is not taken where a token is about a byte.
    """
    if not isinstance(value, str):
        return _number("target_loss", value)
    loss, unit = parse_loss(value)
    if unit == "bits/byte":
        if known is None:
            raise UsageError("target_loss in bits/byte needs a fit whose runs say bits_per_byte; give nats/token.")
        return loss * math.log(2.0) * known
    if unit is None and known is not None and known < _BYTES:
        raise UsageError(
            f"target_loss {value} needs its unit: this fit's losses are nats per token, and a token is about a byte; "
            f"write '{value} nats/token' or '{value} bits/byte'."
        )
    return loss


def _count(name: str, value: Count | None, parse: Callable[[Count], float] = parse_count) -> Any:
    """A quantity as a float, None as None; an error names the argument."""
    try:
        return None if value is None else float(parse(value))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _counts(**given: Count | None) -> dict[str, Any]:
    return {
        name: _count(name, value, parse_bytes if name == "memory" else parse_count) for name, value in given.items()
    }


def _numbers(**values: Any) -> dict[str, Any]:
    return {name: _number(name, value) for name, value in values.items()}


def _whole(name: str, value: Count) -> int:
    found = _count(name, value)
    if found is None or found != int(found):
        raise UsageError(f"{name} is {value!r}; a whole number is needed.")
    return int(found)


def _widths(bits: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if bits is None:
        return None
    given = bits.split(",") if isinstance(bits, str) else bits if isinstance(bits, Iterable) else [bits]
    return tuple(_number("bits", width) for width in given)
